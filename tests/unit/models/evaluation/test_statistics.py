"""How sure a figure is: intervals that cover, tests that neither cry wolf nor miss a plain difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.statistics import holm, macro_f1_estimate, mcnemar, mean_estimate, paired
from models.training.calibration import macro_f1


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        estimate = mean_estimate(rng.random(60) < 0.7, repeats=200, seed=trial)
        covered += estimate.low <= 0.7 <= estimate.high
    assert 0.88 <= covered / 200 <= 0.99


def test_groups_that_agree_among_themselves_widen_the_interval() -> None:
    person = np.repeat(np.arange(20), 30)
    right = (np.random.default_rng(1).random(20) < 0.5)[person]
    alone, grouped = mean_estimate(right), mean_estimate(right, person)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_macro_f1_is_the_one_that_training_reports() -> None:
    rng = np.random.default_rng(2)
    wanted, said = rng.integers(0, 5, 300), rng.integers(0, 6, 300)
    estimate = macro_f1_estimate(said.astype(str), wanted.astype(str), repeats=50)
    assert estimate.value == pytest.approx(macro_f1(said, wanted))
    assert estimate.low < estimate.value < estimate.high


def test_a_plain_difference_is_found_and_noise_is_not() -> None:
    rng = np.random.default_rng(3)
    a = rng.random(400)
    better = paired(a + 0.1 + rng.normal(0, 0.2, 400), a)
    assert better.p < 0.01
    assert better.low > 0
    assert better.difference == pytest.approx(0.1, abs=0.04)
    same = [paired(a + rng.normal(0, 0.2, 400), a, repeats=200, seed=i).p for i in range(100)]
    assert np.mean(np.array(same) < 0.05) < 0.15


def test_one_person_with_many_samples_is_no_evidence() -> None:
    gain = np.concatenate([np.full(500, 1.0), np.zeros(9)])
    person = np.concatenate([np.zeros(500), np.arange(1, 10)])
    assert paired(gain, np.zeros(509), person).p > 0.5
    assert paired(gain, np.zeros(509)).p < 0.01


def test_mcnemar_looks_only_at_what_one_alone_got_right() -> None:
    agreed = [True] * 1000
    assert mcnemar([*agreed, *[True] * 9, False], [*agreed, *[False] * 9, True]) == pytest.approx(22 / 1024)
    assert mcnemar(agreed, agreed) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_corrected_p_values_keep_their_order_and_never_shrink(p_values: list[float]) -> None:
    corrected = np.array(holm(p_values))
    order = np.argsort(p_values, kind="stable")
    assert (corrected >= np.array(p_values)).all()
    assert (corrected <= 1).all()
    assert (np.diff(corrected[order]) >= 0).all()


def test_nothing_at_all_has_no_figure() -> None:
    assert np.isnan(mean_estimate([]).value)
    assert np.isnan(macro_f1_estimate([], []).value)

"""Drift: what moved is told from what only looks so, and nothing unusable takes part."""

from __future__ import annotations

import numpy as np
import pytest

from features.report.vector_drift import FEWEST, measure_drift

RNG = np.random.default_rng(3)


def cloud(n: int, centre: int, spread: float = 0.3) -> np.ndarray:
    vectors = RNG.normal(0, spread, (n, 64))
    vectors[:, centre] += 1
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_vectors_of_one_source_stay_and_of_another_move() -> None:
    before = cloud(300, 0)
    same, other = measure_drift(before, cloud(200, 0)), measure_drift(before, cloud(200, 1))
    assert same is not None
    assert other is not None
    assert not same.moved
    assert same.shift < 0.02
    assert other.moved
    assert other.shift > 0.9
    assert (other.before, other.after, other.churn) == (300, 200, None)


def test_the_shift_is_the_cosine_distance_of_the_means() -> None:
    before, after = cloud(50, 0), cloud(50, 1)
    drift = measure_drift(before, after)
    assert drift is not None
    a, b = (v.astype(float).mean(axis=0) for v in (before, after))
    assert drift.shift == pytest.approx(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert drift.focus_before == pytest.approx(np.linalg.norm(a), abs=1e-6)


def test_the_length_of_vectors_shows_a_damaged_encoder() -> None:
    drift = measure_drift(cloud(30, 0), 2 * cloud(30, 0))
    assert drift is not None
    assert (round(drift.norm_before, 3), round(drift.norm_after, 3)) == (1, 2)
    assert not drift.moved


def test_neighbours_stay_where_users_only_turn_together_and_change_where_they_mix() -> None:
    before = cloud(600, 0)
    turned = before @ np.linalg.qr(RNG.normal(size=(64, 64)))[0].astype(np.float32)
    same = measure_drift(before, before, paired=True)
    assert same is not None
    assert same.churn == 0
    alike = measure_drift(before, turned, paired=True)
    assert alike is not None
    assert alike.churn is not None
    assert alike.churn < 0.01
    mixed = measure_drift(before, before[RNG.permutation(600)], paired=True)
    assert mixed is not None
    assert mixed.churn is not None
    assert mixed.churn > 0.9
    assert not mixed.moved


def test_churn_is_that_of_a_plain_count() -> None:
    before, after = cloud(40, 0), cloud(40, 0)
    drift = measure_drift(before, after, paired=True)

    def nearest(vectors: np.ndarray, user: int) -> set[int]:
        order = np.argsort(-(vectors @ vectors[user]))
        return set(order[order != user][:10].tolist())

    lost = [len(nearest(before, u) - nearest(after, u)) / 10 for u in range(40)]
    assert drift is not None
    assert drift.churn == pytest.approx(np.mean(lost))


def test_vectors_that_stand_for_nothing_are_left_out_and_pairs_stay_pairs() -> None:
    before, after = cloud(40, 0), cloud(40, 0)
    before[0], after[1], after[2, 5] = 0, np.nan, np.inf
    drift = measure_drift(before, after, paired=True)
    assert drift is not None
    assert (drift.before, drift.after) == (37, 37)
    alone = measure_drift(before, after)
    assert alone is not None
    assert (alone.before, alone.after) == (39, 38)


def test_too_few_vectors_are_no_figure() -> None:
    assert measure_drift(cloud(FEWEST - 1, 0), cloud(50, 0)) is None
    assert measure_drift(np.zeros((0, 64), np.float32), np.zeros((0, 64), np.float32)) is None
    assert measure_drift(cloud(FEWEST, 0), cloud(FEWEST, 0), paired=True) is not None


def test_vectors_that_cancel_out_have_no_direction_and_no_shift() -> None:
    half = cloud(20, 0)
    drift = measure_drift(np.concatenate([half, -half]), cloud(40, 0))
    assert drift is not None
    assert drift.shift == 0

"""Decay: exact moves along the grid, times at the ends of their range, many writes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.fold.decayed_sums import decay, grid, group_sums, newest_two, rescaled
from features.fold.fold import fold, fusion_inputs
from features.fold.outcome import Outcome, foldable
from features.schema import EVENT_TIME_MAX_US, EVENT_TIME_MIN_US, HALF_LIVES_S, NO_TAG, Kind, Modality
from tests.unit.features.builders import (
    DAY_US,
    NOW_US,
    POLICY,
    At,
    assert_same,
    event,
    folded,
    nobody,
)

TIMES_US = st.integers(EVENT_TIME_MIN_US, EVENT_TIME_MAX_US)


@given(TIMES_US)
def test_a_grid_point_is_the_first_at_or_after_its_time(time_us: int) -> None:
    steps = np.array(HALF_LIVES_S) * 1_000_000
    index = grid(np.array(time_us), HALF_LIVES_S)
    assert (index * steps >= time_us).all()
    assert ((index - 1) * steps < time_us).all()


@given(st.floats(2**-60, 2**20, width=32), st.integers(-60, 0))
def test_moving_a_sum_along_the_grid_loses_no_bit(value: float, shift: int) -> None:
    moved = rescaled(np.array(value, np.float32), np.array(shift))
    assert moved == np.float32(moved)
    assert np.ldexp(moved, -shift) == np.float32(value)


@given(TIMES_US, st.integers(0, 50))
def test_an_event_weighs_the_same_however_often_the_grid_moved_since(time_us: int, points: int) -> None:
    time = np.array(time_us)
    index = grid(time, HALF_LIVES_S)
    at_once = decay(time, index + points, HALF_LIVES_S)
    np.testing.assert_allclose(
        rescaled(decay(time, index, HALF_LIVES_S), np.array(-points)), at_once, rtol=1e-12
    )


def test_a_half_life_later_an_event_weighs_half() -> None:
    old, new = (event(At(0, 1, 0, o, key=o + 1), modality=0) for o in range(2))
    old["event_time_us"], new["event_time_us"] = NOW_US, NOW_US + HALF_LIVES_S[0] * 1_000_000
    states = fold(nobody(1), np.zeros(2, np.int64), np.array([old, new]), POLICY, NOW_US).states
    weight = states.head["modality"]["weight"][0, 0, 0]
    alone = fold(nobody(1), np.zeros(1, np.int64), np.array([new]), POLICY, NOW_US).states
    assert weight == pytest.approx(1.5 * alone.head["modality"]["weight"][0, 0, 0], rel=1e-6)


@given(st.permutations([EVENT_TIME_MIN_US, 10**15, NOW_US, NOW_US + 1, EVENT_TIME_MAX_US]))
def test_times_ages_apart_fold_alike_in_any_order(times_us: list[int]) -> None:
    events = np.array([event(At(0, 1, 0, t % 97, key=t), event_time_us=t, modality=0) for t in times_us])
    one_by_one = nobody(1)
    for item in events:
        one_by_one = fold(one_by_one, np.zeros(1, np.int64), item[None], POLICY, NOW_US).states
    at_once = fold(nobody(1), np.zeros(len(events), np.int64), events, POLICY, NOW_US).states
    assert_same(one_by_one, at_once)
    assert one_by_one.head["first_event_us"].tolist() == [EVENT_TIME_MIN_US]
    assert one_by_one.head["last_event_us"].tolist() == [EVENT_TIME_MAX_US]
    assert np.isfinite(one_by_one.head["modality"]["sum"]).all()


def test_two_thousand_single_writes_stay_within_the_stated_tolerance() -> None:
    events = np.array([event(At(0, 1, 0, offset, key=offset % 20 + 1)) for offset in range(2_000)])
    events["event_key"] = np.arange(len(events)) + 1
    user, one_by_one = np.zeros(1, np.int64), nobody(1)
    for item in events:
        one_by_one = fold(one_by_one, user, item[None], POLICY, NOW_US).states
    at_once = fold(nobody(1), np.zeros(len(events), np.int64), events, POLICY, NOW_US).states
    assert_same(one_by_one, at_once)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_group_sums_are_those_of_reduceat(sizes: list[int]) -> None:
    values = np.random.default_rng(sum(sizes)).normal(size=(sum(sizes), 3))
    first = np.cumsum([0, *sizes[:-1]])
    np.testing.assert_allclose(group_sums(values, first), np.add.reduceat(values, first))


PAIRS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), max_size=4, unique=True)


@given(PAIRS, st.integers(0, 4))
def test_the_newest_two_of_two_halves_are_those_of_the_whole(pairs: list[tuple[int, int]], cut: int) -> None:
    def two(part: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        best = [*sorted(part, reverse=True)[:2], (0, 0), (0, 0)][:2]
        return np.array([p[0] for p in best]), np.array([p[1] for p in best])

    us, key = newest_two(*two(pairs[:cut]), *two(pairs[cut:]))
    np.testing.assert_array_equal((us, key), two(pairs))


def test_newest_is_the_later_event_and_among_simultaneous_ones_the_greater_key() -> None:
    events = np.array([event(At(0, 1, 0, k, key=k), event_time_us=NOW_US, modality=0) for k in (3, 9, 5)])
    states = fold(nobody(1), np.zeros(3, np.int64), events, POLICY, NOW_US).states
    assert states.head["modality"]["newest_key"][0, 0] == 9
    np.testing.assert_array_equal(states.head["modality"]["newest"][0, 0], events["embedding"][1])


def test_fusion_reads_what_each_modality_adds_and_zeros_elsewhere() -> None:
    text, old_text, image = (
        event(At(0, 1, 0, k, key=k), modality=m)
        for k, m in ((1, Modality.TEXT), (2, Modality.TEXT), (3, Modality.IMAGE))
    )
    text["event_time_us"], old_text["event_time_us"] = NOW_US, NOW_US - 30 * DAY_US
    image["event_time_us"] = NOW_US - 20 * DAY_US
    events = np.array([text, old_text, image])
    states = fold(nobody(2), np.zeros(3, np.int64), events, POLICY, NOW_US).states
    parts, mask = fusion_inputs(states, POLICY)
    assert parts.shape == (2, 4, 3, 64)
    assert parts.dtype == np.float32
    assert mask.tolist() == [[True, True, False, False], [False] * 4]
    assert not parts[1].any()
    assert not parts[0, 2:].any()
    vectors = events["embedding"].astype(np.float64)
    for h, half_life_days in enumerate((10, 40)):
        weight = 0.5 ** (np.array([0, 30, 20]) / half_life_days)
        mean = weight[:, None] * vectors / weight.sum()
        np.testing.assert_allclose(parts[0, Modality.TEXT, h], mean[0] + mean[1], atol=1e-6)
        np.testing.assert_allclose(parts[0, Modality.IMAGE, h], mean[2], atol=1e-6)
    np.testing.assert_allclose(parts[0, Modality.TEXT, 2], vectors[0], atol=1e-6)
    np.testing.assert_allclose(parts[0, Modality.IMAGE, 2], vectors[2] / 4, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_time_us": 0}, {"event_time_us": EVENT_TIME_MAX_US + 1}, {"offset": -1}, {"modality": 4},
        {"lang": 4}, {"kind": 3}, {"tag": [64, NO_TAG, NO_TAG, NO_TAG]}, {"sentiment": 1.5},
        {"tag": [1, NO_TAG, NO_TAG, NO_TAG], "tag_score": [np.nan] * 4}, {"sentiment": np.inf},
        {"tag": [1, NO_TAG, NO_TAG, NO_TAG], "tag_score": [-0.5] * 4}, {"aspect_mask": 1 << 12},
        {"embedding": np.nan}, {"embedding": -np.inf}, {"embedding": 1.25}, {"aspect_sentiment": 2},
    ],
    ids=lambda wrong: "-".join(wrong),
)  # fmt: skip
def test_numbers_that_no_encoder_gives_never_reach_a_state(wrong: dict[str, object]) -> None:
    good, bad = event(At(0, 1, 0, 5, key=7)), event(At(0, 1, 0, 6, key=8), **wrong)
    result = fold(nobody(1), np.zeros(2, np.int64), np.array([good, bad]), POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.APPLIED, Outcome.INVALID]
    assert_same(result.states, folded(nobody(1), [At(0, 1, 0, 5, key=7)]))
    assert fold(nobody(1), np.zeros(1, np.int64), bad[None], POLICY, NOW_US).unchanged.all()


def test_what_is_unused_in_an_event_may_hold_anything() -> None:
    item = event(At(0, 1, 0, 5, key=7), tag=NO_TAG, tag_score=np.nan, sentiment=np.nan)
    assert foldable(item[None]).all()
    control = event(At(0, 1, 0, 5, key=7, kind=Kind.ERASE), embedding=np.nan, lang=200)
    assert foldable(control[None]).all()


def test_a_tag_named_twice_by_one_event_counts_once() -> None:
    tags = {"tag": [3, 3, NO_TAG, 3], "tag_score": [0.5, 0.9, 0.0, 0.9]}
    item = event(At(0, 1, 0, 5, key=7), modality=0, **tags)
    once = event(At(0, 1, 0, 5, key=7), modality=0, tag=[3, 255, 255, 255], tag_score=[0.5, 0, 0, 0])
    sums = [
        fold(nobody(1), np.zeros(1, np.int64), e[None], POLICY, NOW_US).states.head["tag"].tobytes()
        for e in (item, once)
    ]
    assert sums[0] == sums[1]

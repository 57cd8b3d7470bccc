"""The window's bounds: floors, the cap on entries, extreme offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold
from features.fold.outcome import Outcome
from features.fold.packed_state import States
from tests.unit.features.builders import (
    NOW_US,
    POLICY,
    At,
    assert_same,
    assert_same_window,
    batch,
    event,
    folded,
    nobody,
)


def row(partition: int, offset: int) -> At:
    return At(0, 1, partition, offset, key=partition * 10_000 + offset + 1)


def held(states: States, partition: int) -> list[int]:
    source = np.flatnonzero(states.sources["partition"] == partition)[0]
    return list(states.window["offset"][states.window["source"] == source])


def test_the_floor_follows_the_top_at_the_windows_width() -> None:
    states = folded(nobody(1), [row(0, 5), row(0, 100)], policy=FoldPolicy(window_offsets=10))
    assert states.sources[["floor", "top"]].tolist() == [(90, 100)]
    assert held(states, 0) == [100]


def test_a_record_at_the_floor_counts_as_seen_and_one_above_it_is_new() -> None:
    policy = FoldPolicy(window_offsets=10)
    states = folded(nobody(1), [row(0, 100)], policy=policy)
    result = fold(states, *batch([row(0, 90), row(0, 91)]), policy, NOW_US)
    assert result.outcome.tolist() == [Outcome.BELOW_FLOOR, Outcome.APPLIED]
    assert (result.outcome == Outcome.BELOW_FLOOR).sum() == 1


def test_the_cap_gives_up_the_lowest_offsets_of_the_fullest_partitions() -> None:
    policy = FoldPolicy(window_entries=6)
    records = [row(0, offset) for offset in range(10)] + [row(1, 7)] + [row(2, o) for o in range(100, 104)]
    result = fold(nobody(1), *batch(records), policy, NOW_US)
    states = result.states
    assert [held(states, p) for p in range(3)] == [[7, 8, 9], [7], [102, 103]]
    assert states.sources["floor"].tolist() == [6, -1, 101]
    assert result.shortened == 9
    assert (result.outcome == Outcome.APPLIED).sum() == 15
    replay = fold(states, *batch(records), policy, NOW_US)
    assert replay.unchanged.all()


def test_the_cap_of_one_user_shortens_no_other() -> None:
    policy = FoldPolicy(window_entries=3)
    other = [At(1, 1, 0, 50 + i, key=70_000 + i) for i in range(3)]
    states = folded(nobody(2), [*(row(0, o) for o in range(8)), *other], policy=policy)
    assert np.diff(states.window_start).tolist() == [3, 3]
    assert states.window["offset"].tolist() == [5, 6, 7, 50, 51, 52]


@given(
    st.lists(st.integers(0, 2), min_size=10, max_size=60),
    st.integers(1, 12),
    st.integers(1, 7),
)
def test_a_shortened_window_does_not_depend_on_the_batches(
    partitions: list[int], cap: int, batch_size: int
) -> None:
    policy = FoldPolicy(window_entries=cap)
    stream = [row(partition, offset) for offset, partition in enumerate(partitions)]
    batches = [stream[i : i + batch_size] for i in range(0, len(stream), batch_size)]
    assert_same(folded(nobody(1), *batches, policy=policy), folded(nobody(1), stream, policy=policy))


def test_offsets_at_the_ends_of_their_range_are_told_apart() -> None:
    offsets = [0, 1, 2**40, 2**62, 2**63 - 2, 2**63 - 1]
    records = [At(0, 1, 0, offset, key=place + 1) for place, offset in enumerate(offsets)]
    result = fold(nobody(1), *batch(records), POLICY, NOW_US)
    assert (result.outcome == Outcome.APPLIED).sum() == 6
    assert held(result.states, 0) == offsets[-2:]
    replay = fold(result.states, *batch(records), POLICY, NOW_US)
    assert replay.outcome.tolist() == [Outcome.BELOW_FLOOR] * 4 + [Outcome.SEEN] * 2


def test_keys_at_the_ends_of_their_range_are_told_apart() -> None:
    events = np.array([event(row(0, 0)), event(row(0, 1))])
    events["event_key"] = 2**64 - 1, 2**64 - 2**16 - 1  # the same low bits
    events["topic_key"], events["partition"] = 2**64 - 1, 2**32 - 1
    result = fold(nobody(1), np.zeros(2, np.int64), events, POLICY, NOW_US)
    assert (result.outcome == Outcome.APPLIED).sum() == 2
    assert result.states.sources[["topic_key", "partition"]].tolist() == [(2**64 - 1, 2**32 - 1)]


def test_windows_depend_on_what_was_met_and_not_on_the_way_there() -> None:
    records = [row(p, o) for p in range(3) for o in range(0, 30, p + 1)]
    assert_same_window(folded(nobody(1), *([r] for r in reversed(records))), folded(nobody(1), records))


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_offsets": 0},
        {"window_offsets": 1 << 36},
        {"window_entries": 0},
        {"half_lives_s": (0, 1)},
        {"half_lives_s": (1, 2, 3)},
    ],
)
def test_a_policy_that_cannot_work_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        FoldPolicy(**wrong)

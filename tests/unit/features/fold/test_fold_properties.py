"""Order, duplication, batching and replay leave no trace in a state."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold
from features.fold.outcome import Outcome
from features.fold.packed_state import pack
from tests.unit.features.builders import (
    NOW_US,
    POLICY,
    At,
    assert_same,
    batch,
    event,
    folded,
    nobody,
    record_lists,
    splits,
)


@given(record_lists(keys=20), st.data())
def test_any_order_and_any_split_give_the_same_state(records: list[At], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(records))
    assert_same(folded(nobody(), *data.draw(splits(shuffled))), folded(nobody(), records))


@given(record_lists(), st.permutations(range(40)))
def test_the_order_within_a_batch_changes_no_bit(records: list[At], order: list[int]) -> None:
    shuffled = [records[i] for i in order if i < len(records)]
    assert pack(folded(nobody(), shuffled)) == pack(folded(nobody(), records))


@given(st.lists(st.integers(0, 9), min_size=40, max_size=40), st.integers(1, 7), st.data())
def test_records_displaced_within_the_window_are_all_applied_once(
    delays: list[int], batch_size: int, data: st.DataObject
) -> None:
    policy = FoldPolicy(window_offsets=10)
    stream = [At(0, 1, offset % 2, offset // 2, offset + 1) for offset in range(80)]
    arrival = sorted(stream, key=lambda r: r.offset + delays[r.offset])
    batches = [arrival[i : i + batch_size] for i in range(0, len(arrival), batch_size)]
    assert_same(folded(nobody(1), *batches, policy=policy), folded(nobody(1), stream, policy=policy))


@given(record_lists(), st.data())
def test_duplicated_records_count_once(records: list[At], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(records), max_size=20)) if records else []
    noisy = data.draw(st.permutations(records + again))
    assert_same(folded(nobody(), *data.draw(splits(noisy))), folded(nobody(), records))


@given(record_lists(keys=20), st.sampled_from((3, 10**6)))
def test_a_replay_of_everything_changes_nothing(records: list[At], window_offsets: int) -> None:
    policy = FoldPolicy(window_offsets=window_offsets)
    states = folded(nobody(), records, policy=policy)
    replayed = fold(states, *batch(records), policy, NOW_US)
    assert pack(replayed.states) == pack(states)
    assert replayed.unchanged.all()
    assert set(replayed.outcome) <= {Outcome.SEEN, Outcome.BELOW_FLOOR}


@given(record_lists(users=3))
def test_users_folded_together_are_as_if_each_were_folded_alone(records: list[At]) -> None:
    alone = [folded(nobody(1), [r._replace(user=0) for r in records if r.user == user]) for user in range(3)]
    assert pack(folded(nobody(3), records)) == [pack(states)[0] for states in alone]


def test_a_producers_second_send_of_an_id_is_a_duplicate_whose_position_is_remembered() -> None:
    states = folded(nobody(1), [At(0, 1, 0, 5, key=7)])
    again = fold(states, *batch([At(0, 2, 3, 9, key=7)]), POLICY, NOW_US)
    assert again.outcome.tolist() == [Outcome.DUPLICATE]
    assert again.states.head["version"].tolist() == [1]
    assert again.states.window["offset"].tolist() == [5, 9]
    assert not again.unchanged.any()
    replay = fold(again.states, *batch([At(0, 2, 3, 9, key=7)]), POLICY, NOW_US)
    assert replay.outcome.tolist() == [Outcome.SEEN]


def test_one_id_twice_in_a_batch_is_applied_once() -> None:
    result = fold(nobody(1), *batch([At(0, 2, 0, 1, key=7), At(0, 1, 0, 9, key=7)]), POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.DUPLICATE, Outcome.APPLIED]  # the lower topic key stays


def test_the_same_id_with_other_content_is_a_conflict_and_is_not_applied() -> None:
    states = folded(nobody(1), [At(0, 1, 0, 5, key=7)])
    other = np.array([event(At(0, 1, 0, 6, key=7), content_key=1)])
    result = fold(states, np.array([0]), other, POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.CONFLICT]
    assert (result.outcome == Outcome.CONFLICT).sum() == 1
    assert result.states.head["version"].tolist() == [1]


def test_the_same_id_of_two_users_is_two_events() -> None:
    result = fold(nobody(2), *batch([At(0, 1, 0, 5, key=7), At(1, 1, 0, 6, key=7)]), POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.APPLIED, Outcome.APPLIED]


def test_a_second_send_to_each_of_two_users_under_one_id_is_known_to_both() -> None:
    first = [At(user, 1, 0, user, key=7) for user in range(2)]
    again = [r._replace(offset=r.offset + 10) for r in first]
    result = fold(folded(nobody(2), first), *batch(again), POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.DUPLICATE, Outcome.DUPLICATE]


def test_a_recreated_topic_loses_nothing() -> None:
    before = [At(0, 1, 0, offset, key=offset + 1) for offset in range(20)]
    after = [At(0, 2, 0, offset, key=offset + 101) for offset in range(20)]  # the same name, another topic id
    states = folded(nobody(1), before, after, policy=FoldPolicy(window_offsets=5))
    assert states.head["version"].tolist() == [40]


def test_fold_leaves_its_input_as_it_was() -> None:
    states = folded(nobody(2), [At(0, 1, 0, 5, key=7), At(1, 1, 0, 6, key=8)])
    before = pack(states)
    users, events = batch([At(0, 1, 0, 7, key=9), At(0, 99, 0, 1, key=10, kind=1)])
    events_before = events.tobytes()
    fold(states, users, events, POLICY, NOW_US)
    assert pack(states) == before
    assert events.tobytes() == events_before


def test_only_users_with_news_get_a_new_revision_and_a_later_creation_time() -> None:
    states = folded(nobody(3), [At(0, 1, 0, 5, key=7), At(1, 1, 0, 6, key=8)], now_us=NOW_US)
    result = fold(states, *batch([At(0, 1, 0, 5, key=7), At(1, 1, 0, 9, key=9)]), POLICY, NOW_US - 50)
    assert result.unchanged.tolist() == [True, False, True]
    assert result.states.head["revision"].tolist() == [1, 2, 0]
    assert result.states.head["created_us"].tolist() == [NOW_US, NOW_US + 1, 0]  # the clock went back


def test_an_empty_batch_is_no_news() -> None:
    states = folded(nobody(2), [At(0, 1, 0, 5, key=7)])
    result = fold(states, *batch([]), POLICY, NOW_US)
    assert pack(result.states) == pack(states)
    assert result.unchanged.all()
    assert (result.outcome.tolist(), result.shortened) == ([], 0)

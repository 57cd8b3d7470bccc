"""Erase and re-admission: what goes, what is kept to refuse replays, and what comes after."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.fold.decayed_sums import CONTENT_FIELDS
from features.fold.fold import FoldPolicy, fold
from features.fold.outcome import Outcome
from features.fold.packed_state import States, pack
from features.schema import Kind
from tests.unit.features.builders import CONTROLS, NOW_US, POLICY, At, assert_same, batch, folded, nobody

CONTENTS = [At(0, 1, 0, offset, key=offset + 1) for offset in range(10)]
LATER = [At(0, 1, 0, offset, key=offset + 1) for offset in range(10, 15)]


def erase(offset: int) -> At:
    return At(0, CONTROLS, 0, offset, 900 + offset, Kind.ERASE)


def readmit(offset: int) -> At:
    return At(0, CONTROLS, 0, offset, 900 + offset, Kind.READMIT)


def outcomes(states: States, *records: At) -> list[Outcome]:
    return [Outcome(o) for o in fold(states, *batch(records), POLICY, NOW_US).outcome]


def assert_no_content(states: States) -> None:
    for name in CONTENT_FIELDS:
        assert states.head[name].tobytes().strip(b"\0") == b"", name
    assert not (states.window["kind"] == Kind.CONTENT).any()


def test_an_erased_user_holds_nothing_personal() -> None:
    erased = folded(nobody(1), CONTENTS, [erase(3)])
    assert_no_content(erased)
    assert erased.erased.tolist() == [True]
    assert erased.head["revision"].tolist() == [2]
    assert erased.window["event_key"].tolist() == [903]  # the control's own id, to know a second send


def test_no_id_of_an_erased_content_is_left_in_the_record() -> None:
    (record,) = pack(folded(nobody(1), [At(0, 1, 0, 5, key=0x1122334455667788)], [erase(0)]))
    assert (0x1122334455667788).to_bytes(8, "little") not in record


def test_an_unknown_user_can_be_erased_beforehand() -> None:
    erased = folded(nobody(1), [erase(0)])
    assert erased.erased.tolist() == [True]
    assert outcomes(erased, *CONTENTS) == [Outcome.ABSORBED] * 10


def test_contents_of_an_erased_user_are_absorbed_and_noted_as_gone() -> None:
    erased = folded(nobody(1), CONTENTS, [erase(0)])
    result = fold(erased, *batch(LATER), POLICY, NOW_US)
    assert (result.outcome == Outcome.ABSORBED).sum() == 5
    assert not result.unchanged.any()
    assert_no_content(result.states)
    again = fold(result.states, *batch(CONTENTS + LATER), POLICY, NOW_US)
    assert (again.outcome == Outcome.ABSORBED).sum() == 15
    assert again.unchanged.all()


def test_readmission_starts_a_new_incarnation_with_an_empty_profile() -> None:
    states = folded(nobody(1), CONTENTS, [erase(0)], [readmit(1)])
    assert_no_content(states)
    assert states.erased.tolist() == [False]
    assert states.head["incarnation"].tolist() == [1]
    assert outcomes(states, *LATER) == [Outcome.APPLIED] * 5


def test_records_from_before_the_erase_stay_gone_after_a_readmission() -> None:
    states = folded(nobody(1), CONTENTS, [erase(0)], LATER, [readmit(1)])
    replay = fold(states, *batch(CONTENTS + LATER), POLICY, NOW_US)
    assert (replay.outcome == Outcome.ABSORBED).sum() == 15  # not SEEN: no event row may be written of them
    assert replay.unchanged.all()


def test_an_erase_replayed_after_a_readmission_erases_nothing() -> None:
    states = folded(nobody(1), CONTENTS, [erase(0)], [readmit(1)], LATER)
    replay = fold(states, *batch([erase(0), readmit(1)]), POLICY, NOW_US)
    assert replay.states.head["version"].tolist() == [15]
    assert set(replay.outcome) == {Outcome.SEEN}
    assert replay.unchanged.all()


def test_an_erase_sent_twice_by_its_producer_erases_once() -> None:
    states = folded(nobody(1), [erase(0)], [readmit(1)], LATER)
    twice = fold(states, *batch([erase(0)._replace(offset=2)]), POLICY, NOW_US)
    assert twice.outcome.tolist() == [Outcome.DUPLICATE]
    assert twice.states.erased.tolist() == [False]
    assert twice.states.head["modality"]["count"].sum() == 5


def test_an_erase_replayed_from_below_the_window_erases_nothing() -> None:
    policy = FoldPolicy(window_offsets=2)
    states = folded(nobody(1), [erase(0)], [readmit(1)], [readmit(50)], LATER, policy=policy)
    replay = fold(states, *batch([erase(0)]), policy, NOW_US)
    assert replay.outcome.tolist() == [Outcome.BELOW_FLOOR]
    assert replay.states.head["modality"]["count"].sum() == 5


def test_controls_come_before_the_contents_of_their_batch() -> None:
    assert folded(nobody(1), [*CONTENTS, erase(0)]).head["version"].tolist() == [0]
    both = folded(nobody(1), [*CONTENTS, readmit(1), erase(0)])
    assert both.head["version"].tolist() == [10]
    assert both.head["incarnation"].tolist() == [1]


def test_an_erased_id_that_comes_again_after_a_readmission_in_one_batch_is_new() -> None:
    states = folded(nobody(1), CONTENTS)
    resent = CONTENTS[3]._replace(offset=20)
    result = fold(states, *batch([erase(0), readmit(1), resent]), POLICY, NOW_US)
    assert result.outcome.tolist() == [Outcome.CONTROL, Outcome.CONTROL, Outcome.APPLIED]


def test_an_erase_that_comes_late_still_erases() -> None:
    states = folded(nobody(1), [readmit(5)], CONTENTS)
    late = fold(states, *batch([erase(2), erase(3)]), POLICY, NOW_US)
    assert late.outcome.tolist() == [Outcome.CONTROL, Outcome.BELOW_FLOOR]
    assert_no_content(late.states)


def test_readmitting_a_user_who_was_never_erased_keeps_the_profile() -> None:
    states = folded(nobody(1), CONTENTS, [readmit(0)])
    assert states.head["incarnation"].tolist() == [0]
    assert states.head["modality"]["count"].sum() == 10


def test_erasing_one_user_leaves_the_others_alone() -> None:
    other = [r._replace(user=1, key=r.key + 100) for r in CONTENTS]
    erased = folded(nobody(2), CONTENTS + other, [erase(0)])
    alone = folded(nobody(2), other)
    assert pack(erased)[1] == pack(alone)[1]


def test_a_control_counts_whatever_its_content_fields_hold() -> None:
    users, events = batch([erase(0)])
    events["event_time_us"], events["modality"], events["embedding"] = 0, 200, np.nan
    assert fold(nobody(1), users, events, POLICY, NOW_US).states.erased.tolist() == [True]


@given(
    st.lists(st.sampled_from((Kind.ERASE, Kind.READMIT)), max_size=6),
    st.lists(st.integers(0, 6), max_size=6),
)
def test_replaying_all_controls_in_any_batches_changes_nothing(kinds: list[Kind], cuts: list[int]) -> None:
    controls = [erase(i) if kind == Kind.ERASE else readmit(i) for i, kind in enumerate(kinds)]
    bounds = [0, *sorted(min(c, len(controls)) for c in cuts), len(controls)]
    batches = [controls[a:b] for a, b in pairwise(bounds)]
    one_by_one = folded(nobody(1), CONTENTS, *([c] for c in controls))
    states = folded(nobody(1), CONTENTS, *batches)
    assert_same(states, one_by_one)
    replay = fold(states, *batch(controls), POLICY, NOW_US)
    assert pack(replay.states) == pack(states)

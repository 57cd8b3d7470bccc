"""What an erase leaves of states, and what an erased user's state says of her."""

from __future__ import annotations

import numpy as np
import pytest

from features.fold.decayed_sums import CONTENT_FIELDS
from features.fold.fold import fold
from features.fold.outcome import Outcome
from features.fold.packed_state import Spaces, pack
from features.online.erased_users import ended, marks, read_erased, read_marks, renamed
from features.schema import Kind
from tests.unit.features.builders import CONTROLS, NOW_US, POLICY, At, assert_same, batch, folded, nobody

OLD = [At(0, 1, 0, offset, key=offset + 1) for offset in range(6)]
NEW = [At(0, 1, 0, offset, key=offset + 1) for offset in range(6, 9)]
ERASE = At(0, CONTROLS, 2, 3, 900, Kind.ERASE)
READMIT = At(0, CONTROLS, 2, 5, 901, Kind.READMIT)


def test_a_tombstone_says_when_and_by_which_record() -> None:
    (record,) = pack(folded(nobody(1), OLD, [ERASE]))
    found = read_erased("ann", record)
    assert (found.user_id, found.readmitted, found.incarnation) == ("ann", False, 0)
    assert found.erase == (CONTROLS, 2, 3)
    assert found.gone[(1, 0)] == 5
    assert found.at.timestamp() * 1e6 == NOW_US + 1


def test_a_readmitted_user_says_which_offsets_are_gone() -> None:
    (record,) = pack(folded(nobody(1), OLD, [ERASE], [READMIT], NEW))
    found = read_erased("ann", record)
    assert (found.readmitted, found.incarnation, found.gone[(1, 0)]) == (True, 1, 5)
    everything, some = ended([found])
    assert (everything, list(some)) == (frozenset(), ["ann"])


def test_the_marks_of_a_state_hold_no_content_and_refuse_what_was_erased() -> None:
    states = folded(nobody(1), OLD, [ERASE], [READMIT], NEW)
    left = marks(states)
    for name in CONTENT_FIELDS:
        assert left.head[name].tobytes().strip(b"\0") == b"", name
    result = fold(left, *batch([*OLD, *NEW, ERASE, READMIT]), POLICY, NOW_US)
    outcomes = [Outcome(o) for o in result.outcome]
    assert outcomes == [*[Outcome.ABSORBED] * 6, *[Outcome.APPLIED] * 3, Outcome.SEEN, Outcome.SEEN]


def test_events_folded_into_the_marks_give_the_state_again() -> None:
    states = folded(nobody(1), OLD, [ERASE], [READMIT], NEW)
    again = folded(marks(states), [*OLD, *NEW])
    assert again.head["version"].tolist() == states.head["version"].tolist() == [9]
    states.head["version"] = again.head["version"] = 0
    for name in ("newest_us", "count"):
        np.testing.assert_array_equal(again.head["modality"][name], states.head["modality"][name])
    np.testing.assert_allclose(again.head["modality"]["sum"], states.head["modality"]["sum"], rtol=1e-5)


def test_the_marks_of_a_user_never_erased_are_empty() -> None:
    states = folded(nobody(1), OLD)
    assert_same(folded(marks(states), OLD), states)


def test_an_erase_from_below_the_window_stays_without_effect_on_marks() -> None:
    states = folded(nobody(1), [ERASE], [READMIT], NEW)
    left = marks(states)
    early = ERASE._replace(offset=1, key=777)
    assert fold(left, *batch([early]), POLICY, NOW_US).outcome.tolist() == [Outcome.BELOW_FLOOR]


def test_marks_move_to_another_space_and_contents_do_not() -> None:
    other = Spaces(event=1, profile=2, taxonomy=3)
    states = folded(nobody(1), OLD, [ERASE])
    ((users, moved),) = read_marks([("ann", pack(states)[0])], other)
    assert users == ["ann"]
    assert moved.erased.tolist() == [True]
    assert moved.head["event_space"].tolist() == [1]
    assert (fold(moved, *batch(OLD), POLICY, NOW_US).outcome == Outcome.ABSORBED).sum() == 6
    with pytest.raises(ValueError, match="without content"):
        renamed(folded(nobody(1), OLD), other)

"""The bytes of a state: layout 1 for ever, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.packed_state import (
    LayoutError,
    RecordError,
    SpaceMismatchError,
    Spaces,
    StateError,
    States,
    pack,
    space_key,
    unpack,
)
from features.schema import (
    EVENT_DTYPE,
    HEAD_DTYPE,
    LAYOUT,
    NO_TAG,
    PREFIX_DTYPE,
    SOURCE_DTYPE,
    WINDOW_DTYPE,
    Kind,
    Modality,
)
from features.taxonomy import Category, Taxonomy
from tests.unit.features.builders import (
    NOW_US,
    POLICY,
    SPACES,
    At,
    batch,
    event,
    folded,
    nobody,
    record_lists,
)

GOLDEN = Path(__file__).with_name("golden")
T0 = 1_700_000_000_000_000
DAY_US = 86_400_000_000


def golden_states() -> States:
    """A user with two texts, a photo and one record sent twice, and a tombstone with an absorbed event."""
    events = np.zeros(6, EVENT_DTYPE)
    events["event_time_us"] = T0 + np.array([0, 20, 20, 0, 0, 0]) * DAY_US
    events["topic_key"], events["partition"] = [1, 1, 2, 2, 3, 1], [0, 0, 5, 5, 0, 0]
    events["offset"] = [10, 11, 7, 9, 1, 30]
    events["event_key"] = [0xA1, 0xA2, 0xA3, 0xA1, 0xE1, 0xA5]
    events["content_key"] = 0x1_0000_0007
    events["kind"] = [0, 0, 0, 0, Kind.ERASE, 0]
    events["modality"] = [Modality.TEXT, Modality.TEXT, Modality.IMAGE, Modality.TEXT, 0, 0]
    events["lang"] = [0, 1, 3, 0, 0, 0]
    events["tag"] = NO_TAG
    events["tag"][:3, 0] = [2, 2, 40]
    events["tag_score"][:3, 0] = [1.0, 0.5, 0.25]
    events["sentiment"] = [1.0, -0.5, np.nan, 1.0, 0, 0]
    events["aspect_mask"] = [0b11, 0b10, 0, 0b11, 0, 0]
    events["aspect_sentiment"][:2, :2] = [[1, -1], [0, -1]]
    events["embedding"][np.arange(6), [0, 1, 2, 0, 0, 0]] = 1
    return fold(nobody(2), np.array([0, 0, 0, 0, 1, 1]), events, POLICY, NOW_US).states


def golden_bytes() -> list[bytes]:
    return [(GOLDEN / name).read_bytes() for name in ("layout_1_user.bin", "layout_1_tombstone.bin")]


def test_the_golden_records_of_layout_1_are_read_back_to_their_values() -> None:
    states = unpack(golden_bytes(), SPACES)
    head = states.head[0]
    assert head[["flags", "incarnation", "revision", "version"]].tolist() == (0, 0, 1, 3)
    assert head[["created_us", "first_event_us", "last_event_us"]].tolist() == (NOW_US, T0, T0 + 20 * DAY_US)
    assert head[["event_space", "profile_space", "taxonomy"]].tolist() == (0xE, 0xF, 0x7)
    assert head["half_life_s"].tolist() == [864_000, 3_456_000]
    assert head["languages"].tolist() == [1, 1, 0, 1]
    assert head["modality"]["count"].tolist() == [2, 1, 0, 0]
    assert head["modality"]["newest_key"].tolist() == [0xA2, 0xA3, 0, 0]
    assert head["modality"]["newest"].argmax(axis=1).tolist() == [1, 2, 0, 0]
    np.testing.assert_allclose(head["modality"]["sum"][0, 0, :2], [0.18849, 0.75398], atol=1e-4)
    np.testing.assert_allclose(head["modality"]["weight"][0], [0.94247, 1.12483], atol=1e-4)
    assert np.flatnonzero(head["tag"]["evidence_us"][:, 0]).tolist() == [2, 40]
    assert head["tag"]["evidence_key"][2].tolist() == [0xA2, 0xA1]
    np.testing.assert_allclose(head["tag"]["weight"][2, 0], [0.56548, 0.79538], atol=1e-4)
    assert head["aspect"]["evidence_key"][:2].tolist() == [[0xA1, 0], [0xA2, 0xA1]]
    np.testing.assert_allclose(head["aspect"]["sentiment"][1], -head["aspect"]["weight"][1])
    assert states.sources.tolist() == [
        (1, -1, 11, -1, 0, 0), (2, -1, 9, -1, 5, 0), (1, 30, 30, 30, 0, 0), (3, 1, 1, 1, 0, 0),
    ]  # fmt: skip
    assert states.window.tolist() == [
        (10, 0xA1, 7, 0, 0), (11, 0xA2, 7, 0, 0), (7, 0xA3, 7, 1, 0), (9, 0xA1, 7, 1, 0), (1, 0xE1, 7, 1, 1),
    ]  # fmt: skip
    assert states.erased.tolist() == [False, True]


def test_the_same_events_still_give_the_golden_records() -> None:
    golden = unpack(golden_bytes(), SPACES)
    for name in ("sources", "window"):
        np.testing.assert_array_equal(getattr(golden_states(), name), getattr(golden, name))
    assert pack(golden) == golden_bytes()
    assert [len(r) for r in pack(golden_states())] == [len(r) for r in golden_bytes()]


def test_the_dtypes_of_layout_1_keep_their_sizes_and_places() -> None:
    sizes = [d.itemsize for d in (PREFIX_DTYPE, HEAD_DTYPE, SOURCE_DTYPE, WINDOW_DTYPE)]
    assert sizes == [40, 7616, 40, 24]
    assert HEAD_DTYPE.fields is not None
    assert {n: HEAD_DTYPE.fields[n][1] for n in ("modality", "tag", "aspect")} == {
        "modality": 128,
        "tag": 2944,
        "aspect": 7040,
    }


@given(record_lists())
def test_packing_and_unpacking_give_the_same_state(records: list[At]) -> None:
    states = folded(nobody(), records)
    again = unpack(pack(states), SPACES)
    assert again.head.tobytes() == states.head.tobytes()
    for name in ("sources", "source_start", "window", "window_start"):
        np.testing.assert_array_equal(getattr(again, name), getattr(states, name))


def test_absent_users_unpack_to_empty_states_between_others() -> None:
    one = pack(folded(nobody(1), [At(0, 1, 0, 5, key=7)]))[0]
    states = unpack([None, one, None], SPACES)
    assert states.head["revision"].tolist() == [0, 1, 0]
    assert states.window_start.tolist() == [0, 0, 1, 1]
    assert pack(states) == [pack(nobody(1))[0], one, pack(nobody(1))[0]]


def test_no_users_are_no_trouble() -> None:
    assert pack(unpack([], SPACES)) == []
    assert pack(unpack([None], SPACES)) == pack(nobody(1))


def test_blocks_of_zeros_are_not_stored() -> None:
    assert len(pack(nobody(1))[0]) == PREFIX_DTYPE.itemsize + 64
    assert len(golden_bytes()[0]) < HEAD_DTYPE.itemsize / 3


def test_an_unknown_layout_is_refused_by_name() -> None:
    record = golden_bytes()[0]
    with pytest.raises(LayoutError, match=f"expected layout {LAYOUT}, got 7"):
        unpack([(7).to_bytes(2, "little") + record[2:]], SPACES)


@given(st.integers(0, 1000))
def test_a_record_cut_short_is_refused_with_both_sizes(length: int) -> None:
    record = golden_bytes()[0]
    expected = len(record) if length >= PREFIX_DTYPE.itemsize else f"at least {PREFIX_DTYPE.itemsize}"
    with pytest.raises(RecordError, match=f"expected {expected} bytes, got {length}"):
        unpack([record, record[:length]], SPACES)


def test_a_record_with_a_tail_is_refused_with_both_sizes() -> None:
    record = golden_bytes()[0]
    with pytest.raises(RecordError, match=f"expected {len(record)} bytes, got {len(record) + 1}"):
        unpack([record + b"\0"], SPACES)


@given(st.integers(min_value=2), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(place: int, bit: int) -> None:
    record = bytearray(golden_bytes()[0])
    place = 4 + place % (len(record) - 4)
    record[place] ^= 1 << bit
    with pytest.raises(RecordError, match="expected"):
        unpack([bytes(record)], SPACES)


def test_a_state_of_another_event_space_is_refused_with_both_names_and_the_way_out() -> None:
    other = Spaces(event=0xBAD, profile=SPACES.profile, taxonomy=SPACES.taxonomy)
    with pytest.raises(SpaceMismatchError) as refused:
        unpack(golden_bytes(), other)
    for part in (f"{0xBAD:016x}", f"{SPACES.event:016x}", "portrait backfill", "2 states"):
        assert part in str(refused.value)


def test_a_state_of_another_profile_space_is_taken_and_fused_anew() -> None:
    moved = Spaces(event=SPACES.event, profile=0xAAA, taxonomy=SPACES.taxonomy)
    states = unpack([*golden_bytes(), None], moved)
    result = fold(states, *batch([At(0, 1, 0, 11, key=0xA2)]), POLICY, NOW_US)  # a replay
    assert result.unchanged.tolist() == [False, True, True]
    assert result.states.head["profile_space"].tolist() == [0xAAA, SPACES.profile, 0xAAA]
    assert result.states.head["revision"].tolist()[0] == 2


def test_a_taxonomy_that_only_appends_reads_older_states_and_another_one_does_not() -> None:
    categories = tuple(Category(i, i, i) for i in "abcd")
    older, newer = Taxonomy(categories[:3], {}, {}), Taxonomy(categories, {}, {})
    other = Taxonomy(categories[::-1], {}, {})
    hexes = "ab" * 32, "cd" * 32
    states = _in_spaces(nobody(1), Spaces.of(*hexes, older))
    states = fold(states, *batch([At(0, 1, 0, 5, key=7)]), POLICY, NOW_US).states
    read = unpack(pack(states), Spaces.of(*hexes, newer))
    written = fold(read, *batch([At(0, 1, 0, 6, key=8)]), POLICY, NOW_US).states
    assert written.head["taxonomy"].tolist() == [space_key(newer.fingerprint)]
    with pytest.raises(SpaceMismatchError, match="taxonomy"):
        unpack(pack(states), Spaces.of(*hexes, other))


def _in_spaces(states: States, spaces: Spaces) -> States:
    head = states.head.copy()
    head["event_space"], head["profile_space"], head["taxonomy"] = (
        spaces.event,
        spaces.profile,
        spaces.taxonomy,
    )
    return replace(states, head=head, spaces=spaces)


def test_sums_of_other_half_lives_are_refused() -> None:
    states, other = golden_states(), FoldPolicy(half_lives_s=(864_000, 999))
    for call in (
        lambda: fold(states, *batch([]), other, NOW_US),
        lambda: fusion_inputs(states, other),
    ):
        with pytest.raises(SpaceMismatchError, match=r"expected half-lives .*999.*got .*3456000"):
            call()


@pytest.mark.parametrize("fingerprint", ["", "abc", "xyz" * 10])
def test_a_space_without_a_fingerprint_is_refused(fingerprint: str) -> None:
    with pytest.raises(StateError, match="expected at least 16 hex digits"):
        space_key(fingerprint)


def test_arrays_that_do_not_fit_are_refused() -> None:
    users, events = batch([At(0, 1, 0, 5, key=7)])
    with pytest.raises(ValueError, match="one user index for each"):
        fold(nobody(1), users[:0], events, POLICY, NOW_US)
    with pytest.raises(ValueError, match="user indices 0 to 0, got 1 to 1"):
        fold(nobody(1), users + 1, events, POLICY, NOW_US)
    with pytest.raises(ValueError, match="EVENT_DTYPE"):
        fold(nobody(1), users, np.zeros(1), POLICY, NOW_US)
    assert event(At(0, 1, 0, 5, key=7)).dtype == EVENT_DTYPE

"""The events table as arrays: every user once, with all events, whatever files they lie in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import EVENT_DTYPE
from features.tables import events_by_user as module
from features.tables.events_by_user import distinct_users, events_by_user
from features.tables.rows import event_batch
from features.tables.schema import HistoryError
from features.tables.writer import write_table
from tests.unit.features.tables.test_compact import (
    DAY,
    blank_pages,
    damaged,
    foreign,
    older,
    run,
    spoil_pages,
    write,
)
from tests.unit.features.tables.test_rows import TAXONOMY, simple_event


def fill(directory: Path, *users: str, start: int = 0) -> dict[str, list[bytes]]:
    """One file; the events of each user."""
    events = [
        simple_event(start + i, event_key=start + i + 1)._replace(user_id=u) for i, u in enumerate(users)
    ]
    write_table(directory, "events", [event_batch(events, "e1", TAXONOMY)], DAY)
    return {user: [e.numbers for e in events if e.user_id == user] for user in users}


def read(directory: Path, users: list[str] | None = None) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for some in events_by_user(directory, "e1", TAXONOMY, users):
        for i, user in enumerate(some.users):
            assert user not in found
            found[user] = [n.tobytes() for n in some.numbers[some.user_of == i]]
    return found


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12), min_size=1, max_size=3),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_user_comes_once_with_every_event_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], at_once: int, compacted: bool
) -> None:
    directory = tmp_path_factory.mktemp("history")
    wanted: dict[str, list[bytes]] = {}
    for number, users in enumerate(files):
        for user, events in fill(directory, *users, start=100 * number).items():
            wanted.setdefault(user, []).extend(events)
    if compacted:
        run(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROW_GROUP", at_once)
        patch.setattr(module, "USERS_AT_ONCE", at_once)
        patch.setattr(module, "EVENTS_AT_ONCE", 2 * at_once)
        found = read(directory)
    assert {user: sorted(events) for user, events in found.items()} == {
        user: sorted(events) for user, events in wanted.items()
    }


def test_only_the_users_asked_for_come(tmp_path: Path) -> None:
    fill(tmp_path, "ann", "bob", "carl")
    assert sorted(read(tmp_path, ["carl", "ann", "nobody"])) == ["ann", "carl"]
    assert read(tmp_path, []) == {}


def test_events_of_another_space_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "ann")
    events = [simple_event(9)._replace(user_id="bob")]
    write_table(tmp_path, "events", [event_batch(events, "e2", TAXONOMY)], DAY)
    assert list(read(tmp_path)) == ["ann"]
    assert (distinct_users(tmp_path, "e1"), distinct_users(tmp_path, "e2")) == (["ann"], ["bob"])


def test_the_greatest_revision_of_the_profiles_comes_along(tmp_path: Path) -> None:
    fill(tmp_path, "ann", "bob")
    write(tmp_path, "profiles", {"user_id": "ann", "revision": 4}, {"user_id": "ann", "revision": 9})
    found = list(events_by_user(tmp_path, "e1", TAXONOMY))
    revisions = {u: r for some in found for u, r in zip(some.users, some.revisions.tolist(), strict=True)}
    assert revisions == {"ann": 9, "bob": 0}
    assert {some.numbers.dtype for some in found} == {EVENT_DTYPE}


def test_a_sample_is_of_both_tables_and_a_seed_repeats_it(tmp_path: Path) -> None:
    fill(tmp_path, *(f"u{i:02d}" for i in range(40)))
    write(tmp_path, "profiles", {"user_id": "known-by-profile-only", "revision": 1})
    assert len(distinct_users(tmp_path, "e1")) == 41
    sample = distinct_users(tmp_path, "e1", 10, seed=5)
    assert len(set(sample)) == 10
    assert distinct_users(tmp_path, "e1", 10, seed=5) == sample
    assert len(distinct_users(tmp_path, "e1", 100)) == 41


def test_tables_without_a_file_hold_nobody(tmp_path: Path) -> None:
    assert (read(tmp_path), distinct_users(tmp_path, "e1")) == ({}, [])


@pytest.mark.parametrize("spoil", [damaged, foreign, older])
def test_files_that_are_not_of_the_tables_are_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    fill(tmp_path, "ann")
    odd = write(tmp_path, "events", {"user_id": "bob"})
    spoil(odd)
    with pytest.raises(HistoryError, match=odd.name):
        read(tmp_path)


@pytest.mark.parametrize("ask", [read, lambda directory: distinct_users(directory, "e1")])
@pytest.mark.parametrize("spoil", [spoil_pages, blank_pages])
def test_a_file_of_damaged_pages_is_named(
    tmp_path: Path, ask: Callable[[Path], object], spoil: Callable[[Path], None]
) -> None:
    fill(tmp_path, *(os.urandom(60).hex() for _ in range(1_000)))
    (bad,) = tmp_path.glob("events/dt=*/*.parquet")
    spoil(bad)
    fill(tmp_path, "ann")
    with pytest.raises(HistoryError, match=rf"^events/{bad.parent.name}/{bad.name}: expected rows that can"):
        ask(tmp_path)
    assert not list(tmp_path.glob(".compact-spill-*"))


def test_a_file_without_our_columns_is_named_when_users_are_asked_for(tmp_path: Path) -> None:
    odd = write(tmp_path, "events", {"user_id": "bob"})
    foreign(odd)
    with pytest.raises(HistoryError, match=rf"^events/{odd.parent.name}/{odd.name}: expected the columns"):
        distinct_users(tmp_path, "e1")


def test_tags_of_other_categories_are_refused(tmp_path: Path) -> None:
    event = simple_event(1, tag=[0, 255, 255, 255], tag_score=[0.5, 0, 0, 0])
    batch = event_batch([event], "e1", TAXONOMY)
    place = batch.schema.get_field_index("tags")
    renamed = batch.set_column(
        place,
        batch.schema.field(place),
        pa.array([[{"id": "unheard-of", "score": 0.5}]], batch.schema.field(place).type),
    )
    write_table(tmp_path, "events", [renamed], DAY)
    with pytest.raises(HistoryError, match="unheard-of"):
        read(tmp_path)

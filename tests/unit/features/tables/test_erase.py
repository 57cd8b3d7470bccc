"""Erased users leave both tables; everybody else stays, byte for byte where the file need not change."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.online.erased_users import Erased
from features.tables.compact import CompactError, exclusive
from features.tables.erase import EraseError, TableErased, remove_users, rows_left
from features.tables.rows import event_batch, events_from_batch
from features.tables.schema import PROFILES_SCHEMA
from features.tables.writer import write_table
from tests.unit.features.tables.test_compact import (
    DAY,
    damaged,
    foreign,
    names_in,
    older,
    rows_of,
    run,
    spoil_pages,
    write,
)
from tests.unit.features.tables.test_compact import event as bare_event
from tests.unit.features.tables.test_rows import TAXONOMY, simple_event
from tests.unit.features.tables.test_writer import files_limited_to

AT = datetime(2026, 1, 3, tzinfo=UTC)


def event(user: str, number: int, **more: Any) -> dict[str, Any]:
    return bare_event(user, number, embedding=[0.5] * 64, **more)


def gone(user: str) -> Erased:
    return Erased(user, AT, False, 0, {}, None)


def back(user: str, incarnation: int, **offsets: int) -> Erased:
    """Readmitted; ``p3=9``: contents up to offset 9 of partition 3 of topic 7 belong to before."""
    return Erased(user, AT, True, incarnation, {(7, int(p[1:])): o for p, o in offsets.items()}, None)


def erase(directory: Path, *users: Erased, **options: Any) -> dict[Any, TableErased]:
    return remove_users(directory, users, **{"grace_s": 0.0} | options)


def profile(user: str, revision: int, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "revision": revision, "incarnation": 0} | more


def test_every_row_of_an_erased_user_goes_and_no_other(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1), event("bob", 2), event("ann", 3))
    write(tmp_path, "events", event("carl", 4))
    write(tmp_path, "profiles", profile("ann", 1), profile("bob", 1))
    write(tmp_path, "profiles", profile("ann", 2))
    found = erase(tmp_path, gone("ann"), gone("unknown"))
    assert rows_of(tmp_path, "events", "user_id") in ([("bob",), ("carl",)], [("carl",), ("bob",)])
    assert rows_of(tmp_path, "profiles", "user_id") == [("bob",)]
    assert (found["events"].rows, found["events"].files, found["events"].users) == (2, 1, {"ann"})
    assert (found["profiles"].rows, found["profiles"].files) == (2, 2)


def test_files_without_the_user_are_not_touched(tmp_path: Path) -> None:
    kept = write(tmp_path, "events", event("aaa", 1), event("zzz", 2))
    write(tmp_path, "events", event("mmm", 3))
    before = kept.stat()
    erase(tmp_path, gone("mmm"))
    assert kept.stat() == before
    assert names_in(tmp_path) == {str(kept.relative_to(tmp_path))}


def test_every_bit_of_the_others_survives(tmp_path: Path) -> None:
    events = [simple_event(i, embedding=[i / 64] * 64, event_key=2**64 - 1 - i) for i in range(3)]
    events[1] = events[1]._replace(user_id="erased")
    write_table(tmp_path, "events", [event_batch(events, "ab12", TAXONOMY)], DAY)
    erase(tmp_path, gone("erased"))
    (file,) = tmp_path.glob("events/dt=*/*.parquet")
    assert events_from_batch(pq.ParquetFile(file).read().to_batches()[0], TAXONOMY) == [events[0], events[2]]


def test_of_a_readmitted_user_only_ended_incarnations_go(tmp_path: Path) -> None:
    places = [(3, 8), (3, 9), (3, 10), (4, 1)]
    write(
        tmp_path,
        "events",
        *(event("ann", i, topic_key=7, partition=p, offset=o) for i, (p, o) in enumerate(places)),
        event("bob", 9, topic_key=7, partition=3, offset=1),
    )
    write(tmp_path, "profiles", profile("ann", 4), profile("ann", 5, incarnation=1), profile("bob", 1))
    found = erase(tmp_path, back("ann", 1, p3=9))
    assert rows_of(tmp_path, "events", "user_id", "partition", "offset") == [
        ("ann", 3, 10), ("ann", 4, 1), ("bob", 3, 1),
    ]  # fmt: skip
    assert rows_of(tmp_path, "profiles", "user_id", "revision") == [("ann", 5), ("bob", 1)]
    assert (found["events"].rows, found["profiles"].rows) == (2, 1)


@settings(max_examples=20)
@given(
    st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9), min_size=1, max_size=4),
    st.sets(st.sampled_from("abcdefg")),
    st.booleans(),
)
def test_any_users_leave_any_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[str]], users: set[str], compacted: bool
) -> None:
    directory = tmp_path_factory.mktemp("history")
    rows = [[profile(user, 100 * f + i) for i, user in enumerate(own)] for f, own in enumerate(files)]
    for own in rows:
        write(directory, "profiles", *own)
    if compacted:
        run(directory)
    erase(directory, *map(gone, users))
    left = sorted((r["user_id"], r["revision"]) for own in rows for r in own if r["user_id"] not in users)
    assert sorted(rows_of(directory, "profiles", "user_id", "revision")) == left
    looked = rows_left(directory, map(gone, users))
    assert (looked["profiles"].rows, looked["events"].rows) == (0, 0)


def test_a_compacted_day_stays_done_and_sorted(tmp_path: Path) -> None:
    for user in ("ann", "bob", "carl"):
        write(tmp_path, "events", event(user, 1), event(user, 2))
    run(tmp_path)
    erase(tmp_path, gone("bob"))
    erase(tmp_path, gone("ann"))
    assert run(tmp_path).days == 0
    (file,) = tmp_path.glob("events/dt=*/sorted-*-00000-2.parquet")
    assert pq.read_metadata(file).row_group(0).sorting_columns
    assert rows_of(tmp_path, "events", "user_id") == [("carl",), ("carl",)]


def test_a_day_whose_erase_was_broken_off_is_merged_again(tmp_path: Path) -> None:
    for user in ("ann", "bob"):
        write(tmp_path, "events", event(user, 1))
    run(tmp_path)
    (old,) = tmp_path.glob("events/dt=*/*.parquet")
    saved = old.read_bytes()
    erase(tmp_path, gone("bob"))
    old.write_bytes(saved)  # as if killed between the rename and the removal
    erase(tmp_path, gone("bob"))
    assert rows_of(tmp_path, "events", "user_id") == [("ann",), ("ann",)]
    assert (run(tmp_path).duplicates, rows_of(tmp_path, "events", "user_id")) == (1, [("ann",)])


def test_looking_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1), event("bob", 2))
    before = names_in(tmp_path)
    found = rows_left(tmp_path, [gone("ann")])
    assert (found["events"].rows, found["events"].users, names_in(tmp_path)) == (1, {"ann"}, before)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damaged, "expected a whole parquet file"),
        (foreign, "expected the columns of events"),
        (older, "without"),
    ],
)
def test_what_is_not_ours_is_named_and_left_alone(tmp_path: Path, spoil: Any, reason: str) -> None:
    odd = write(tmp_path, "events", event("ann", 1))
    spoil(odd)
    before = odd.read_bytes()
    write(tmp_path, "events", event("ann", 2))
    found = erase(tmp_path, gone("ann"))
    assert len(found["events"].left_alone) == 1
    assert reason in found["events"].left_alone[0]
    assert odd.read_bytes() == before
    assert names_in(tmp_path) == {str(odd.relative_to(tmp_path))}


def test_damaged_pages_are_named_and_left_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "events", *(event("ann", n, labels=os.urandom(50).hex()) for n in range(500)))
    spoil_pages(file)
    before = file.read_bytes()
    found = erase(tmp_path, gone("ann"))
    assert file.read_bytes() == before
    assert "expected rows that can be read" in found["events"].left_alone[0]


def test_a_full_disk_is_said_and_damages_nothing(tmp_path: Path) -> None:
    rows = [event(user, n, labels=os.urandom(200).hex()) for n in range(900) for user in ("ann", "bob")]
    write(tmp_path, "events", *rows)
    before = names_in(tmp_path)
    with files_limited_to(50_000), pytest.raises(EraseError, match="unchanged: make room"):
        erase(tmp_path, gone("ann"))
    assert names_in(tmp_path) == before
    assert erase(tmp_path, gone("ann"))["events"].rows == 900


def test_an_erase_and_a_compaction_never_replace_files_at_once(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1))
    with exclusive(tmp_path), pytest.raises(CompactError, match="expected to be the only one"):
        erase(tmp_path, gone("ann"))


def test_tables_that_are_not_there_hold_nobody(tmp_path: Path) -> None:
    assert erase(tmp_path / "none", gone("ann"))["events"].rows == 0
    assert not (tmp_path / "none").exists()


def test_the_schema_survives(tmp_path: Path) -> None:
    write(tmp_path, "profiles", profile("ann", 1), profile("bob", 1, interests=["x"], embedding=[1.0] * 64))
    erase(tmp_path, gone("ann"))
    (file,) = tmp_path.glob("profiles/dt=*/*.parquet")
    assert pq.read_schema(file).equals(PROFILES_SCHEMA)


@pytest.mark.parametrize("where", ["events/dt=yesterday", "events", "profiles/dt=2026-01-02/old"])
def test_a_file_that_lies_in_no_day_is_named_since_readers_may_find_it(tmp_path: Path, where: str) -> None:
    good = write(tmp_path, "events", event("ann", 1))
    stray = tmp_path / where / "part-copy.parquet"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(good.read_bytes())
    for found in (rows_left(tmp_path, [gone("ann")]), erase(tmp_path, gone("ann"))):
        (said,) = [said for table in found.values() for said in table.left_alone]
        assert said.startswith(f"{where}/part-copy.parquet: expected to lie in a folder dt=YYYY-MM-DD")
    assert stray.exists()

"""Looking profiles up: what a status means, and what a row holds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

from features.fold.packed_state import RecordError, pack, read_mark
from features.online import ProfileStore, ProfileWrite
from features.online.lookup import Profile, ValueFormatError, lookup
from features.online.open import StoreConfigError
from features.online.sqlite_profiles import SqliteProfiles
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS, Kind
from tests.support.profiles import NOW_US, columns_of, views_of
from tests.unit.features.builders import CONTROLS, At, folded, nobody

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
DAY = timedelta(days=1)
CREATED = NOW - 3 * DAY


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteProfiles]:
    store = SqliteProfiles("test", tmp_path / "online.db")
    yield store
    store.close()


def record(*, erased: bool) -> bytes:
    created_us = NOW_US - 3 * 86_400_000_000
    events = [At(0, 1, 0, 5, 1)] + [At(0, CONTROLS, 0, 1, 2, Kind.ERASE)] * erased
    return pack(folded(nobody(1), events, now_us=created_us))[0]


def write(store: ProfileStore, user: str, *, revision: int = 1, erased: bool = False, **views: bytes) -> None:
    """A profile whose newest event is ``NOW + revision`` seconds."""
    served = {
        view: {n: views.get(n, raw) for n, raw in held.items()} for view, held in views_of(revision).items()
    }
    state = record(erased=erased)
    done = store.compare_and_set(
        [ProfileWrite(user, 0, revision, state, None if erased else served, NOW_US, NOW_US)]
    )
    assert done == [True]


def test_every_field_of_the_schema_is_a_field_of_a_profile_and_no_other() -> None:
    fields = {name for name, made in vars(Profile).items() if isinstance(made, cached_property)}
    assert fields == {field.name for field in PROFILE_FIELDS}


def test_a_row_holds_what_was_written(store: SqliteProfiles) -> None:
    write(store, "ann", revision=9)
    (ann,) = lookup(store, ["ann"])
    row = ann.as_dict()
    assert (row.pop("user_id"), row.pop("status"), row.pop("created")) == ("ann", "fresh", None)
    for field in PROFILE_FIELDS:
        (wanted,), got = columns_of([9])[field.name], row[field.name]
        if field.type == "vector":
            assert np.array_equal(got, wanted)
            assert got.shape == (EMBEDDING_DIM,)
        elif field.type == "time":
            assert got == datetime.fromtimestamp(wanted // 1_000_000, UTC)
        elif field.type == "json":
            assert got == [{"id": "r9"}]
        else:
            assert got == (tuple(wanted) if field.type == "strings" else wanted)


def test_a_profile_is_fresh_up_to_the_age_asked_for_and_stale_above(store: SqliteProfiles) -> None:
    write(store, "ann")
    newest = datetime.fromtimestamp(NOW_US // 1_000_000 + 1, UTC)
    statuses = [
        lookup(store, ["ann"], DAY, now=newest + DAY + timedelta(seconds=late))[0].status for late in (0, 1)
    ]
    assert statuses == ["fresh", "stale"]
    assert lookup(store, ["ann"], now=newest + 999 * DAY)[0].status == "fresh"


def test_unknown_and_erased_users_hold_nothing(store: SqliteProfiles) -> None:
    write(store, "gone", erased=True)
    write(store, "ann")
    profiles = lookup(store, ["gone", "ann", "nobody", "ann"], 14 * DAY, now=NOW)
    assert [p.status for p in profiles] == ["erased", "fresh", "unknown", "fresh"]
    for profile in (profiles[0], profiles[2]):
        assert {getattr(profile, field.name) for field in PROFILE_FIELDS} == {None}


def test_age_can_be_counted_from_the_last_write(store: SqliteProfiles) -> None:
    write(store, "ann")
    (ann,) = lookup(store, ["ann"], 2 * DAY, age_of="created", now=NOW)
    assert (ann.status, ann.created) == ("stale", datetime.fromtimestamp(CREATED.timestamp(), UTC))
    assert lookup(store, ["ann"], 4 * DAY, age_of="created", now=NOW)[0].status == "fresh"


def test_a_profile_without_an_event_is_stale_once_an_age_is_asked_for(store: SqliteProfiles) -> None:
    write(store, "new", last_event=b"")
    assert lookup(store, ["new"], DAY, now=NOW)[0].status == "stale"
    (new,) = lookup(store, ["new"])
    assert (new.status, new.last_event) == ("fresh", None)


def test_bytes_of_another_type_are_named_when_asked_for(store: SqliteProfiles) -> None:
    write(store, "odd", version=b"\x12\x01x")
    (odd,) = lookup(store, ["odd"])
    assert odd.revision == 1
    with pytest.raises(ValueFormatError, match="field version: expected a value of type int"):
        _ = odd.version


def test_a_damaged_tombstone_is_no_answer(store: SqliteProfiles) -> None:
    store.compare_and_set([ProfileWrite("odd", 0, 1, b"no record", None, NOW_US, NOW_US)])
    with pytest.raises(RecordError, match="expected at least"):
        lookup(store, ["odd"])


def test_the_mark_of_a_record_says_whether_it_is_a_tombstone() -> None:
    assert read_mark(record(erased=False))[0] is False
    assert read_mark(record(erased=True)) == (True, int(CREATED.timestamp() * 1e6))


def test_a_folder_that_is_no_repo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreConfigError, match="expected a file"):
        lookup(tmp_path, ["ann"])


def test_a_process_that_looks_up_loads_neither_feast_nor_any_other_heavy_library() -> None:
    heavy = "feast", "pandas", "pyarrow", "duckdb", "torch", "apache_beam", "google.protobuf"
    loaded = f"' '.join(m for m in {heavy} if m in sys.modules)"
    code = f"import sys, features; features.lookup; sys.exit({loaded} or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

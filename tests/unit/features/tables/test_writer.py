"""Files of the tables: whole or absent, whatever the disk or a killed process does."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.tables.schema import EVENTS_SCHEMA, PROFILES_SCHEMA, HistoryError
from features.tables.writer import HistoryWriter, remove_leftovers, write_table

NOW = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)
EMPTY_PROFILES = pa.RecordBatch.from_pylist([], PROFILES_SCHEMA)


def profiles(*users: str, filler: int = 0) -> pa.RecordBatch:
    """Rows that hold a user and, to be large, incompressible text."""
    rows = [{"user_id": user, "revision": 1, "tags": os.urandom(filler).hex()} for user in users]
    return pa.RecordBatch.from_pylist(rows, PROFILES_SCHEMA)


def events(*ids: str) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"user_id": "u", "source": "s", "event_id": i} for i in ids], EVENTS_SCHEMA
    )


def users_in(directory: Path) -> list[str]:
    return sorted(
        user
        for file in directory.glob("profiles/dt=*/*.parquet")
        for user in pq.ParquetFile(file).read()["user_id"].to_pylist()
    )


def everything_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """A real refusal by the kernel (EFBIG), as a full disk gives ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path: Path, clock: Clock) -> HistoryWriter:
    return HistoryWriter(tmp_path, flush_s=5.0, flush_bytes=100_000, monotonic_s=clock, now=lambda: NOW)


def test_a_file_lies_under_the_utc_date_of_its_write(tmp_path: Path) -> None:
    file = write_table(
        tmp_path, "profiles", [profiles("a"), profiles("b")], datetime.fromisoformat("2026-01-03T07:00+08:00")
    )
    assert file.parent == tmp_path / "profiles" / "dt=2026-01-02"
    assert file.suffix == ".parquet"
    table = pq.ParquetFile(file).read()
    assert table["user_id"].to_pylist() == ["a", "b"]
    assert table.schema.equals(PROFILES_SCHEMA)
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert everything_in(tmp_path) == [file]


def test_a_refused_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with files_limited_to(65_536), pytest.raises(OSError, match="File too large"):
        write_table(tmp_path, "profiles", [profiles("a", filler=1_000_000)], NOW)
    assert everything_in(tmp_path) == []


def test_foreign_rows_are_refused_before_anything_is_visible(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="profiles: expected batches of its schema"):
        write_table(tmp_path, "profiles", [events("1")], NOW)
    assert everything_in(tmp_path) == []


def test_an_unwritable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "profiles").write_text("a file where a folder must be")
    with pytest.raises(OSError, match="profiles"):
        write_table(tmp_path, "profiles", [profiles("a")], NOW)


def test_the_writer_flushes_both_tables_and_then_holds_nothing(writer: HistoryWriter, tmp_path: Path) -> None:
    writer.add("profiles", profiles("a"))
    writer.add("events", events("1", "2"))
    writer.add("profiles", profiles("b"))
    assert writer.pending_bytes > 0
    files = writer.flush()
    assert sorted(file.parts[-3] for file in files) == ["events", "profiles"]
    assert users_in(tmp_path) == ["a", "b"]
    assert writer.pending_bytes == 0
    assert writer.flush() == []


def test_the_writer_is_due_after_seconds_or_bytes(writer: HistoryWriter, clock: Clock) -> None:
    assert not writer.due()
    writer.add("profiles", EMPTY_PROFILES)
    clock.s = 100.0
    assert not writer.due()
    writer.add("profiles", profiles("a"))
    clock.s = 104.9
    assert not writer.due()
    clock.s = 105.0
    assert writer.due()
    writer.flush()
    assert not writer.due()
    writer.add("profiles", profiles("a", filler=100_000))
    assert writer.due()


def test_a_failed_flush_keeps_the_rows_and_a_later_one_writes_them(
    writer: HistoryWriter, tmp_path: Path
) -> None:
    writer.add("events", events("1"))
    writer.add("profiles", profiles("a", filler=1_000_000))
    with files_limited_to(65_536), pytest.raises(OSError, match="File too large"):
        writer.flush()
    assert users_in(tmp_path) == []
    assert writer.due()
    writer.add("profiles", profiles("b"))
    (file,) = writer.flush()
    assert file.parts[-3] == "profiles"
    assert users_in(tmp_path) == ["a", "b"]
    assert len(everything_in(tmp_path)) == 2


def test_rows_of_another_table_are_refused_when_added(writer: HistoryWriter) -> None:
    with pytest.raises(HistoryError, match="events: expected a batch of its schema"):
        writer.add("events", profiles("a"))


def test_threads_that_add_while_others_flush_lose_and_repeat_nothing(
    writer: HistoryWriter, tmp_path: Path
) -> None:
    def work(name: str) -> None:
        for i in range(40):
            writer.add("profiles", profiles(f"{name}{i:02}"))
            if i % 10 == 0:
                writer.flush()

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.flush()
    assert users_in(tmp_path) == [f"{name}{i:02}" for name in "abcd" for i in range(40)]


def test_leftovers_of_killed_processes_go_after_an_hour(tmp_path: Path) -> None:
    folder = tmp_path / "profiles" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    old, young = folder / ".part-old.tmp", folder / ".part-young.tmp"
    for path, age_s in ((old, 3_700), (young, 3_500)):
        path.write_bytes(b"half a file")
        os.utime(path, (NOW.timestamp() - age_s,) * 2)
    file = write_table(tmp_path, "profiles", [profiles("a")], NOW)
    assert users_in(tmp_path) == ["a"]
    assert remove_leftovers(tmp_path, NOW.timestamp()) == [old]
    assert sorted(everything_in(tmp_path)) == sorted([young, file])


def test_a_new_writer_cleans_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "events" / "dt=2026-01-01"
    folder.mkdir(parents=True)
    (folder / ".part-x.tmp").write_bytes(b"half a file")
    os.utime(folder / ".part-x.tmp", (0, 0))
    HistoryWriter(tmp_path, 5.0, 100, now=lambda: NOW)
    assert everything_in(tmp_path) == []

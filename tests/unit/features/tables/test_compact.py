"""Compaction: every row once, sorted, in few files; whatever is not ours stays; readers never miss a row."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import UsageError
from features.schema import EncodedEvent
from features.tables.compact import CompactError, CompactReport, compact, exclusive
from features.tables.merge import Limits
from features.tables.rows import event_batch, events_from_batch
from features.tables.schema import EVENTS_SCHEMA, PROFILES_SCHEMA, SCHEMAS, Table
from features.tables.writer import write_table
from tests.unit.features.tables.test_rows import TAXONOMY, simple_event
from tests.unit.features.tables.test_writer import files_limited_to

DAY = datetime(2026, 1, 2, 12, tzinfo=UTC)
TODAY = datetime(2026, 1, 5, 1, tzinfo=UTC)
DEFAULTS: dict[str, dict[str, Any]] = {
    "events": {"source": "shop", "event_space": "e1"},
    "profiles": {"event_space": "e1", "profile_space": "p1"},
}


def write(directory: Path, table: Table, *rows: dict[str, Any], day: datetime = DAY) -> Path:
    batch = pa.RecordBatch.from_pylist([DEFAULTS[table] | row for row in rows], SCHEMAS[table])
    return write_table(directory, table, [batch], day)


def event(user: str, number: int, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "event_id": f"e{number}", "event_time": number, "record_time": number} | more


def run(directory: Path, **options: Any) -> CompactReport:
    usual: dict[str, Any] = {"grace_s": 0.0, "now": lambda: TODAY}
    return compact(directory, **usual | options)


def rows_of(directory: Path, table: Table, *columns: str) -> list[tuple[Any, ...]]:
    """Rows in the order of files and of rows in them."""
    files = sorted(directory.glob(f"{table}/dt=*/*.parquet"))
    tables = [pq.ParquetFile(file).read(list(columns)).to_pylist() for file in files]
    return [tuple(row[c] for c in columns) for rows in tables for row in rows]


def names_in(directory: Path) -> set[str]:
    return {
        str(p.relative_to(directory))
        for p in directory.rglob("*")
        if p.is_file() and p.name != ".compact.lock"
    }


def test_a_day_becomes_one_file_sorted_by_user_and_time(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path, "events", event("bob", number), event("ann", 9 - number))
    report = run(tmp_path)
    assert rows_of(tmp_path, "events", "user_id", "event_id") == [
        *(("ann", f"e{n}") for n in range(4, 10)),
        *(("bob", f"e{n}") for n in range(6)),
    ]
    assert (report.days, report.files_before, report.files_after) == (1, 6, 1)
    assert (report.rows, report.duplicates, report.left_alone, report.failed) == (12, 0, [], [])


def test_duplicates_leave_one_row_and_the_earliest_record_stays(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1, offset=7, record_time=5), event("ann", 2))
    write(tmp_path, "events", event("ann", 1, offset=3, record_time=4))
    write(tmp_path, "profiles", {"user_id": "ann", "revision": 1}, {"user_id": "ann", "revision": 2})
    write(tmp_path, "profiles", {"user_id": "ann", "revision": 1}, {"user_id": "bob", "revision": 1})
    assert run(tmp_path).duplicates == 2
    assert rows_of(tmp_path, "events", "event_id", "offset") == [("e1", 3), ("e2", None)]
    assert rows_of(tmp_path, "profiles", "user_id", "revision") == [("ann", 1), ("ann", 2), ("bob", 1)]


def test_rows_of_another_user_or_of_another_space_are_no_duplicates(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1), event("bob", 1), event("ann", 1, event_space="e2"))
    write(tmp_path, "profiles", {"user_id": "a", "revision": 1})
    write(tmp_path, "profiles", {"user_id": "a", "revision": 1, "profile_space": "p2"})
    assert run(tmp_path).duplicates == 0
    assert len(rows_of(tmp_path, "events", "user_id")) == 3
    assert len(rows_of(tmp_path, "profiles", "user_id")) == 2


@settings(max_examples=15)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), min_size=1, max_size=8),
        min_size=1,
        max_size=4,
    )
)
def test_any_files_become_the_sorted_set_of_their_rows(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[tuple[str, int]]]
) -> None:
    directory = tmp_path_factory.mktemp("history")
    for rows in files:
        write(directory, "profiles", *({"user_id": user, "revision": r} for user, r in rows))
    run(directory)
    assert rows_of(directory, "profiles", "user_id", "revision") == sorted(
        {row for rows in files for row in rows}
    )


def test_every_bit_of_an_event_survives(tmp_path: Path) -> None:
    rng = os.urandom
    events: list[EncodedEvent] = []
    for i in range(4):
        numbers = [int.from_bytes(rng(1), "big") / 256 for _ in range(64)]
        events.append(
            simple_event(i, embedding=numbers, event_key=2**64 - 1 - i, partition=2**32 - 1, sentiment=0.1)
        )
    for one in reversed(events):
        write_table(tmp_path, "events", [event_batch([one], "ab12", TAXONOMY)], DAY)
    run(tmp_path)
    (file,) = tmp_path.glob("events/dt=*/*.parquet")
    table = pq.ParquetFile(file).read()
    assert table.schema.equals(EVENTS_SCHEMA)
    assert events_from_batch(table.to_batches()[0], TAXONOMY) == events


def test_pandas_polars_and_duckdb_read_what_was_compacted(tmp_path: Path) -> None:
    for day in (DAY, DAY + timedelta(days=1)):
        write(tmp_path, "profiles", {"user_id": "ann", "revision": day.day, "embedding": [0.5] * 64}, day=day)
    run(tmp_path)
    wanted = [("ann", 2), ("ann", 3)]
    frame = pd.read_parquet(tmp_path / "profiles").sort_values("revision")
    polar = pl.read_parquet(tmp_path / "profiles" / "**" / "*.parquet", hive_partitioning=True).sort(
        "revision"
    )
    with duckdb.connect() as db:
        query = "SELECT user_id, revision FROM read_parquet(?) ORDER BY ALL"
        found = db.execute(query, [f"{tmp_path}/profiles/**/*.parquet"]).fetchall()
    assert list(zip(frame["user_id"], frame["revision"], strict=True)) == wanted
    assert polar.select("user_id", "revision").rows() == found == wanted
    assert [str(d) for d in frame["dt"]] == [str(d) for d in polar["dt"]] == ["2026-01-02", "2026-01-03"]


def test_a_day_that_is_done_is_not_touched_again(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1))
    run(tmp_path)
    before = names_in(tmp_path)
    assert run(tmp_path).days == 0
    assert names_in(tmp_path) == before


def test_a_file_that_comes_later_is_merged_into_its_day(tmp_path: Path) -> None:
    write(tmp_path, "events", event("bob", 1))
    run(tmp_path)
    write(tmp_path, "events", event("ann", 1), event("bob", 1))
    report = run(tmp_path)
    assert (report.days, report.files_before, report.files_after, report.duplicates) == (1, 2, 1, 1)
    assert rows_of(tmp_path, "events", "user_id") == [("ann",), ("bob",)]


def test_today_is_left_alone_unless_asked_for(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, "events", event("ann", number), day=TODAY)
    assert run(tmp_path).days == 0
    assert run(tmp_path, today=True).files_after == 1


def test_files_are_bounded_and_cut_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.tables.merge.ROW_GROUP", 2_048)
    for start in (0, 5_000):
        rows = [
            {"user_id": f"u{start + i:05d}", "revision": 1, "tags": os.urandom(100).hex()}
            for i in range(5_000)
        ]
        write(tmp_path, "profiles", *rows)
    report = run(tmp_path, limits=Limits(file_bytes=300_000))
    sizes = [file.stat().st_size for file in tmp_path.glob("profiles/dt=*/*")]
    assert report.files_after == len(sizes) > 2
    assert max(sizes) < 700_000
    assert rows_of(tmp_path, "profiles", "user_id") == [(f"u{i:05d}",) for i in range(10_000)]


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-50])


def spoil_pages(path: Path, byte: bytes = b"\xff") -> None:
    """No rows in the place of most, the footer whole."""
    raw = bytearray(path.read_bytes())
    raw[200:-30_000] = byte * (len(raw) - 30_200)
    path.write_bytes(raw)


def blank_pages(path: Path) -> None:
    """Zeros, which are empty texts to DuckDB."""
    spoil_pages(path, b"\0")


def foreign(path: Path) -> None:
    pq.write_table(pa.table({"user_id": ["x"], "mine": [1]}), path)


def older(path: Path) -> None:
    kept = [name for name in EVENTS_SCHEMA.names if name not in ("embedding", "topic", "labels")]
    pq.write_table(pq.ParquetFile(path).read(kept), path)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damaged, "expected a whole parquet file"),
        (foreign, "with mine"),
        (older, "without embedding, labels, topic;"),
    ],
)
def test_what_is_not_ours_is_named_and_left_alone(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    write(tmp_path, "events", event("bob", 1))
    write(tmp_path, "events", event("ann", 1))
    odd = write(tmp_path, "events", event("carl", 1))
    spoil(odd)
    before = odd.read_bytes()
    report = run(tmp_path)
    (left,) = report.left_alone
    assert odd.name in left
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(left)
    assert odd.read_bytes() == before
    assert (report.files_before, report.files_after) == (2, 1)
    assert run(tmp_path).days == 0


@pytest.mark.parametrize("spoil", [spoil_pages, blank_pages])
def test_a_day_with_damaged_pages_fails_alone_and_stays(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    rows = [event(os.urandom(50).hex(), n) for n in range(500)]
    bad = write(tmp_path, "events", *rows)
    spoil(bad)
    write(tmp_path, "events", event("bob", 1), day=DAY + timedelta(days=1))
    before = names_in(tmp_path / "events" / "dt=2026-01-02")
    report = run(tmp_path)
    assert (report.days, len(report.failed)) == (1, 1)
    assert "events dt=2026-01-02" in report.failed[0]
    assert f"{bad.name}: expected rows that can be read" in report.failed[0]
    assert names_in(tmp_path / "events" / "dt=2026-01-02") == before


def test_a_full_disk_is_said_and_damages_nothing(tmp_path: Path) -> None:
    for start in (0, 500):
        rows = [event("ann", start + n, labels=os.urandom(200).hex()) for n in range(500)]
        write(tmp_path, "events", *rows)
    before = names_in(tmp_path)
    with (
        files_limited_to(100_000),
        pytest.raises(CompactError, match=r"expected room .* unchanged: make room"),
    ):
        run(tmp_path)
    assert names_in(tmp_path) == before
    assert run(tmp_path).rows == 1_000


def test_only_one_compaction_runs_at_a_time(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(CompactError, match="expected to be the only one"):
        run(tmp_path)
    assert run(tmp_path).days == 0


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected the folder of the parquet tables"):
        run(tmp_path / "none")


def test_readers_and_a_writer_beside_it_never_miss_a_row(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, "profiles", {"user_id": f"u{number}", "revision": 1})
    done = threading.Event()
    written = [30]
    seen: list[tuple[int, int]] = []

    def read() -> None:
        with duckdb.connect() as db:
            while not done.is_set():
                least = written[0]
                with suppress(duckdb.IOException):  # a file that was listed is gone: asks again
                    query = "SELECT count(DISTINCT user_id) FROM read_parquet(?)"
                    ((found,),) = db.execute(query, [f"{tmp_path}/profiles/**/*.parquet"]).fetchall()
                    seen.append((found, least))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            for _ in range(3):
                write(tmp_path, "profiles", {"user_id": f"u{written[0]}", "revision": 1})
                written[0] += 1
            assert run(tmp_path, grace_s=0.2).days == 1
    finally:
        done.set()
        reader.join()
    assert len(seen) > 3
    assert [pair for pair in seen if pair[0] < pair[1]] == []


def test_progress_names_every_day(tmp_path: Path) -> None:
    write(tmp_path, "events", event("ann", 1))
    said: list[str] = []
    run(tmp_path, progress=said.append)
    assert said[0] == said[0].strip()
    assert "events dt=2026-01-02 (1 of 1): merging 1 files" in said[0]
    assert "1 rows in 1 files, 0 duplicates removed" in said[1]


def test_schemas_of_both_tables_survive(tmp_path: Path) -> None:
    write(tmp_path, "profiles", {"user_id": "a", "revision": 1, "interests": ["x"], "embedding": [1.0] * 64})
    run(tmp_path)
    (file,) = tmp_path.glob("profiles/dt=*/*.parquet")
    assert pq.read_schema(file).equals(PROFILES_SCHEMA)

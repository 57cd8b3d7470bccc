"""Files of one table and one day → few new files, sorted by user, each row once; memory stays bounded.

DuckDB sorts, and spills to disk what does not fit; rows then stream through pyarrow, which writes our
exact schema (DuckDB has no 16-bit floats). The new files keep temporary names: who calls decides when
readers see them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.schema import JOIN_KEY
from features.tables.files import opened, refuse_nobody
from features.tables.schema import PARQUET, SCHEMAS, HistoryError, Table

KEYS: Final[Mapping[Table, tuple[str, ...]]] = {
    "events": ("user_id", "source", "event_id", "event_space"),
    "profiles": ("user_id", "revision", "event_space", "profile_space"),
}
"""Rows equal in these are duplicates. The spaces are among them: after a backfill with new encoders an
event has a row in either space, and revisions begin anew; neither may hide the other."""

ORDER: Final[Mapping[Table, tuple[str, ...]]] = {
    "events": ("user_id", "event_time", "source", "event_id"),
    "profiles": ("user_id", "revision", "created"),
}
_KEPT_FIRST: Final[Mapping[Table, tuple[str, ...]]] = {
    "events": ("record_time", "topic_key", "partition", "offset"),
    "profiles": ("created",),
}
"""Which of several duplicates stays: the one that comes first by these."""

ROW_GROUP: Final = 32_768
"""Rows written at once, which is also what a reader skips or reads at once."""


@dataclass(frozen=True)
class Limits:
    """What a merge may use."""

    memory_bytes: int = 1 << 30
    """Of DuckDB's sort; what is above it goes to ``spill``. Wide rows need 512 MiB in any case."""
    file_bytes: int = 256 << 20
    """Size at which the next file is begun; a file may be larger by one row group."""
    threads: int = 2

    def connect(self, spill: Path) -> duckdb.DuckDBPyConnection:
        """A database in memory within these limits, in UTC; the folder ``spill`` takes what is above them."""
        db = duckdb.connect(
            config={
                "memory_limit": f"{self.memory_bytes // 1024}KiB",
                "threads": self.threads,
                "temp_directory": str(spill),
            }
        )
        db.execute("SET TimeZone = 'UTC'")
        return db


@dataclass
class Merged:
    """New files, synced but still under temporary names, and what is in them."""

    files: list[Path] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0

    def discard(self) -> None:
        """Remove the files."""
        for file in self.files:
            file.unlink(missing_ok=True)


def merge(table: Table, sources: Sequence[Path], prefix: Path, limits: Limits, spill: Path) -> Merged:
    """Write the rows of ``sources`` to ``<prefix><n>.tmp``, sorted by ORDER, without duplicates by KEYS.

    Raises OSError when the disk refuses, duckdb.Error for a source that cannot be read or a sort that
    does not fit, HistoryError if rows are of nobody or got lost on the way; no file is left then.
    """
    merged = Merged()
    try:
        with limits.connect(spill) as db:
            rows = _rows_sql(sources)
            db.execute(_duplicates_sql(table, rows))
            ((merged.duplicates,),) = db.execute("SELECT count(*) FROM duplicates").fetchall()
            reader = db.sql(_sorted_sql(table, rows)).to_arrow_reader(ROW_GROUP)
            _write(table, _of_users(reader), prefix, limits.file_bytes, merged)
        expected = sum(pq.read_metadata(file).num_rows for file in sources) - merged.duplicates
        found = sum(pq.read_metadata(file).num_rows for file in merged.files)
        if not found == merged.rows == expected:
            raise HistoryError(
                f"{table}: expected {expected} rows after the merge, got {found}; sources stay"
            )
    except BaseException:
        merged.discard()
        raise
    return merged


def rewrite(
    table: Table, source: Path, prefix: Path, gone: Callable[[pa.RecordBatch], pa.Array], *, ordered: bool
) -> Merged:
    """Write the rows of one file that are not ``gone`` (bool array of a batch) to ``<prefix>00000.tmp``.

    Rows keep their order; ``ordered``: they are sorted by ORDER. No row is left: no file is written.
    Raises OSError when the disk refuses or the file cannot be read, HistoryError if rows got lost on the
    way; no file is left then.
    """
    merged, removed = Merged(), 0

    def kept() -> Iterator[pa.RecordBatch]:
        nonlocal removed
        with opened(source) as file:
            for batch in file.iter_batches(ROW_GROUP):
                rest = batch.filter(pc.invert(gone(batch)))
                removed += batch.num_rows - rest.num_rows
                yield rest

    try:
        _write(table, kept(), prefix, sys.maxsize, merged, ordered=ordered)
        expected = pq.read_metadata(source).num_rows - removed
        found = sum(pq.read_metadata(file).num_rows for file in merged.files)
        if not found == merged.rows == expected:
            raise HistoryError(
                f"{source.name}: expected {expected} rows to stay, got {found}; it is unchanged"
            )
    except BaseException:
        merged.discard()
        raise
    return merged


def _rows_sql(sources: Sequence[Path]) -> str:
    files = ", ".join("'" + str(file).replace("'", "''") + "'" for file in sources)
    return f"read_parquet([{files}], filename = true, file_row_number = true, hive_partitioning = false)"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


def _of_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if batch.num_rows:
            refuse_nobody(batch.column(JOIN_KEY)[0].as_py())
        yield batch


def _duplicates_sql(table: Table, rows: str) -> str:
    """A table of the rows to leave out. It reads the keys alone, so that the wide rows are sorted once."""
    places = ("filename", "file_row_number")
    return (
        f"CREATE TEMP TABLE duplicates AS SELECT {_names(places)} FROM {rows} "  # noqa: S608
        f"QUALIFY row_number() OVER (PARTITION BY {_names(KEYS[table])} "
        f"ORDER BY {_names((*_KEPT_FIRST[table], *places))}) > 1"
    )


def _sorted_sql(table: Table, rows: str) -> str:
    return (
        f"SELECT {_names(SCHEMAS[table].names)} FROM {rows} "  # noqa: S608
        f"ANTI JOIN duplicates USING (filename, file_row_number) ORDER BY {_names(ORDER[table])}"
    )


def _write(
    table: Table,
    batches: Iterable[pa.RecordBatch],
    prefix: Path,
    file_bytes: int,
    merged: Merged,
    *,
    ordered: bool = True,
) -> None:
    """Fill one file after the other; each is synced when it is full."""
    groups = _row_groups(table, batches)
    sorting = _sorting(table) if ordered else {}
    group = next(groups, None)
    while group is not None:
        temporary = prefix.with_name(f"{prefix.name}{len(merged.files):05d}.tmp")
        merged.files.append(temporary)
        with temporary.open("xb") as file:
            with pq.ParquetWriter(file, SCHEMAS[table], **PARQUET[table], **sorting) as writer:
                while group is not None:
                    writer.write_table(group, row_group_size=ROW_GROUP)
                    merged.rows += group.num_rows
                    group = next(groups, None)
                    if file.tell() >= file_bytes:
                        break
            file.flush()
            os.fsync(file.fileno())


def _sorting(table: Table) -> dict[str, Any]:
    columns = [(name, "ascending") for name in ORDER[table]]
    return {"sorting_columns": pq.SortingColumn.from_ordering(SCHEMAS[table], columns)}


def _row_groups(table: Table, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        if batch.num_rows:
            yield pa.Table.from_batches([batch]).cast(SCHEMAS[table])

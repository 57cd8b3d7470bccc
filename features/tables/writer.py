"""Writes the tables of ``features.tables.rows``: whole files or none, buffered between flushes.

Files are ``<dir>/<table>/dt=YYYY-MM-DD/part-<uuid>.parquet``, ``dt`` being the UTC date of the write.
A file is written under a hidden name without ``.parquet``, synced, then renamed, so that no reader
ever sees half of one.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic_file import sync_folder, whole_file
from features.tables.schema import PARQUET, SCHEMAS, HistoryError, Table

LEFTOVER_AGE_S: Final = 3_600.0
"""A temporary file untouched for so long belongs to a process that was killed."""


def write_table(directory: Path, table: Table, batches: Iterable[pa.RecordBatch], now: datetime) -> Path:
    """Write batches as one new file of a table; when this returns, the file survives a power cut.

    After any error (OSError of a full disk, HistoryError of foreign rows) nothing of it is visible.
    """
    folder = directory / table / f"dt={now.astimezone(UTC):%Y-%m-%d}"
    new_folder = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"part-{uuid.uuid4().hex}.parquet"
    with whole_file(final) as file:
        pq.write_table(_as_table(table, batches), file, **PARQUET[table])
    for parent in (folder.parent, directory, directory.parent) if new_folder else ():
        sync_folder(parent)
    return final


def _as_table(table: Table, batches: Iterable[pa.RecordBatch]) -> pa.Table:
    try:
        return pa.Table.from_batches(batches, SCHEMAS[table])
    except pa.ArrowInvalid as error:
        raise HistoryError(f"{table}: expected batches of its schema, got others; {error}") from error


def remove_leftovers(directory: Path, now_s: float) -> list[Path]:
    """Delete temporary files that killed processes left more than an hour before ``now_s`` (Unix seconds)."""
    removed = []
    for path in directory.glob("*/dt=*/.part-*.tmp"):
        try:
            if path.stat().st_mtime < now_s - LEFTOVER_AGE_S:
                path.unlink()
                removed.append(path)
        except FileNotFoundError:  # its owner renamed it or another process cleaned it
            continue
    return removed


class HistoryWriter:
    """Collects rows of both tables and writes them out together; safe to share between threads.

    Lifecycle: ``add`` any number of times, ``flush`` when :meth:`due` (or at a safe point), and only
    then count what was added as done. A flush that fails keeps the rows it has not written, so a
    later one can succeed; rows are lost only with the process.
    """

    def __init__(
        self,
        directory: Path,
        flush_s: float,
        flush_bytes: int,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.directory = directory
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._monotonic_s = monotonic_s
        self._now = now
        self._lock = threading.Lock()  # guards the buffers
        self._flushing = threading.Lock()  # one flush at a time, while others may add
        self._buffers: dict[Table, list[pa.RecordBatch]] = {"events": [], "profiles": []}
        self._pending_bytes = 0
        self._oldest_s: float | None = None
        remove_leftovers(directory, now().timestamp())

    def add(self, table: Table, batch: pa.RecordBatch) -> None:
        """Buffer rows. Raises HistoryError when they are not of the table."""
        if not batch.schema.equals(SCHEMAS[table]):
            raise HistoryError(
                f"{table}: expected a batch of its schema, got another; build it with this module"
            )
        if not batch.num_rows:
            return
        with self._lock:
            self._buffers[table].append(batch)
            self._pending_bytes += batch.nbytes
            if self._oldest_s is None:
                self._oldest_s = self._monotonic_s()

    @property
    def pending_bytes(self) -> int:
        """Memory of the buffered rows, in bytes."""
        return self._pending_bytes

    def due(self) -> bool:
        """Whether rows have waited long enough, or are many enough, to be written."""
        oldest_s = self._oldest_s
        if oldest_s is None:
            return False
        return self._monotonic_s() - oldest_s >= self._flush_s or self.pending_bytes >= self._flush_bytes

    def flush(self) -> list[Path]:
        """Write all that was added before this call; gives the new files, at most one per table.

        Raises OSError when the disk refuses; what was not written stays buffered.
        """
        files = []
        with self._flushing:
            started_s = self._monotonic_s()
            for table, batches in self._buffers.items():
                with self._lock:
                    taken = list(batches)
                if not taken:
                    continue
                files.append(write_table(self.directory, table, taken, self._now()))
                with self._lock:
                    del batches[: len(taken)]
                    self._pending_bytes -= sum(batch.nbytes for batch in taken)
            with self._lock:
                self._oldest_s = started_s if any(self._buffers.values()) else None
        return files

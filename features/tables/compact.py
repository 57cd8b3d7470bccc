"""Rewrite the days of both tables as few files, sorted by user, beside running writers and readers.

A day is merged into new files under hidden names; these are renamed in, and only after a pause the files
they replace are removed. So a reader at any moment finds every row, for the length of the pause twice
(every view of ``views.sql`` is used to that). A reader that listed the files before the pause and
opens one after it fails with "no such file", and finds everything when it asks again.

There is no manifest. Files of one run carry its id in their names, and a day is done when all its files
are of one run: killed at any step, the next run finds a day that is not done, and merges whatever lies
there, duplicates of the broken run included. Writers only add files, which are never touched before they
have been merged.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from features.atomic_file import sync_folder
from features.errors import PortraitError, UsageError
from features.tables.files import damaged_rows, days_of, file_problem
from features.tables.merge import Limits, merge
from features.tables.schema import HistoryError, Table

GRACE_S: Final = 10.0
"""How long replaced files stay for readers that listed them."""

HIDDEN: Final = ".compact-"
"""What temporary files are called."""
SORTED: Final = re.compile(r"sorted-([0-9a-f]{32})-(\d{5})(?:-\d+)?\.parquet")
"""Run, number in it, and how often the file was written anew since (an erase does that)."""


class CompactError(PortraitError):
    """A compaction that cannot go on; what it had not finished is unchanged."""


@dataclass
class CompactReport:
    """What a compaction did."""

    days: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    duplicates: int = 0
    seconds: float = 0.0
    left_alone: list[str] = field(default_factory=list)
    """Files that are not of these tables, with the reason; nothing was done to them."""
    failed: list[str] = field(default_factory=list)
    """Days that could not be merged, with the reason; they are unchanged."""

    def as_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    def as_text(self) -> str:
        """A line of figures, then a line for whatever was left alone or failed."""
        total = (
            f"compacted {self.days} days: {self.files_before} files became {self.files_after}, "
            f"{self.bytes_before / 1e6:.1f} MB became {self.bytes_after / 1e6:.1f}; {self.rows} rows, "
            f"{self.duplicates} duplicates removed, in {self.seconds:.1f} s"
        )
        left = [f"left alone: {reason}" for reason in self.left_alone]
        return "\n".join([total, *left, *(f"failed: {reason}" for reason in self.failed)])


def compact(
    directory: Path,
    *,
    today: bool = False,
    limits: Limits | None = None,
    grace_s: float = GRACE_S,
    progress: Callable[[str], object] = lambda _: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> CompactReport:
    """Compact every day of both tables under ``directory`` that is not done; ``today`` too if asked.

    Raises UsageError where there is no such folder, CompactError while another compaction runs, and
    when the disk refuses: then the day in hand is unchanged, and a later run goes on from there.
    """
    started_s = time.monotonic()
    report = CompactReport()
    with exclusive(directory):
        remove_remains(directory)
        replaced = Replaced(grace_s)
        days = list(days_of(directory, None if today else now().astimezone(UTC).date()))
        try:
            for number, (table, folder) in enumerate(days, start=1):
                where = f"{table} {folder.name} ({number} of {len(days)})"
                sources = _sources(table, folder, report)
                if not _is_done(sources):
                    _compact_day(
                        table, folder, sources, limits or Limits(), report, where, progress, replaced
                    )
                replaced.remove_due()
        except CompactError:  # what is replaced takes room
            replaced.remove_all()
            raise
        if replaced:
            progress(f"waiting {grace_s:g} s for readers of replaced files")
        replaced.remove_all()
    report.seconds = round(time.monotonic() - started_s, 3)
    return report


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Held while files of the tables are replaced or removed; a killed process lets go of it.

    Raises UsageError where there is no such folder, CompactError if another process holds it.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory}: expected the folder of the parquet tables, got none; see history.dir")
    with (directory / ".compact.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CompactError(
                f"{directory}: expected to be the only one that replaces files, got another that does; "
                "wait until it is done"
            ) from None
        yield


def remove_remains(directory: Path) -> None:
    """Remove what a killed compaction or erase left: holding the lock, nobody else's."""
    for path in directory.glob(f"*/dt=*/{HIDDEN}*.tmp"):
        path.unlink(missing_ok=True)
    for path in directory.glob(f"{HIDDEN}spill-*"):
        shutil.rmtree(path, ignore_errors=True)


def _sources(table: Table, folder: Path, report: CompactReport) -> list[Path]:
    """The table's own files of a day; notes the others."""
    sources = []
    for file in sorted(folder.glob("[!.]*.parquet")):
        if problem := file_problem(table, file):
            report.left_alone.append(f"{table}/{folder.name}/{file.name}: {problem}")
        else:
            sources.append(file)
    return sources


def _is_done(sources: Sequence[Path]) -> bool:
    """Whether all of them are of one finished run (of a broken one, or a broken erase, sources are left)."""
    names = [name for file in sources if (name := SORTED.fullmatch(file.name))]
    numbers = {name[2] for name in names}
    return len({name[1] for name in names}) <= 1 and len(numbers) == len(names) == len(sources)


def _compact_day(
    table: Table,
    folder: Path,
    sources: Sequence[Path],
    limits: Limits,
    report: CompactReport,
    where: str,
    progress: Callable[[str], object],
    replaced: Replaced,
) -> None:
    """Merge, rename in, and hand the sources over for removal."""
    size = sum(file.stat().st_size for file in sources)
    progress(f"{where}: merging {len(sources)} files, {size / 1e6:.1f} MB")
    run = uuid.uuid4().hex
    spill = folder.parent.parent / f"{HIDDEN}spill-{run}"
    try:
        merged = merge(table, sources, folder / f"{HIDDEN}{run}-", limits, spill)
    except (duckdb.Error, HistoryError) as error:
        reason = damaged_rows(table, sources) or str(error).splitlines()[0]
        report.failed.append(f"{where}: expected to merge its files, got {reason}; it is unchanged")
        return
    except OSError as error:
        raise CompactError(
            f"{where}: expected room for {size / 1e6:.1f} MB of new files, got {error.strerror}; it is "
            "unchanged: make room and run again"
        ) from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    files = [
        temporary.rename(folder / f"sorted-{run}-{number:05d}.parquet")
        for number, temporary in enumerate(merged.files)
    ]
    sync_folder(folder)
    replaced.add(folder, sources)
    report.days += 1
    report.files_before += len(sources)
    report.files_after += len(files)
    report.bytes_before += size
    report.bytes_after += sum(file.stat().st_size for file in files)
    report.rows += merged.rows
    report.duplicates += merged.duplicates
    progress(f"{where}: {merged.rows} rows in {len(files)} files, {merged.duplicates} duplicates removed")


class Replaced:
    """Files whose rows are in new ones, until nobody can be about to open them."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._waiting: deque[tuple[float, Path, Sequence[Path]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, folder: Path, files: Sequence[Path]) -> None:
        self._waiting.append((time.monotonic() + self._grace_s, folder, files))

    def remove_due(self) -> None:
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            _, folder, files = self._waiting.popleft()
            for file in files:
                file.unlink(missing_ok=True)
            sync_folder(folder)

    def remove_all(self) -> None:
        while self._waiting:
            time.sleep(max(0.0, self._waiting[0][0] - time.monotonic()))
            self.remove_due()

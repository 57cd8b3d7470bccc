"""Take erased users out of both parquet tables, beside running writers and readers.

A file that holds one of them is written anew without her rows, under another name; the old one goes after
the pause that ``features.tables.compact`` gives its readers, under the same lock. Files without her are not
touched. Killed at any step, the next run finds the old file still there and does it again: until a
compaction, other users' rows may then lie there twice. A sorted day stays sorted and done.

Readers never see half of a file; those that list during the pause see an erased user once more.
"""

from __future__ import annotations

import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.atomic_file import sync_folder
from features.errors import PortraitError
from features.online.erased_users import Erased, ended
from features.schema import JOIN_KEY
from features.tables.compact import GRACE_S, HIDDEN, SORTED, Replaced, exclusive, remove_remains
from features.tables.files import days_of, file_problem, opened, strays, unreadable
from features.tables.merge import ROW_GROUP, rewrite
from features.tables.schema import SCHEMAS, HistoryError, Table
from features.tables.writer import remove_leftovers


class EraseError(PortraitError):
    """An erase that cannot go on; what it had not finished is unchanged."""


@dataclass
class TableErased:
    """What an erase found in one table, or removed from it."""

    files: int = 0
    rows: int = 0
    users: set[str] = field(default_factory=set, repr=False)
    """Those who had rows."""
    left_alone: list[str] = field(default_factory=list)
    """Files that are not of the table or cannot be read, with the reason: who is in them is not known."""


def rows_left(directory: Path, erased: Iterable[Erased]) -> dict[Table, TableErased]:
    """What both tables still hold of these users; changes nothing. A folder that is not there holds none."""
    rows, found = _Rows(erased), {table: TableErased() for table in SCHEMAS}
    for table, file in _files(directory, found):
        _look(table, file, rows, found[table])
    return found


def remove_users(
    directory: Path,
    erased: Iterable[Erased],
    *,
    grace_s: float = GRACE_S,
    progress: Callable[[str], object] = lambda _: None,
) -> dict[Table, TableErased]:
    """Remove every row of these users (of the readmitted: of their ended incarnations) from both tables.

    Raises CompactError while another process replaces files, EraseError when the disk refuses: what is
    done stays done, the file in hand is unchanged.
    """
    rows, removed = _Rows(erased), {table: TableErased() for table in SCHEMAS}
    if not directory.is_dir():
        return removed
    with exclusive(directory):
        remove_remains(directory)
        remove_leftovers(directory, time.time())
        replaced = Replaced(grace_s)
        try:
            for table, file in _files(directory, removed):
                found = TableErased()
                if _look(table, file, rows, found):
                    progress(f"{table}/{file.parent.name}/{file.name}: {found.rows} rows to remove")
                    if _replace(table, file, rows, removed[table]):
                        replaced.add(file.parent, [file])
                        _add(removed[table], found)
                removed[table].left_alone += found.left_alone
                replaced.remove_due()
        finally:
            if replaced:
                progress(f"waiting {grace_s:g} s for readers of replaced files")
            replaced.remove_all()
    return removed


def _add(total: TableErased, found: TableErased) -> None:
    total.files += 1
    total.rows += found.rows
    total.users |= found.users


def _files(directory: Path, found: dict[Table, TableErased]) -> Iterator[tuple[Table, Path]]:
    """Files of the tables, found anew in each folder; notes those that are not of them."""
    for table in SCHEMAS:
        found[table].left_alone += strays(directory, table)
    for table, folder in days_of(directory, None):
        for file in sorted(folder.glob("[!.]*.parquet")):
            if problem := file_problem(table, file):
                if file.exists():  # else a compaction or another erase was faster
                    found[table].left_alone.append(f"{table}/{folder.name}/{file.name}: {problem}")
            else:
                yield table, file


class _Rows:
    """Which rows must go."""

    def __init__(self, erased: Iterable[Erased]) -> None:
        self._everything, self._some = ended(erased)
        self._sorted = sorted([*self._everything, *self._some])
        self._users = pa.array(self._sorted, pa.string())

    def may_be_in(self, group: Any) -> bool:
        """Whether a row group can hold one of the users, by the least and greatest user that it names."""
        held = next(c for i in range(group.num_columns) if (c := group.column(i)).path_in_schema == JOIN_KEY)
        if not held.is_stats_set or not held.statistics.has_min_max:
            return bool(self._sorted)
        place = bisect_left(self._sorted, held.statistics.min)
        return place < len(self._sorted) and self._sorted[place] <= held.statistics.max

    def columns(self, table: Table) -> list[str]:
        """What :meth:`gone` reads."""
        if not self._some:
            return [JOIN_KEY]
        return [JOIN_KEY, *(("topic_key", "partition", "offset") if table == "events" else ("incarnation",))]

    def gone(self, batch: pa.RecordBatch) -> pa.Array:
        """bool array: the rows that must go."""
        named = pc.is_in(batch.column(JOIN_KEY), value_set=self._users)
        if not self._some:
            return named
        mask = np.array(named)  # copied: arrow's own cannot be written to
        for row in np.flatnonzero(mask).tolist():
            user = self._some.get(batch.column(JOIN_KEY)[row].as_py())
            mask[row] = user is None or _is_ended(batch, row, user)
        return pa.array(mask)


def _is_ended(batch: pa.RecordBatch, row: int, user: Erased) -> bool:
    """Whether a row of a readmitted user is of an incarnation that ended."""
    if "incarnation" in batch.schema.names:
        return bool(batch.column("incarnation")[row].as_py() < user.incarnation)
    source = batch.column("topic_key")[row].as_py(), batch.column("partition")[row].as_py()
    return bool(batch.column("offset")[row].as_py() <= user.gone.get(source, -1))


def _look(table: Table, file: Path, rows: _Rows, found: TableErased) -> bool:
    """Whether a file holds rows that must go; counts them and their users."""
    before = found.rows
    try:
        with opened(file) as parquet:
            groups = range(parquet.metadata.num_row_groups)
            chosen = [i for i in groups if rows.may_be_in(parquet.metadata.row_group(i))]
            for batch in parquet.iter_batches(ROW_GROUP, row_groups=chosen, columns=rows.columns(table)):
                gone = batch.filter(rows.gone(batch))
                found.rows += gone.num_rows
                found.users.update(gone.column(JOIN_KEY).unique().to_pylist())
    except FileNotFoundError:
        return False
    except (pa.ArrowException, OSError) as error:
        found.left_alone.append(unreadable(table, file, error))
        return False
    found.files += found.rows > before
    return found.rows > before


def _replace(table: Table, file: Path, rows: _Rows, removed: TableErased) -> bool:
    """Write a file anew without the rows, rename it in; whether the old one may go."""
    prefix = file.parent / f"{HIDDEN}{uuid.uuid4().hex}-"
    ordered = SORTED.fullmatch(file.name) is not None
    try:
        merged = rewrite(table, file, prefix, rows.gone, ordered=ordered)
    except (pa.ArrowException, HistoryError, OSError) as error:
        if not isinstance(error, OSError) or error.errno is None:  # pyarrow's own, of damaged pages
            removed.left_alone.append(unreadable(table, file, error))
            return False
        raise EraseError(
            f"{table}/{file.parent.name}/{file.name}: expected room for a copy, got {error.strerror}; it is "
            "unchanged: make room and run again"
        ) from error
    for temporary in merged.files:
        temporary.rename(_next_name(file))
    sync_folder(file.parent)
    return True


def _next_name(file: Path) -> Path:
    """Under which name a file comes back: a sorted one keeps its run and number."""
    if not (name := SORTED.fullmatch(file.name)):
        return file.with_name(f"part-{uuid.uuid4().hex}.parquet")
    stem = f"sorted-{name[1]}-{name[2]}"
    later = [int(other.stem.rpartition("-")[2]) for other in file.parent.glob(f"{stem}-*.parquet")]
    return file.with_name(f"{stem}-{max(later, default=0) + 1}.parquet")

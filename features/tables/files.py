"""The files of both tables: which there are, and which are not of them or cannot be read, by name.

Every answer is a sentence that says what to do with the file. Nothing here changes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.tables.schema import SCHEMAS, HistoryError, Table


class DamagedRowsError(HistoryError):
    """Rows that were read without an error, and yet are not what was written."""


def files_of(directory: Path, table: Table) -> list[Path]:
    """The parquet files that readers of a table find, in the order of their days."""
    return sorted((directory / table).glob("dt=*/[!.]*.parquet"))


def days_of(directory: Path, before: date | None) -> Iterator[tuple[Table, Path]]:
    """Every day's folder of both tables, oldest first."""
    for table in SCHEMAS:
        for folder in sorted((directory / table).glob("dt=*")):
            day = _day(folder)
            if day and folder.is_dir() and (before is None or day < before):
                yield table, folder


def _day(folder: Path) -> date | None:
    try:
        return date.fromisoformat(folder.name.removeprefix("dt="))
    except ValueError:
        return None


def strays(directory: Path, table: Table) -> Iterator[str]:
    """Parquet files under a table's folder that lie in none of its days, and what to do: some readers find
    them, and nothing sorts them or erases from them."""
    for file in sorted((directory / table).rglob("[!.]*.parquet")):
        if file.parent.parent != directory / table or not _day(file.parent):
            where = file.relative_to(directory)
            yield f"{where}: expected to lie in a folder dt=YYYY-MM-DD of {table}; move it elsewhere"


def file_problem(table: Table, file: Path) -> str | None:
    """Why a file is not of a table, and what to do; None: it is."""
    try:
        found = pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        return f"expected a whole parquet file, got {type(error).__name__}; restore or remove it"
    if found.equals(SCHEMAS[table], check_metadata=False):
        return None
    missing = sorted(set(SCHEMAS[table].names) - set(found.names))
    strange = sorted(set(found.names) - set(SCHEMAS[table].names))
    types = [
        n for n in found.names if n not in strange and found.field(n).type != SCHEMAS[table].field(n).type
    ]
    parts = {"without": missing, "with": strange, "with other types of": types}
    got = ", ".join(f"{word} {_few(names)}" for word, names in parts.items() if names) or "in another order"
    return (
        f"expected the columns of {table}, got a file {got}; another version or program wrote it: move it "
        "elsewhere"
    )


def _few(names: Sequence[str]) -> str:
    """The first names of many.

    >>> _few(["a", "b"]), _few(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def refuse_nobody(first_user: str) -> None:
    """Raises DamagedRowsError where rows sorted by user begin with a user of no name.

    DuckDB checks no page: of one with bytes missing it reads texts without letters.
    """
    if not first_user:
        raise DamagedRowsError("expected rows of users, got some of nobody")


def opened(file: Path) -> pq.ParquetFile:
    """A file of the tables; reading a page that is not as it was written raises."""
    return pq.ParquetFile(file, page_checksum_verification=True)


def damaged_rows(table: Table, files: Iterable[Path]) -> str | None:
    """The first file whose rows cannot be read, however whole its footer, and what to do; reads all."""
    for file in files:
        try:
            with opened(file) as parquet:
                for _ in parquet.iter_batches():
                    pass
        except FileNotFoundError:  # a compaction or an erase was faster
            continue
        except (pa.ArrowException, OSError) as error:
            return unreadable(table, file, error)
    return None


def unreadable(table: Table, file: Path, error: Exception) -> str:
    """What to say of a file whose rows cannot be read."""
    return (
        f"{table}/{file.parent.name}/{file.name}: expected rows that can be read, got "
        f"{type(error).__name__}; restore or remove it"
    )


def first_problem(directory: Path, table: Table) -> str | None:
    """The first file under ``directory`` that is not of the table, and why; None: all of them are."""
    for file in files_of(directory, table):
        if not _day(file.parent):
            return next(strays(directory, table))
        if problem := file_problem(table, file):
            return f"{table}/{file.parent.name}/{file.name}: {problem}"
    return None


def why_unreadable(directory: Path, tables: Sequence[Table] = tuple(SCHEMAS)) -> str | None:
    """What made a reader of the tables fail: a file that is not of its table, else one with damaged rows.

    Reads everything in the worst case: to be asked after a failure only.
    """
    problems = chain(
        (first_problem(directory, table) for table in tables),
        (damaged_rows(table, files_of(directory, table)) for table in tables),
    )
    return next((problem for problem in problems if problem), None)

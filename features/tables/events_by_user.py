"""The ``events`` table as the fold takes it: arrays, all events of a user together, memory bounded.

DuckDB sorts by user, and spills to disk what does not fit; from there on everything is arrow and numpy.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import EVENT_DTYPE, JOIN_KEY
from features.tables.compact import HIDDEN
from features.tables.files import DamagedRowsError, files_of, first_problem, refuse_nobody, why_unreadable
from features.tables.merge import ROW_GROUP, Limits
from features.tables.rows import NUMBER_COLUMNS, event_numbers
from features.tables.schema import SCHEMAS, HistoryError, Table
from features.taxonomy import Taxonomy

USERS_AT_ONCE: Final = 500
EVENTS_AT_ONCE: Final = 50_000
"""About how many events are given at once; a user with more comes alone."""


@dataclass(frozen=True)
class UserEvents:
    """Some users and all of their events."""

    users: list[str]
    revisions: npt.NDArray[np.int64]
    """int64 [users]: the greatest revision that the ``profiles`` table has of each; 0: none."""
    user_of: npt.NDArray[np.int64]
    """int64 [events]: index in ``users``."""
    numbers: npt.NDArray[Any]
    """EVENT_DTYPE [events]."""


def events_by_user(
    directory: Path,
    event_space: str,
    taxonomy: Taxonomy,
    users: Sequence[str] | None = None,
    limits: Limits | None = None,
) -> Iterator[UserEvents]:
    """Content events of one event space, sorted by user, rows that came twice included.

    ``users``: of these alone. Raises HistoryError for files that are not of the tables or that DuckDB or
    this version cannot read (of other categories, for example).
    """
    for table in SCHEMAS:
        if problem := first_problem(directory, table):
            raise HistoryError(problem)
    if not files_of(directory, "events"):
        return
    limits = limits or Limits()
    spill = directory / f"{HIDDEN}spill-{uuid.uuid4().hex}"
    try:
        with _refusals(directory), limits.connect(spill) as db:
            wanted = "" if users is None else f"AND {JOIN_KEY} IN (SELECT unnest($users))"
            values = {"space": event_space} | ({} if users is None else {"users": list(users)})
            query = _sql(directory, wanted)
            yield from _groups(db.sql(query, params=values).to_arrow_reader(ROW_GROUP), taxonomy)
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def distinct_users(
    directory: Path, event_space: str, sample: int | None = None, seed: int | None = None
) -> list[str]:
    """Users that either table has in an event space, sorted; ``sample``: so many of them by chance.

    Raises HistoryError as :func:`events_by_user`.
    """
    chosen = [table for table in SCHEMAS if files_of(directory, table)]
    if not chosen:
        return []
    one = "SELECT {} FROM {} WHERE event_space = $space"
    query = " UNION ".join(one.format(JOIN_KEY, _relation(directory, table)) for table in chosen)
    if sample is not None:
        repeat = "" if seed is None else f" REPEATABLE ({int(seed)})"
        ordered = f"({query}) ORDER BY 1"  # a seed needs one order
        query = f"SELECT * FROM ({ordered}) USING SAMPLE reservoir({int(sample)} ROWS){repeat}"  # noqa: S608
    with _refusals(directory), duckdb.connect(config={"threads": 1}) as db:
        users = sorted(user for (user,) in db.execute(query, {"space": event_space}).fetchall())
        if users:
            refuse_nobody(users[0])
    return users


@contextmanager
def _refusals(directory: Path) -> Iterator[None]:
    """Errors of reading as HistoryError: DuckDB's own name no file, and through arrow they are OSErrors."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, DamagedRowsError) as error:
        raise HistoryError(
            why_unreadable(directory)
            or f"{directory}: expected tables that DuckDB reads, got {str(error).splitlines()[0]}; correct it"
        ) from error


def _sql(directory: Path, wanted: str) -> str:
    columns = ", ".join(f'e."{name}"' for name in (JOIN_KEY, *NUMBER_COLUMNS))
    revisions = "SELECT NULL AS user_id, 0 AS revision WHERE false"
    if files_of(directory, "profiles"):
        held = _relation(directory, "profiles")
        revisions = f"SELECT user_id, max(revision) AS revision FROM {held} GROUP BY user_id"  # noqa: S608
    return (
        f"SELECT {columns}, coalesce(p.revision, 0)::BIGINT AS revision "  # noqa: S608
        f"FROM (SELECT * FROM {_relation(directory, 'events')} "
        f"WHERE event_space = $space AND kind = 'content' {wanted}) e "
        f"LEFT JOIN ({revisions}) p USING ({JOIN_KEY}) ORDER BY {JOIN_KEY}"
    )


def _relation(directory: Path, table: Table) -> str:
    files = str(directory / table / "dt=*" / "*.parquet").replace("'", "''")
    return f"read_parquet('{files}', hive_partitioning = false)"


def _groups(batches: pa.RecordBatchReader, taxonomy: Taxonomy) -> Iterator[UserEvents]:
    """Cut the sorted rows between users."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        names = batch.column(JOIN_KEY)
        last = pc.index(names, names[batch.num_rows - 1]).as_py()
        if last or (waiting and waiting[-1].column(JOIN_KEY)[0] != names[0]):
            yield from _decoded([*waiting, batch.slice(0, last)], taxonomy)
            waiting = []
        waiting.append(batch.slice(last))
    yield from _decoded(waiting, taxonomy)


def _decoded(batches: Sequence[pa.RecordBatch], taxonomy: Taxonomy) -> Iterator[UserEvents]:
    """Whole users, so many at once as a store takes."""
    rows = sum(batch.num_rows for batch in batches)
    if not rows:
        return
    numbers = np.concatenate(
        [event_numbers(b, taxonomy).view((np.void, EVENT_DTYPE.itemsize)) for b in batches]
    )
    table = pa.Table.from_batches(batches, batches[0].schema).select([JOIN_KEY, "revision"]).combine_chunks()
    named = table[JOIN_KEY].combine_chunks().dictionary_encode()
    user_of = named.indices.to_numpy().astype(np.int64)
    users = named.dictionary.to_pylist()
    refuse_nobody(users[0])
    starts = np.searchsorted(user_of, np.arange(len(users) + 1))  # sorted: codes grow by first appearance
    revisions = table["revision"].to_numpy()[starts[:-1]]
    first = 0
    while first < len(users):
        most = int(np.searchsorted(starts, starts[first] + EVENTS_AT_ONCE, side="right")) - 1
        last = min(len(users), first + USERS_AT_ONCE, max(most, first + 1))
        part = slice(int(starts[first]), int(starts[last]))
        yield UserEvents(
            users[first:last], revisions[first:last], user_of[part] - first, numbers[part].view(EVENT_DTYPE)
        )
        first = last

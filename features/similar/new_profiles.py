"""What the ``profiles`` table holds that an index of similar users has not seen yet.

Files of the table never change, so the names seen are the watermark: neither late rows nor compactions
slip through it. A compaction's files are read once more, and change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.schema import EMBEDDING_DIM
from features.similar.storage import SimilarError
from features.tables.files import why_unreadable

_NO_ROWS: Final = (
    "(SELECT '' AS user_id, now() AS created, 0 AS revision, 0 AS incarnation, '' AS profile_space, "
    "CAST([] AS FLOAT[]) AS embedding WHERE false)"
)
Seen = Mapping[str, Sequence[str]]
"""Day folder → names of its files."""


@dataclass(frozen=True)
class News:
    """The newest row of each user in the files that were not seen."""

    users: pa.Array
    created_us: npt.NDArray[np.int64]
    incarnation: npt.NDArray[np.int64]
    space: npt.NDArray[np.object_]
    vectors: npt.NDArray[np.float32]  # [n, EMBEDDING_DIM]
    newest_space: str
    """Of the row that was written last; empty: no row."""
    newest_us: int
    files: int
    seen: dict[str, list[str]]
    """All files there are now."""
    live: list[str] | None
    """Every user of the table, where files seen are gone, so that users may be; else None."""


def read_news(history_dir: Path, seen: Seen) -> News:
    """Read the files of ``profiles`` that are not among ``seen``.

    Raises SimilarError for a file that is not of the table.
    """
    for attempt in range(2):
        try:
            return _read(history_dir / "profiles", seen)
        except duckdb.Error as error:
            if not isinstance(error, duckdb.IOException) or attempt:
                raise SimilarError(_reason(history_dir, error)) from error
    raise AssertionError("unreachable: the second attempt returns or raises")


def _reason(history_dir: Path, error: duckdb.Error) -> str:
    said = " ".join(str(error).split())
    return why_unreadable(history_dir, ["profiles"]) or (
        f"similar: expected files of the table profiles, got {said}; look at the files of {history_dir}"
    )


def _read(table: Path, seen: Seen) -> News:
    now = {
        day.name: sorted(file.name for file in day.glob("[!.]*.parquet"))
        for day in sorted(table.glob("dt=*"))
    }
    new = [table / day / name for day, names in now.items() for name in set(names) - set(seen.get(day, ()))]
    vanished = any(set(names) - set(now.get(day, ())) for day, names in seen.items())
    everything = [table / day / name for day, names in now.items() for name in names]
    with duckdb.connect() as db:
        rows = _latest(db, new)
        live = None
        if vanished:
            users = f"SELECT DISTINCT user_id FROM {_files_sql(everything)}" if everything else ""  # noqa: S608
            live = [user for (user,) in db.execute(users).fetchall()] if users else []
    created_us = rows["created"].cast(pa.int64()).to_numpy()
    space = rows["profile_space"].to_numpy(zero_copy_only=False)
    newest = int(created_us.argmax()) if len(created_us) else -1
    return News(
        rows["user_id"].cast(pa.string()).combine_chunks(),
        created_us,
        rows["incarnation"].cast(pa.int64()).to_numpy(),
        space,
        _vectors(rows["embedding"]),
        str(space[newest]) if newest >= 0 else "",
        int(created_us[newest]) if newest >= 0 else 0,
        len(new),
        now,
        live,
    )


def _files_sql(files: Sequence[Path]) -> str:
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"read_parquet([{names}], hive_partitioning = false)"


def _latest(db: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> pa.Table:
    db.execute("SET TimeZone = 'UTC'")
    source = _files_sql(files) if files else _NO_ROWS
    return db.sql(
        f"SELECT user_id, created, incarnation, profile_space, embedding FROM {source} "  # noqa: S608 - our files
        "QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY created DESC, revision DESC) = 1"
    ).to_arrow_table()


def _vectors(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if len(flat) != len(column) * EMBEDDING_DIM:
        raise SimilarError(
            f"similar: expected vectors of {EMBEDDING_DIM} floats, got {len(flat)} floats in {len(column)} "
            "profiles; another version wrote them: move its files elsewhere"
        )
    vectors: npt.NDArray[np.float32] = flat.reshape(-1, EMBEDDING_DIM).astype(np.float32, copy=False)
    return vectors

"""Audiences (圈人): the users whose newest profiles meet a condition, and their export.

A user who is erased is never among them, whether or not the erase has reached the parquet files: callers say
from which ``incarnation`` on a user's profiles count (:data:`NEVER` for a tombstone).
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from features.atomic_file import whole_file
from features.audience.language import Expression
from features.errors import PortraitError, UsageError
from features.schema import JOIN_KEY
from features.tables.views import ask

NOBODY: Final[Mapping[str, int]] = MappingProxyType({})
NEVER: Final = 1 << 62
"""Greater than any incarnation."""
TOP_TAGS: Final = 5
"""Tags beside each member of an audience."""
_TAGS_FORM: Final = (
    '[{"id": "VARCHAR", "weight": "DOUBLE", "confidence": "DOUBLE", "last_seen": "TIMESTAMPTZ", '
    '"share": {"text": "DOUBLE", "image": "DOUBLE", "voice": "DOUBLE"}}]'
)
_ASPECTS_FORM: Final = '[{"id": "VARCHAR", "weight": "DOUBLE", "sentiment": "DOUBLE"}]'


class ExportError(PortraitError):
    """An export that the disk refuses; nothing of it is visible."""


@dataclass(frozen=True)
class Audience:
    """Who matched, and among how many."""

    rows: int
    """Profile rows in the table, every version of every user."""
    users: int
    """Users who have one and are not erased."""
    matched: int
    """Users who meet the condition; ``limit`` may keep fewer."""
    members: pa.Table
    """``user_id``, a column for each value of the expression, ``top_tags`` (ids, strongest first); by user
    id, or by falling ``similarity``."""


def find_audience(
    directory: Path,
    expression: Expression | None,
    now: datetime,
    *,
    counts_from: Mapping[str, int] = NOBODY,
    nearest: pa.Table | None = None,
    limit: int | None = None,
) -> Audience:
    """Evaluate an expression (None: everybody) over the newest profiles under ``directory``.

    ``counts_from``: user → first incarnation that counts, for users who were erased. ``nearest``:
    ``user_id`` and ``similarity`` (-1..1); only these users are asked for, the nearest first. Nothing is
    written. Raises SqlError for files that are not profiles.
    """

    def work(db: duckdb.DuckDBPyConnection) -> Audience:
        matching(db, expression, now, counts_from, nearest)
        order = f"similarity DESC, {JOIN_KEY}" if nearest is not None else JOIN_KEY
        members = db.sql(
            f"SELECT * EXCLUDE (matched) FROM matching WHERE matched ORDER BY {order} "  # noqa: S608 - own names
            f"LIMIT {'ALL' if limit is None else int(limit)}"
        ).to_arrow_table()
        ((rows, users, matched),) = db.execute(
            "SELECT (SELECT count(*) FROM profiles), count(*), count(*) FILTER (matched) FROM matching"
        ).fetchall()
        return Audience(rows, users, matched, members)

    return ask(directory, work)


def matching(
    db: duckdb.DuckDBPyConnection,
    expression: Expression | None,
    now: datetime,
    counts_from: Mapping[str, int],
    nearest: pa.Table | None = None,
) -> None:
    """Make the temporary table ``matching``: a row a user, the columns of an audience, and ``matched``."""
    erased = (pa.array(counts_from.keys(), pa.string()), pa.array(counts_from.values(), pa.int64()))
    db.register("erased_users", pa.table(erased, names=[JOIN_KEY, "counts_from"]))
    joined, columns = "", dict(expression.columns) if expression else {}
    if nearest is not None:
        db.register("nearest", nearest)
        joined, columns = f"JOIN nearest USING ({JOIN_KEY})", {**columns, "similarity": "similarity"}
    parameters: dict[str, Any] = dict(expression.parameters) if expression else {}
    sql = "".join(columns.values())
    read = []
    if "read_tags" in sql and expression:
        parameters["categories"] = list(expression.categories)
        read.append(
            "CASE WHEN list_has_any(interests, $categories) "  # most users' tags need not be parsed
            f"THEN from_json(tags, '{_TAGS_FORM}') END AS read_tags"
        )
    if "read_aspects" in sql:
        read.append(f"from_json(aspects, '{_ASPECTS_FORM}') AS read_aspects")
    if "$now" in sql:
        parameters["now"] = now
    named = "".join(f', {text} AS "{name}"' for name, text in columns.items())
    names = "".join(f', "{name}"' for name in columns)
    db.execute(
        f"CREATE OR REPLACE TEMP TABLE matching AS "  # noqa: S608 - words of the language and parameters
        f"SELECT {JOIN_KEY}{names}, top_tags, "
        f"{expression.condition if expression else 'true'} AS matched FROM ("
        f"SELECT {JOIN_KEY}, interests[:{TOP_TAGS}] AS top_tags{named} FROM ("
        f"SELECT {', '.join(['*', *read])} FROM profiles_latest {joined} "
        f"LEFT JOIN erased_users USING ({JOIN_KEY}) WHERE incarnation >= coalesce(counts_from, 0)))",
        parameters,
    )


def write_members(audience: Audience, out: Path) -> None:
    """Write the members to ``out``, whole or not at all: ``.parquet``, or ``.txt`` with one user id a line.

    Raises UsageError for another suffix, ExportError when the disk refuses.
    """
    check_out(out)
    try:
        with whole_file(out) as file:
            if out.suffix == ".parquet":
                pq.write_table(audience.members, file, compression="zstd")
            else:
                text = "".join(f"{user}\n" for user in audience.members[JOIN_KEY].to_pylist())
                # An id that begins with a byte order mark keeps it: readers drop only the first.
                file.write((BOM_UTF8 if text.startswith("\ufeff") else b"") + text.encode())
    except OSError as error:
        raise ExportError(
            f"{out}: expected to write it, got {error.strerror}; nothing was written: name another file"
        ) from error


def check_out(out: Path) -> None:
    """Raises UsageError unless the name says how to write it, and where is a folder."""
    if out.suffix not in (".parquet", ".txt"):
        raise UsageError(
            f"{out}: expected a name that ends in .parquet or .txt, got {out.suffix!r}; rename it"
        )
    if not out.parent.is_dir():
        raise UsageError(f"{out}: expected a folder to write into, got none at {out.parent}; make it")

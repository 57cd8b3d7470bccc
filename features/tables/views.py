"""SQL over the parquet tables: the views of ``views.sql`` in DuckDB, and a dictionary of all columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any, Final, TypeVar

import duckdb
import pyarrow as pa

from features.errors import PortraitError
from features.schema import JOIN_KEY, PROFILE_FIELDS
from features.tables.files import files_of, why_unreadable
from features.tables.schema import SCHEMAS, TIME, Table

_T = TypeVar("_T")

VIEWS_FILE: Final = Path(__file__).with_name("views.sql")
EXAMPLES_FILE: Final = Path(__file__).with_name("examples.sql")

EVENT_DOCS: Final[Mapping[str, str]] = {
    "source": "CloudEvents source; with event_id the identity of the event",
    "event_id": "CloudEvents id",
    "topic": "Kafka topic of the record",
    "topic_key": "hash of the topic id: a recreated topic is another one",
    "partition": "of the record",
    "offset": "of the record",
    "event_time": "when it happened, as the event says",
    "record_time": "timestamp of the Kafka record",
    "event_key": "hash of source and event_id: what evidence names",
    "content_key": "hash of the content",
    "kind": "content, erase or readmit",
    "modality": "text, image or voice",
    "lang": "zh, en, other or none",
    "category": "first level of the strongest tag; null: no tag",
    "tags": "[{id, score}]: at most four",
    "sentiment": "-1..1; null: none was judged",
    "aspects": "[{id, sentiment}] of a review; sentiment is -1, 0 or 1",
    "labels": "JSON: head → [label, score], for heads that did not abstain",
    "embedding": "unit vector of the shared space, rounded to 16 bits",
    "event_space": "names the encoders (hex)",
    "taxonomy": "fingerprint of the categories behind tags",
}
_KEY_DOCS: Final[dict[str, str]] = {
    JOIN_KEY: "the shopper",
    "event_timestamp": "newest event time of the profile: what point-in-time joins use",
    "created": "when the profile was written; grows with every revision",
    "dt": "UTC day of writing (the folder)",
}
_PROFILE_DOCS: Final = _KEY_DOCS | {field.name: field.doc for field in PROFILE_FIELDS}
_EVENT_DOCS: Final = {**_KEY_DOCS, **EVENT_DOCS}

_TYPES: Final[Mapping[pa.DataType, str]] = {
    pa.string(): "VARCHAR", TIME: "TIMESTAMPTZ", pa.float32(): "FLOAT", pa.float16(): "FLOAT",
    pa.int8(): "TINYINT", pa.int64(): "BIGINT", pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT",
}  # fmt: skip


_OF_QUERIES: Final = (duckdb.ParserException, duckdb.CatalogException)
"""What DuckDB says of a query alone, whatever the files are."""


class SqlError(PortraitError):
    """A query or a file that DuckDB refuses."""


def views_sql(directory: Path) -> str:
    """``views.sql`` over the tables in ``directory``: statements for any DuckDB, paths absolute."""
    tables: dict[str, str] = {table: _relation(directory.resolve(), table) for table in SCHEMAS}
    return Template(VIEWS_FILE.read_text(encoding="utf-8")).substitute(tables)


@contextmanager
def connect(directory: Path, file: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that has the views, in memory or in ``file`` (made if absent; its views are renewed).

    Raises SqlError for a file that is no DuckDB database, or for parquet that is not of the tables.
    """
    with _refusals(), duckdb.connect(str(file or ":memory:")) as db:
        db.execute("SET TimeZone = 'UTC'")
        db.execute(views_sql(directory))
        yield db


def query(directory: Path, text: str, file: Path | None = None) -> pa.Table:
    """The rows of a query over the views. Raises SqlError saying what DuckDB refused."""

    def rows(db: duckdb.DuckDBPyConnection) -> pa.Table:
        relation = db.sql(text)
        return pa.table({}) if relation is None else relation.to_arrow_table()

    return ask(directory, rows, file)


def ask(directory: Path, work: Callable[[duckdb.DuckDBPyConnection], _T], file: Path | None = None) -> _T:
    """What ``work`` makes of a DuckDB that has the views.

    Raises SqlError saying which file cannot be read, or what DuckDB refused.

    A file that a compaction removed between its listing and its opening is no refusal: ``work`` is called
    once more, with a new DuckDB.
    """
    for attempt in range(2):
        try:
            with connect(directory, file) as db:
                return work(db)
        except SqlError as error:
            if attempt or not isinstance(error.__cause__, duckdb.IOException):
                if not isinstance(error.__cause__, _OF_QUERIES) and (problem := why_unreadable(directory)):
                    raise SqlError(problem) from error
                raise
    raise AssertionError("unreachable: the second attempt returns or raises")


def dictionary() -> str:
    """Markdown: every table and view with its columns, types and meanings, from the schema and views.sql."""
    with connect(Path("/nonexistent")) as db:
        views = db.execute(
            "SELECT view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY view_oid"
        ).fetchall()
        columns = db.execute(
            "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() "
            "WHERE NOT internal ORDER BY column_index"
        ).fetchall()
        macros = db.execute(
            "SELECT function_name, parameters, comment FROM duckdb_functions() "
            "WHERE function_type = 'table_macro' AND NOT internal"
        ).fetchall()
    lines = [
        "# Data dictionary",
        "",
        "Times are UTC. Rows of the tables may come twice; the views drop them.",
    ]
    for view, purpose in views:
        docs = _EVENT_DOCS if view.startswith("events") else _PROFILE_DOCS | {
            n: EVENT_DOCS[n] for n in ("source", "event_id", "event_time", "modality", "labels")
        }  # fmt: skip
        lines += ["", f"## {view}", "", purpose, "", "| column | type | meaning |", "|---|---|---|"]
        own = [column[1:] for column in columns if column[0] == view]
        lines += [f"| {name} | {kind} | {said or docs[name]} |" for name, kind, said in own]
    for name, parameters, purpose in macros:
        lines += ["", f"## {name}({', '.join(parameters)})", "", f"{purpose} Columns as in profiles."]
    return "\n".join(lines) + "\n"


def examples() -> dict[str, str]:
    """Question → query, of ``examples.sql``."""
    found = re.findall(r"^-- (.+\?)\n((?:(?!--).+\n)+)", EXAMPLES_FILE.read_text(encoding="utf-8"), re.M)
    return {question: text.strip().rstrip(";") for question, text in found}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        said = " ".join(str(error).split())
        raise SqlError(
            f"sql: expected a query and files that DuckDB takes, got {said}; correct it"
        ) from error


def _relation(directory: Path, table: Table) -> str:
    """How DuckDB reads a table; one without a file yet is empty, of the same columns.

    The columns are named: else a file that lacks one would, listed first, hide it in all of them.
    """
    if files_of(directory, table):
        files = str(directory / table / "dt=*" / "*.parquet").replace("'", "''")
        named = ", ".join(f'"{name}"' for name in (*SCHEMAS[table].names, "dt"))
        read = f"read_parquet('{files}', hive_partitioning = true, hive_types = {{'dt': DATE}})"
        return f"(SELECT {named} FROM {read})"  # noqa: S608 - own names
    columns = ", ".join(f'CAST(NULL AS {_sql_type(f.type)}) AS "{f.name}"' for f in SCHEMAS[table])
    return f"(SELECT {columns}, CAST(NULL AS DATE) AS dt WHERE false)"


def _sql_type(kind: Any) -> str:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"{_sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        inner = ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in kind)
        return f"STRUCT({inner})"
    return _TYPES[kind]

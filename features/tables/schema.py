"""The two parquet tables that analysts read and profiles are rebuilt from: ``events`` and ``profiles``.

Rows are at-least-once: their keys are (``source``, ``event_id``) in ``events`` and (``user_id``,
``revision``) in ``profiles``. Absent numbers (no sentiment, no time) are null, never NaN or 1970.
``embedding`` of ``events`` is parquet FLOAT16, which pandas, Polars and DuckDB read as numbers
(Spark does not). ``features.tables.writer`` makes the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import pyarrow as pa

from features.errors import PortraitError
from features.schema import (
    EMBEDDING_DIM,
    JOIN_KEY,
    PROFILE_FIELDS,
    FieldType,
    Kind,
)

Table = Literal["events", "profiles"]

SIMILAR: Final = "similar"
"""Folder of the index of similar users, beside the tables."""

TIME: Final = pa.timestamp("us", tz="UTC")

_FIELD_TYPES: Final[Mapping[FieldType, pa.DataType]] = {
    "vector": pa.list_(pa.float32()),
    "float": pa.float32(),
    "int": pa.int64(),
    "string": pa.string(),
    "strings": pa.list_(pa.string()),
    "time": TIME,
    "json": pa.string(),
}

PROFILES_SCHEMA: Final = pa.schema(
    [
        (JOIN_KEY, pa.string()),
        ("event_timestamp", TIME),  # newest event time: what point-in-time joins use
        ("created", TIME),  # when the row was written; grows with every revision
        *((f.name, _FIELD_TYPES[f.type]) for f in PROFILE_FIELDS),
    ]
)
"""One row per written profile: the columns of ``features.schema.PROFILE_FIELDS`` and their keys."""

EVENTS_SCHEMA: Final = pa.schema(
    [
        (JOIN_KEY, pa.string()),
        ("source", pa.string()),
        ("event_id", pa.string()),
        ("topic", pa.string()),
        ("topic_key", pa.uint64()),
        ("partition", pa.uint32()),
        ("offset", pa.int64()),
        ("event_time", TIME),
        ("record_time", TIME),  # of the Kafka record
        ("event_key", pa.uint64()),
        ("content_key", pa.uint64()),
        ("kind", pa.string()),
        ("modality", pa.string()),
        ("lang", pa.string()),
        ("category", pa.string()),  # first level of the strongest tag; null: no tag
        ("tags", pa.list_(pa.struct([("id", pa.string()), ("score", pa.float32())]))),
        ("sentiment", pa.float32()),
        ("aspects", pa.list_(pa.struct([("id", pa.string()), ("sentiment", pa.int8())]))),
        ("labels", pa.string()),  # JSON {"head": ["label", score]}
        ("embedding", pa.list_(pa.float16(), EMBEDDING_DIM)),
        ("event_space", pa.string()),
        ("taxonomy", pa.string()),  # fingerprint of the categories behind tags
    ]
)
"""One row per encoded event, never raw content."""

KINDS: Final = tuple(k.name.lower() for k in Kind)

SCHEMAS: Final[Mapping[Table, pa.Schema]] = {"events": EVENTS_SCHEMA, "profiles": PROFILES_SCHEMA}


def _texts(name: str, kind: pa.DataType) -> Iterator[str]:
    """Parquet paths of the strings in a column."""
    if pa.types.is_string(kind):
        yield name
    elif pa.types.is_list(kind):
        yield from _texts(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for inner in kind:
            yield from _texts(f"{name}.{inner.name}", inner.type)


PARQUET: Final[Mapping[Table, Mapping[str, Any]]] = {
    table: {
        "compression": "zstd",
        "use_dictionary": [path for field in schema for path in _texts(field.name, field.type)],
        "write_page_checksum": True,
    }
    for table, schema in SCHEMAS.items()
}
"""How files are written. Vectors never repeat: a dictionary of them takes time and a third more room."""


class HistoryError(PortraitError, ValueError):
    """Rows or files that are not of these tables."""

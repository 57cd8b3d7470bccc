"""Rows of the tables as arrow batches: from profiles and encoded events, and back bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import (
    ASPECTS,
    EMBEDDING_DIM,
    EVENT_DTYPE,
    JOIN_KEY,
    LANGUAGES,
    MODALITIES,
    NO_TAG,
    TAGS_PER_EVENT,
    EncodedEvent,
)
from features.tables.schema import _FIELD_TYPES, EVENTS_SCHEMA, KINDS, PROFILES_SCHEMA, TIME, HistoryError
from features.taxonomy import Taxonomy


def profile_batch(user_ids: Sequence[str], columns: Mapping[str, Any]) -> pa.RecordBatch:
    """Rows of ``profiles``, one per user, in the order given.

    ``columns``: every name of PROFILE_FIELDS plus ``event_timestamp`` and ``created``, each with a
    value per user: vectors float32[n, EMBEDDING_DIM], times int µs (0 = none), floats (NaN = none).
    Raises HistoryError for a missing column or a wrong length.
    """
    arrays = [pa.array(user_ids, pa.string())]
    for field in list(PROFILES_SCHEMA)[1:]:
        if field.name not in columns:
            raise HistoryError(f"profiles: expected a column {field.name}, got none; see PROFILE_FIELDS")
        array = _column(columns[field.name], field.type)
        if len(array) != len(user_ids):
            raise HistoryError(
                f"profiles.{field.name}: expected {len(user_ids)} values, got {len(array)}; give one per user"
            )
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=PROFILES_SCHEMA)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if kind == _FIELD_TYPES["vector"]:
        rows: npt.NDArray[np.float32] = np.ascontiguousarray(values, np.float32).reshape(-1, EMBEDDING_DIM)
        offsets = np.arange(0, rows.size + 1, EMBEDDING_DIM, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
    if kind == TIME:
        return _times(values, zero_is_none=True)
    if kind == pa.float32():
        return _floats(values)
    if kind == pa.int64():
        return pa.array(np.asarray(values).astype(np.int64))
    return pa.array(list(values), kind)


def _times(values_us: Any, *, zero_is_none: bool = False) -> pa.Array:
    """int µs since 1970 → timestamp[us, UTC]."""
    array: npt.NDArray[np.int64] = np.asarray(values_us, np.int64)
    return pa.array(array, mask=(array == 0) if zero_is_none else None).cast(TIME)


def _floats(values: Any) -> pa.Array:
    """Floats → float32 with null for NaN, so that SQL averages leave them out."""
    array: npt.NDArray[np.float32] = np.asarray(values, np.float32)
    return pa.array(array, mask=np.isnan(array))


def event_batch(events: Sequence[EncodedEvent], event_space: str, taxonomy: Taxonomy) -> pa.RecordBatch:
    """Rows of ``events``, in the order given, from which :func:`events_from_batch` rebuilds every bit.

    Raises HistoryError for numbers that are not in canonical form (see :func:`_check_canonical`).
    """
    numbers = np.frombuffer(b"".join(e.numbers for e in events), EVENT_DTYPE)
    _check_canonical(numbers, len(taxonomy.categories))
    used = numbers["tag"] != NO_TAG
    mentioned = _aspect_bits(numbers)
    aspects = pa.array(np.broadcast_to(np.arange(len(ASPECTS), dtype=np.int8), mentioned.shape)[mentioned])
    plain = {
        name: pa.array(np.ascontiguousarray(numbers[name]))
        for name in ("topic_key", "partition", "offset", "event_key", "content_key")
    }
    columns: dict[str, pa.Array] = plain | {
        JOIN_KEY: pa.array([e.user_id for e in events], pa.string()),
        "source": pa.array([e.source for e in events], pa.string()),
        "event_id": pa.array([e.event_id for e in events], pa.string()),
        "topic": pa.array([e.topic for e in events], pa.string()),
        "event_time": _times(numbers["event_time_us"]),
        "record_time": _times(numbers["record_time_us"]),
        "kind": _names(numbers["kind"], KINDS),
        "modality": _names(numbers["modality"], MODALITIES),
        "lang": _names(numbers["lang"], LANGUAGES),
        "category": _top_categories(numbers, used, taxonomy),
        "tags": _lists(
            used.sum(axis=1),
            id=_names(numbers["tag"][used], [c.id for c in taxonomy.categories]),
            score=pa.array(numbers["tag_score"][used]),
        ),
        "sentiment": _floats(numbers["sentiment"]),
        "aspects": _lists(
            mentioned.sum(axis=1),
            id=_names(aspects, ASPECTS),
            sentiment=pa.array(numbers["aspect_sentiment"][mentioned]),
        ),
        "labels": pa.array([e.labels for e in events], pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(numbers["embedding"]).reshape(-1)), EMBEDDING_DIM
        ),
        "event_space": pa.repeat(event_space, len(events)),
        "taxonomy": pa.repeat(taxonomy.fingerprint, len(events)),
    }
    return pa.RecordBatch.from_arrays([columns[f.name] for f in EVENTS_SCHEMA], schema=EVENTS_SCHEMA)


def _check_canonical(numbers: npt.NDArray[Any], categories: int) -> None:
    """One event has one form: known codes, tags first and gaps after, zeros where nothing is said."""
    used = numbers["tag"] != NO_TAG
    silent = ~_aspect_bits(numbers)
    rules = {
        f"kind below {len(KINDS)}": numbers["kind"] >= len(KINDS),
        f"modality below {len(MODALITIES)}": numbers["modality"] >= len(MODALITIES),
        f"lang below {len(LANGUAGES)}": numbers["lang"] >= len(LANGUAGES),
        f"tags below {categories}": (used & (numbers["tag"] >= categories)).any(axis=1),
        "unused tag slots last": (used[:, 1:] & ~used[:, :-1]).any(axis=1),
        "score 0 in unused tag slots": (~used & (numbers["tag_score"] != 0)).any(axis=1),
        f"aspect_mask below {1 << len(ASPECTS)}": numbers["aspect_mask"] >> len(ASPECTS) != 0,
        "aspect_sentiment 0 where not mentioned": (silent & (numbers["aspect_sentiment"] != 0)).any(axis=1),
    }
    for rule, broken in rules.items():
        if broken.any():
            raise HistoryError(f"event {int(broken.argmax())} of the batch: expected {rule}, got otherwise")


def _aspect_bits(numbers: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """[n, len(ASPECTS)]: which aspects were mentioned."""
    bits: npt.NDArray[np.bool_] = (numbers["aspect_mask"][:, None] >> np.arange(len(ASPECTS)) & 1).astype(
        bool
    )
    return bits


def _names(codes: Any, names: Sequence[str]) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes))


def _lists(lengths: npt.NDArray[Any], **fields: pa.Array) -> pa.Array:
    """Structs of the flat ``fields``, cut into one list per row."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(
        pa.array(offsets), pa.StructArray.from_arrays(list(fields.values()), list(fields))
    )


def _top_categories(numbers: npt.NDArray[Any], used: npt.NDArray[np.bool_], taxonomy: Taxonomy) -> pa.Array:
    best = np.where(used, numbers["tag_score"], -np.inf).argmax(axis=1)
    slots = numbers["tag"][np.arange(len(numbers)), best]
    first_levels = [c.parent or c.id for c in taxonomy.categories]
    return pa.array(first_levels, pa.string()).take(pa.array(slots, mask=slots == NO_TAG))


def events_from_batch(batch: pa.RecordBatch, taxonomy: Taxonomy) -> list[EncodedEvent]:
    """The inverse of :func:`event_batch`, bit for bit, given a taxonomy that has the same ids.

    Other columns (``dt`` of the folder) are ignored; types of other readers (float32 embeddings) are
    cast back. Raises HistoryError for foreign rows and for tags that the taxonomy does not have.
    """
    packed = event_numbers(batch, taxonomy).tobytes()
    cuts = itertools.pairwise(range(0, len(packed) + 1, EVENT_DTYPE.itemsize))
    texts = _columns(batch, (JOIN_KEY, "source", "event_id", "topic", "labels")).values()
    return [
        EncodedEvent(user, source, event, topic, labels, packed[start:end])
        for user, source, event, topic, labels, (start, end) in zip(
            *(column.to_pylist() for column in texts), cuts, strict=True
        )
    ]


NUMBER_COLUMNS: Final = (
    "topic_key", "partition", "offset", "event_time", "record_time", "event_key", "content_key", "kind",
    "modality", "lang", "tags", "sentiment", "aspects", "embedding",
)  # fmt: skip
"""Columns of ``events`` that :func:`event_numbers` reads."""


def event_numbers(batch: pa.RecordBatch, taxonomy: Taxonomy) -> npt.NDArray[Any]:
    """The numbers of rows of ``events`` (EVENT_DTYPE [n]); reads NUMBER_COLUMNS alone.

    Raises HistoryError as :func:`events_from_batch`.
    """
    rows = _columns(batch, NUMBER_COLUMNS)
    numbers = np.zeros(batch.num_rows, EVENT_DTYPE)
    numbers["tag"] = NO_TAG
    for name in ("topic_key", "partition", "offset", "event_key", "content_key", "sentiment"):
        numbers[name] = rows[name].to_numpy(zero_copy_only=False)
    for name in ("event_time", "record_time"):
        numbers[f"{name}_us"] = rows[name].cast(pa.int64()).to_numpy()
    for name, known in (("kind", KINDS), ("modality", MODALITIES), ("lang", LANGUAGES)):
        numbers[name] = _codes(rows[name], known, name)
    numbers["embedding"] = rows["embedding"].flatten().to_numpy().reshape(-1, EMBEDDING_DIM)
    _fill_lists(numbers, rows, taxonomy)
    return numbers


def _columns(batch: pa.RecordBatch, names: Sequence[str]) -> dict[str, pa.Array]:
    """Columns of ``events``, cast to their types. Raises HistoryError where they are missing or others."""
    schema = pa.schema([EVENTS_SCHEMA.field(name) for name in names])
    try:
        table = pa.Table.from_batches([batch]).select(list(names)).cast(schema)
    except (KeyError, ValueError) as error:
        raise HistoryError(f"events: expected rows of its schema, got others; {error}") from error
    return {name: table[name].combine_chunks() for name in names}


def _fill_lists(numbers: npt.NDArray[Any], rows: Mapping[str, pa.Array], taxonomy: Taxonomy) -> None:
    row, place = _places(rows["tags"], TAGS_PER_EVENT, "tags")
    tags = rows["tags"].flatten()
    numbers["tag"][row, place] = _codes(tags.field("id"), [c.id for c in taxonomy.categories], "tags")
    numbers["tag_score"][row, place] = tags.field("score").to_numpy()
    row, _ = _places(rows["aspects"], len(ASPECTS), "aspects")
    aspects = rows["aspects"].flatten()
    which = _codes(aspects.field("id"), ASPECTS, "aspects")
    numbers["aspect_sentiment"][row, which] = aspects.field("sentiment").to_numpy()
    np.bitwise_or.at(numbers["aspect_mask"], row, np.left_shift(1, which).astype(np.uint16))


def _places(lists: pa.Array, most: int, where: str) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and place in its list of every item, in their order."""
    lengths = pc.list_value_length(lists).to_numpy()
    if (lengths > most).any():
        raise HistoryError(f"events.{where}: expected at most {most} items, got {int(lengths.max())}")
    inside = np.arange(most) < lengths[:, None]
    row, place = inside.nonzero()
    return row, place


def _codes(names: pa.Array, known: Sequence[str], where: str) -> npt.NDArray[np.int64]:
    codes = pc.index_in(names, value_set=pa.array(known, pa.string()))
    if codes.null_count:
        unknown = names.filter(codes.is_null()).unique().to_pylist()[:3]
        raise HistoryError(f"events.{where}: expected names of this version and taxonomy, got {unknown}")
    result: npt.NDArray[np.int64] = codes.to_numpy().astype(np.int64)
    return result


def query_hint(directory: Path) -> str:
    """A DuckDB query to try: the latest profile of every user."""
    files = str(directory / "profiles" / "**" / "*.parquet").replace("'", "''")
    return (
        "SELECT user_id, top_category, interests, sentiment, version, last_event\n"
        f"FROM read_parquet('{files}')\n"
        "QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY revision DESC) = 1\n"
        "ORDER BY user_id"
    )

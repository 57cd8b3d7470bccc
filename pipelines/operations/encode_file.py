"""Encode one column of a parquet file outside any pipeline: the same encoders, the same verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from features.atomic_file import whole_file
from features.errors import UsageError
from features.schema import Modality
from models.encoder import Encoded, Encoder, TextContent
from pipelines.messages.record import Reason
from pipelines.operations.parquet_columns import (
    CAST_TO_TEXT,
    batches,
    is_bytes,
    is_media,
    is_text,
    misfit,
    open_parquet,
    refuse_paths_alone,
    type_of,
    values_of,
)
from pipelines.process import worker
from pipelines.settings import Settings
from pipelines.steps.encode import Failure, decode, encode_halving

_ROWS_AT_ONCE: Final = 256


def encode_file(
    source: Path, out: Path, modality: str, column: str, id_column: str, settings: Settings
) -> tuple[int, int]:
    """Write the id, ``embedding`` list<float32>[64], ``event_space``, ``lang``, ``<head>``, ``<head>_score``
    and ``error`` for every row of ``source``, in its order. Returns (rows, rows with an error).

    A row that cannot be encoded keeps its place with nulls and a reason code; one without content is
    ``empty_value``. Raises UsageError before a model is loaded where a column does not fit.
    """
    file = open_parquet(source)
    kind = type_of(source, file, column)
    type_of(source, file, id_column)
    _refuse_misfit(source, column, kind, modality)
    refuse_paths_alone(source, file, column)
    held = worker(settings)
    encoder = held.encoders[Modality[modality.upper()]]
    rows = failed = 0
    heads = sorted(encoder.encode([]).heads)
    schema = _schema(file.schema_arrow.field(id_column), heads)
    if schema.names.count(id_column) > 1:
        raise UsageError(
            f"{source}: expected an id column of another name, got {id_column!r}, which the file to write "
            "has itself; rename it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        Progress(transient=True, console=Console(stderr=True)) as progress,
        whole_file(out) as written,
        pq.ParquetWriter(written, schema, compression="zstd") as writer,
    ):
        task = progress.add_task(f"encoding {modality}", total=file.metadata.num_rows)
        for batch in batches(source, file, _ROWS_AT_ONCE, list({column, id_column})):
            contents = [_content(value, modality) for value in values_of(batch.column(column))]
            encoded = list(_encode_rows(contents, encoder))
            rows += len(encoded)
            failed += sum(row.get("error") is not None for row in encoded)
            ids = batch.column(id_column)
            columns = {name: [row.get(name) for row in encoded] for name in schema.names[1:]}
            columns["event_space"] = [held.spaces.event_space] * len(encoded)
            arrays = [ids, *(pa.array(columns[f.name], f.type) for f in list(schema)[1:])]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            progress.advance(task, len(encoded))
    return rows, failed


def _schema(id_field: pa.Field, heads: Sequence[str]) -> pa.Schema:
    fields = [
        id_field,
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("event_space", pa.string()),
        pa.field("lang", pa.string()),
    ]
    for head in heads:
        fields += [pa.field(head, pa.string()), pa.field(f"{head}_score", pa.float32())]
    return pa.schema([*fields, pa.field("error", pa.string())])


def _refuse_misfit(source: Path, column: str, kind: Any, modality: str) -> None:
    """Raises UsageError for a column whose type is not that of the modality's contents."""
    if modality == "text":
        if not is_text(kind):
            raise UsageError(misfit(source, column, kind, "text", f"name another column, or {CAST_TO_TEXT}"))
    elif not (is_bytes(kind) or is_media(kind)):
        what_to_do = "name another column, or write the bytes of the files into it, not their paths or base64"
        raise UsageError(misfit(source, column, kind, "bytes or {bytes, path}", what_to_do))


def _content(value: bytes | None, modality: str) -> TextContent | bytes | Failure:
    """A cell as the encoder takes it."""
    if value is None:
        return Failure(Reason.EMPTY_VALUE, "", "expected content, got a null")
    if modality != "text":
        return value
    try:
        return TextContent(value.decode())
    except UnicodeDecodeError as error:
        return Failure(Reason.BAD_ENCODING, type(error).__name__, "expected UTF-8, got other bytes")


def _encode_rows(contents: Sequence[Any], encoder: Encoder) -> Iterator[dict[str, Any]]:
    """One dict per content, in order; a content that cannot be encoded has its reason code as ``error``."""
    rows: list[dict[str, Any]] = [{} for _ in contents]
    places, samples = [], []
    for i, content in enumerate(contents):
        decoded = content if isinstance(content, Failure) else decode(content, encoder)
        if isinstance(decoded, Failure):
            rows[i]["error"] = decoded.reason.value
        else:
            places.append(i)
            samples.append(decoded.sample)
    for start, encoded in encode_halving(samples, encoder):
        if isinstance(encoded, Exception):
            rows[places[start]]["error"] = f"{Reason.INFERENCE_FAILED}: {type(encoded).__name__}"
        else:
            for k, row in enumerate(_rows(encoded)):
                rows[places[start + k]] = row
    return iter(rows)


def _rows(encoded: Encoded) -> Iterator[dict[str, Any]]:
    for i, vector in enumerate(encoded.embedding):
        row: dict[str, Any] = {"embedding": vector.tolist(), "error": None}
        row["lang"] = encoded.lang[i] if encoded.lang else None
        for name, head in encoded.heads.items():
            row[name] = head.labels[i]
            row[f"{name}_score"] = float(head.scores[i])
        if encoded.sentiment is not None:  # of this head the score is that of "positive"
            row["sentiment_score"] = (float(encoded.sentiment[i]) + 1) / 2
        yield row

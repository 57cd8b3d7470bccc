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
from pipelines.process import worker
from pipelines.settings import Settings
from pipelines.steps.encode import Failure, decode, encode_halving

_ROWS_AT_ONCE: Final = 256


def encode_file(
    source: Path, out: Path, modality: str, column: str, id_column: str, settings: Settings
) -> tuple[int, int]:
    """Write the id, ``embedding`` list<float32>[64], ``event_space``, ``lang``, ``<head>``, ``<head>_score``
    and ``error`` for every row of ``source``, in its order. Returns (rows, rows with an error).

    A row that cannot be encoded keeps its place with nulls and a reason code. Raises UsageError.
    """
    held = worker(settings)
    encoder = held.encoders[Modality[modality.upper()]]
    try:
        file = pq.ParquetFile(source)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{source}: expected a parquet file, got {type(error).__name__}") from error
    for name in (column, id_column):
        if name not in file.schema_arrow.names:
            raise UsageError(f"{source}: expected a column {name!r}, got {file.schema_arrow.names}")
    rows = failed = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    heads = sorted(encoder.encode([]).heads)
    schema = _schema(file.schema_arrow.field(id_column), heads)
    with (
        Progress(transient=True, console=Console(stderr=True)) as progress,
        whole_file(out) as written,
        pq.ParquetWriter(written, schema, compression="zstd") as writer,
    ):
        task = progress.add_task(f"encoding {modality}", total=file.metadata.num_rows)
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list({column, id_column})):
            encoded = list(_encode_rows(batch.column(column).to_pylist(), encoder))
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


def _encode_rows(contents: Sequence[Any], encoder: Encoder) -> Iterator[dict[str, Any]]:
    """One dict per content, in order; a content that cannot be encoded has its reason code as ``error``."""
    rows: list[dict[str, Any]] = [{} for _ in contents]
    places, samples = [], []
    for i, content in enumerate(contents):
        decoded = decode(TextContent(content) if isinstance(content, str) else content, encoder)
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

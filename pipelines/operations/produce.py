"""``portrait produce``: send an event file to Kafka, in its order, acknowledged when done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from features.errors import UsageError
from pipelines.kafka.producer import Sender
from pipelines.messages.dead_letter import Headers, Message
from pipelines.messages.parse import CONTROL_OF_TYPE, IMAGE, REVIEW, VOICE
from pipelines.settings import Settings, Topics

_COLUMNS: Final = ("topic", "key", "value", "headers")
_STRUCTURED: Final = (("content-type", b"application/cloudevents+json; charset=utf-8"),)


def produce_file(file: Path, settings: Settings) -> int:
    """Send every event of ``file``; the number sent, all acknowledged.

    Parquet: columns ``topic`` (one of reviews, images, voices, controls: the settings say what each is
    called; other names are topics as they are), ``key``, ``value`` (binary) and ``headers`` (map). Else
    JSON lines, one structured CloudEvent each; its type names the topic.

    Raises UsageError naming the row, KafkaFailureError.
    """
    sender = Sender(settings.kafka)
    sent = 0
    try:
        with Progress(transient=True, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"sending {file.name}", total=_rows(file))
            for message in read_messages(file, settings.kafka.topics):
                sender.send(*message)
                sent += 1
                progress.advance(task)
    finally:
        sender.close()
    return sent


def read_messages(file: Path, topics: Topics) -> Iterator[Message]:
    """The messages of an event file, in its order. Raises UsageError."""
    return _from_parquet(file, topics) if _is_parquet(file) else _from_json_lines(file, topics)


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"PAR1"
    except OSError as error:
        raise UsageError(f"{file}: expected an event file, got {error.strerror}; check the path") from error


def _rows(file: Path) -> int | None:
    """How many to come, where the file says so."""
    return int(pq.ParquetFile(file).metadata.num_rows) if _is_parquet(file) else None


def _from_parquet(file: Path, topics: Topics) -> Iterator[Message]:
    try:
        parquet = pq.ParquetFile(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{file}: expected a whole parquet file, got a damaged one") from error
    if missing := [name for name in _COLUMNS if name not in parquet.schema_arrow.names]:
        raise UsageError(f"{file}: expected columns {', '.join(_COLUMNS)}, got no {', '.join(missing)}")
    for batch in parquet.iter_batches(1024, columns=list(_COLUMNS)):
        for row in batch.to_pylist():
            topic = getattr(topics, row["topic"], row["topic"])
            headers = tuple((name, _bytes(value)) for name, value in row["headers"] or ())
            yield Message(topic, _bytes(row["key"]), _bytes(row["value"]), headers)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _from_json_lines(file: Path, topics: Topics) -> Iterator[Message]:
    topic_of = {REVIEW: topics.reviews, IMAGE: topics.images, VOICE: topics.voices}
    topic_of |= dict.fromkeys(CONTROL_OF_TYPE, topics.controls)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _from_line(f"{file}:{number}", line.strip(), topic_of)


def _from_line(where: str, line: bytes, topic_of: dict[str, str]) -> Message:
    """What the line is must be known to send it; whether it is right is for the pipeline to judge."""
    try:
        event: Any = json.loads(line)
    except ValueError as error:
        raise UsageError(
            f"{where}: expected a JSON object, got a syntax error; one CloudEvent per line"
        ) from error
    kind = event.get("type") if isinstance(event, dict) else None
    if kind not in topic_of:
        raise UsageError(f"{where}: expected type to be one of {', '.join(topic_of)}, got {str(kind)[:80]!r}")
    subject = event.get("subject")
    headers: Headers = _STRUCTURED
    return Message(topic_of[kind], subject.encode() if isinstance(subject, str) else None, line, headers)

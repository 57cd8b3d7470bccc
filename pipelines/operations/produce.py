"""``portrait produce``: send an event file to Kafka, in its order, acknowledged when done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from features.errors import UsageError
from pipelines.kafka.producer import Sender
from pipelines.messages.dead_letter import Headers, Message
from pipelines.messages.parse import CONTROL_OF_TYPE, IMAGE, REVIEW, VOICE
from pipelines.operations.parquet_columns import (
    CAST_TO_TEXT,
    batches,
    headers_reader,
    is_bytes,
    is_media,
    is_text,
    may_be_null,
    misfit,
    names_are_sure,
    open_parquet,
    refuse_paths_alone,
    type_of,
    values_of,
)
from pipelines.settings import Settings, Topics

_COLUMNS: Final = ("topic", "key", "value", "headers")
_ROWS_AT_ONCE: Final = 1024
_ReadHeaders = Callable[[Any], Headers]
_STRUCTURED: Final = (("content-type", b"application/cloudevents+json; charset=utf-8"),)


def produce_file(file: Path, settings: Settings) -> int:
    """Send every event of ``file``; the number sent, all acknowledged.

    Parquet: columns ``topic`` (one of reviews, images, voices, controls: the settings say what each is
    called; other names are topics as they are), ``key``, ``value`` (a null stays one) and ``headers``, in
    the types of any tool. Else JSON lines, one structured CloudEvent each; its type names the topic.

    Raises UsageError naming the column or the row (of parquet before anything is sent), KafkaFailureError.
    """
    messages = read_messages(file, settings.kafka.topics)
    sender = Sender(settings.kafka)
    sent = 0
    try:
        with Progress(transient=True, console=Console(stderr=True)) as progress:
            task = progress.add_task(f"sending {file.name}", total=_rows(file))
            for message in messages:
                sender.send(*message)
                sent += 1
                progress.advance(task)
    finally:
        sender.close()
    return sent


def read_messages(file: Path, topics: Topics) -> Iterator[Message]:
    """The messages of an event file, in its order. Raises UsageError; for parquet at once, about any row."""
    return _from_parquet(file, topics) if _is_parquet(file) else _from_json_lines(file, topics)


def _is_parquet(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(4) == b"PAR1"
    except OSError as error:
        raise UsageError(f"{file}: expected an event file, got {error.strerror}; check the path") from error


def _rows(file: Path) -> int | None:
    """How many to come, where the file says so."""
    return int(open_parquet(file).metadata.num_rows) if _is_parquet(file) else None


def _from_parquet(file: Path, topics: Topics) -> Iterator[Message]:
    parquet = open_parquet(file)
    if missing := [name for name in _COLUMNS if name not in parquet.schema_arrow.names]:
        raise UsageError(
            f"{file}: expected columns {', '.join(_COLUMNS)}, got no {', '.join(missing)}; add or rename them"
        )
    kinds = {name: type_of(file, parquet, name) for name in _COLUMNS}
    read_headers = headers_reader(kinds["headers"])
    problems = list(_misfits(file, kinds))
    if problems or read_headers is None:
        raise UsageError("\n".join(problems))
    refuse_paths_alone(file, parquet, "value")
    _check_rows(file, parquet, read_headers)
    return _messages(file, parquet, read_headers, topics)


def _misfits(file: Path, kinds: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the types of the columns."""
    topic, key, value, headers = (kinds[name] for name in _COLUMNS)
    if not is_text(topic):
        yield misfit(file, "topic", topic, "text", "write reviews, images, voices, controls or another topic")
    if not (is_text(key) or is_bytes(key)):
        yield misfit(file, "key", key, "text or bytes", CAST_TO_TEXT)
    if not (is_text(value) or is_bytes(value) or is_media(value)):
        what_to_do = "write JSON as text, and media as the bytes of their file"
        yield misfit(file, "value", value, "text, bytes or {bytes, path}", what_to_do)
    if headers_reader(headers) is None:
        expected = (
            "a map, a list of {key, value}, a list of [name, value] or a struct of names, of text or bytes"
        )
        yield misfit(file, "headers", headers, expected, "write one of these, numbers and times as text")


def _check_rows(file: Path, parquet: Any, read_headers: _ReadHeaders) -> None:
    """Look at the columns in which a row may be wrong though the types are right. Raises UsageError."""
    may_lack = {name: may_be_null(parquet, name) for name in ("topic", "key")}
    columns = ["topic"] if may_lack["topic"] else []
    columns += [] if names_are_sure(parquet.schema_arrow.field("headers").type) else ["headers"]
    columns += ["key", "value"] if may_lack["key"] else []
    first = 1
    for batch in batches(file, parquet, _ROWS_AT_ONCE, columns) if columns else ():
        if "headers" in columns:
            _headers_of(file, first, batch.column("headers"), read_headers)
        if "topic" in columns and (rows := _nulls(batch, "topic")):
            raise UsageError(f"{file}: row {first + min(rows)}: expected a topic, got a null; name it")
        if "key" in columns and (rows := _nulls(batch, "key") & _nulls(batch, "value")):
            raise UsageError(
                f"{file}: row {first + min(rows)}: expected a key or a value, got neither; leave the row out"
            )
        first += len(batch)


def _nulls(batch: Any, column: str) -> set[int]:
    """Places of the rows without a value."""
    array = batch.column(column)
    array = pc.struct_field(array, "bytes") if is_media(array.type) else array
    return set(pc.indices_nonzero(pc.is_null(array)).to_pylist())


def _headers_of(file: Path, first: int, array: Any, read: _ReadHeaders) -> list[Headers]:
    """Headers of a batch whose first row has this number. Raises UsageError naming the row."""
    found: list[Headers] = []
    try:
        found.extend(map(read, array.to_pylist()))
    except ValueError as error:
        said = "expected UTF-8, got other bytes" if isinstance(error, UnicodeError) else error
        raise UsageError(
            f"{file}: row {first + len(found)}: column 'headers': {said}; correct the row"
        ) from error
    return found


def _messages(file: Path, parquet: Any, read_headers: _ReadHeaders, topics: Topics) -> Iterator[Message]:
    name_of = {field.name.encode(): getattr(topics, field.name) for field in fields(topics)}
    first = 1
    for batch in batches(file, parquet, _ROWS_AT_ONCE, _COLUMNS):
        topic_of, keys, values = (values_of(batch.column(name)) for name in _COLUMNS[:3])
        headers = _headers_of(file, first, batch.column("headers"), read_headers)
        for topic, key, value, own in zip(topic_of, keys, values, headers, strict=True):
            name = topic or b""
            yield Message(name_of.get(name, name.decode(errors="replace")), key, value, own)
        first += len(batch)


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
    key = subject.encode(errors="surrogatepass") if isinstance(subject, str) else None
    return Message(topic_of[kind], key, line, headers)

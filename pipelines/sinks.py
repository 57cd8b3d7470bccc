"""Where a run's results go: the parquet tables, the dead-letter topics, the changelog topic.

DoFns hold settings only. Writers and producers are made once a process and kept in this module, so
that nothing of them is ever pickled. Parquet rows are buffered there: in local rounds the driver
calls ``history_writer(settings).flush()`` and moves the resume positions only after it. What goes to
Kafka is acknowledged by the brokers before a bundle counts as done.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from features.history import Table
from features.history_writer import HistoryWriter
from features.schema import JOIN_KEY, PROFILE_FIELDS
from pipelines import metrics
from pipelines.kafka import Sender, dead_letter
from pipelines.records import Rejected
from pipelines.settings import Settings, SettingsError

_lock = threading.Lock()
_writers: dict[str, HistoryWriter] = {}
_senders: dict[str, Sender] = {}


def history_writer(settings: Settings) -> HistoryWriter:
    """The process's one writer of the parquet tables of these settings."""
    history = settings.history
    with _lock:
        if (key := repr(history)) not in _writers:
            _writers[key] = HistoryWriter(history.dir, history.flush_s, history.flush_bytes)
        return _writers[key]


def sender(settings: Settings) -> Sender:
    """The process's one producer to the brokers of these settings."""
    with _lock:
        if (key := repr(settings.kafka)) not in _senders:
            _senders[key] = Sender(settings.kafka)
        return _senders[key]


class WriteProfiles(beam.PTransform[Any, Any]):
    """``pa.RecordBatch`` of the ``profiles`` table → the buffer of :func:`history_writer`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, batches: PCollection[pa.RecordBatch]) -> Any:
        return batches | "BufferProfiles" >> beam.ParDo(_BufferFn("profiles", self._settings))


class WriteEvents(beam.PTransform[Any, Any]):
    """``pa.RecordBatch`` of the ``events`` table → the buffer of :func:`history_writer`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, batches: PCollection[pa.RecordBatch]) -> Any:
        return batches | "BufferEvents" >> beam.ParDo(_BufferFn("events", self._settings))


class _BufferFn(beam.DoFn):
    def __init__(self, table: Table, settings: Settings) -> None:
        self._table: Final = table
        self._settings: Final = settings

    def process(self, batch: pa.RecordBatch) -> None:
        history_writer(self._settings).add(self._table, batch)


class WriteRejected(beam.PTransform[Any, Any]):
    """``Rejected`` → its dead-letter topic, byte for byte, counted by reason."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, rejected: PCollection[Rejected]) -> Any:
        return rejected | "SendDeadLetters" >> beam.ParDo(_DeadLetterFn(self._settings))


class WriteChangelog(beam.PTransform[Any, Any]):
    """Written profiles (``pa.RecordBatch``) and erased users (``str``) → the changelog topic.

    Key = user id; value = :func:`changelog_value`, or null for an erased user, so that a compacted
    topic keeps each user's latest profile and forgets erased ones. Raises SettingsError without a topic.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        if not settings.outputs.changelog:
            raise SettingsError(
                "outputs.changelog: expected a topic, got none; name one or leave this sink out"
            )
        self._fn = _ChangelogFn(settings, settings.outputs.changelog)

    def expand(self, changes: PCollection[pa.RecordBatch | str]) -> Any:
        return changes | "SendChanges" >> beam.ParDo(self._fn)


class _SendingFn(beam.DoFn):
    """Ends a bundle only when the brokers have acknowledged what it sent."""

    def __init__(self, settings: Settings) -> None:
        self._settings: Final = settings

    def start_bundle(self) -> None:
        self._sent = False

    def _send(self, topic: str, key: bytes | None, value: bytes | None, headers: Any) -> None:
        sender(self._settings).send(topic, key, value, headers)
        self._sent = True

    def finish_bundle(self) -> None:
        if self._sent:
            sender(self._settings).flush()


class _DeadLetterFn(_SendingFn):
    def process(self, rejected: Rejected) -> None:
        self._send(*dead_letter(rejected, self._settings.outputs.dead_letter_suffix))
        metrics.REJECTS.labels(reason=rejected.reason).inc()


class _ChangelogFn(_SendingFn):
    def __init__(self, settings: Settings, topic: str) -> None:
        super().__init__(settings)
        self._topic: Final = topic

    def process(self, change: pa.RecordBatch | str) -> None:
        if isinstance(change, str):
            self._send(self._topic, change.encode(), None, ())
            return
        for row in change.to_pylist():
            revision = str(row["revision"]).encode()
            self._send(self._topic, row[JOIN_KEY].encode(), changelog_value(row), (("revision", revision),))


_JSON_FIELDS: Final = frozenset(field.name for field in PROFILE_FIELDS if field.type == "json")


def changelog_value(row: dict[str, Any]) -> bytes:
    """A row of ``profiles`` as UTF-8 JSON: vectors as lists, times as ISO 8601 in UTC, none as null."""
    return json.dumps(dict(_plain(row)), ensure_ascii=False, allow_nan=False).encode()


def _plain(row: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name in _JSON_FIELDS and value is not None:
            yield name, json.loads(value)
        elif isinstance(value, datetime):
            yield name, value.isoformat(timespec="microseconds").replace("+00:00", "Z")
        else:
            yield name, value

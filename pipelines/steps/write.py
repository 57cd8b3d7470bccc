"""Where a run's results go: the parquet tables, the dead-letter topics, the changelog topic.

DoFns hold settings only. Writers and producers are made once a process and kept in this module, so
that nothing of them is ever pickled. In local rounds parquet rows are buffered there: the driver calls
``history_writer(settings).flush()`` and moves the resume positions only after it; endless jobs group them in
panes. What goes to Kafka is acknowledged by the brokers before a bundle counts as done.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import PCollection

from features.online.erased_users import erased_among
from features.schema import JOIN_KEY, PROFILE_FIELDS
from features.tables.schema import SCHEMAS, Table
from features.tables.writer import HistoryWriter, remove_leftovers, write_table
from pipelines import metrics
from pipelines.kafka.producer import RecordTooLargeError, Sender
from pipelines.messages.dead_letter import dead_letter
from pipelines.messages.mentioned_users import named_users
from pipelines.messages.record import Rejected
from pipelines.process import worker
from pipelines.settings import Endless, Settings, SettingsError
from pipelines.steps.spool import TopicLimits, fitted, message_bytes, spool_of
from pipelines.steps.windowing import history_panes

_lock = threading.Lock()
_writers: dict[str, HistoryWriter] = {}
_senders: dict[str, Sender] = {}
_limits: dict[str, TopicLimits] = {}


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


def close_sender(settings: Settings) -> None:
    """Close the process's producer to the brokers of these settings, if there is one; its thread ends."""
    with _lock:
        closing = _senders.pop(repr(settings.kafka), None)
    if closing is not None:
        closing.close()


def topic_limits(settings: Settings) -> TopicLimits:
    """The process's one knowledge of what the dead-letter topics of these settings take."""
    with _lock:
        if (key := repr(settings.kafka)) not in _limits:
            _limits[key] = TopicLimits(settings.kafka)
        return _limits[key]


class _WriteTable(beam.PTransform[Any, Any]):
    """``pa.RecordBatch`` of one table → parquet.

    Bounded rounds: into the buffer of :func:`history_writer`, which the driver flushes. An endless job (with
    ``panes``) groups the rows of ``history_s`` into ``history_files`` files; until a file is written its
    rows are in the runner's checkpoints, so a crash repeats files and loses none.
    """

    _table: Table

    def __init__(self, settings: Settings, panes: Endless | None = None) -> None:
        super().__init__()
        self._settings = settings
        self._panes = panes

    def expand(self, batches: PCollection[pa.RecordBatch]) -> Any:
        if self._panes is None:
            return batches | "Buffer" >> beam.ParDo(_BufferFn(self._table, self._settings))
        files = self._panes.history_files
        packed = batches | "Pack" >> beam.Map(
            lambda batch: (random.randrange(files), batch.serialize().to_pybytes())  # noqa: S311 - no secret
        ).with_output_types(tuple[int, bytes])
        return (
            packed
            | "Panes" >> history_panes(self._panes)
            | "GroupByFile" >> beam.GroupByKey()
            | "WriteFiles" >> beam.ParDo(_WriteFilesFn(self._table, self._settings))
        )


class WriteProfiles(_WriteTable):
    """Rows of the ``profiles`` table."""

    _table = "profiles"


class WriteEvents(_WriteTable):
    """Rows of the ``events`` table."""

    _table = "events"


class _BufferFn(beam.DoFn):
    def __init__(self, table: Table, settings: Settings) -> None:
        self._table: Final = table
        self._settings: Final = settings

    def process(self, batch: pa.RecordBatch) -> None:
        history_writer(self._settings).add(self._table, batch)


class _WriteFilesFn(beam.DoFn):
    """A group of packed batches → files of at most ``history.flush_bytes`` in memory each."""

    def __init__(self, table: Table, settings: Settings) -> None:
        self._table: Final = table
        self._history: Final = settings.history

    def setup(self) -> None:
        remove_leftovers(self._history.dir, time.time())

    def process(self, group: tuple[int, Iterable[bytes]]) -> None:
        for batches in _parts(group[1], SCHEMAS[self._table], self._history.flush_bytes):
            write_table(self._history.dir, self._table, batches, datetime.now(UTC))


def _parts(packed: Iterable[bytes], schema: pa.Schema, most_bytes: int) -> Iterator[list[pa.RecordBatch]]:
    part: list[pa.RecordBatch] = []
    size = 0
    for data in packed:
        if part and size + len(data) > most_bytes:
            yield part
            part, size = [], 0
        part.append(pa.ipc.read_record_batch(pa.py_buffer(data), schema))
        size += len(data)
    if part:
        yield part


class WriteRejected(beam.PTransform[Any, Any]):
    """``Rejected`` → its dead-letter topic, byte for byte, counted by reason; what the topic does not take is
    spooled or cut (:mod:`pipelines.steps.spool`).

    What names an erased user is counted only: a producer that goes on sending leaves nothing of her. The
    store is asked once for many rejects, so good records pay nothing for it. Raises StoreError.
    """

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


_REJECTS_AT_ONCE: Final = 500
_REJECTS_AT_ONCE_BYTES: Final = 16 << 20


class _DeadLetterFn(_SendingFn):
    def setup(self) -> None:
        self._limits = topic_limits(self._settings)
        self._spool = spool_of(self._settings)

    def start_bundle(self) -> None:
        super().start_bundle()
        if self._spool is not None:
            self._spool.expire()
        self._waiting: list[Rejected] = []
        self._largest: dict[str, int] = {}
        self._waiting_bytes = 0

    def process(self, rejected: Rejected) -> None:
        self._waiting.append(rejected)
        self._waiting_bytes += len(rejected.record.value or b"")
        if len(self._waiting) >= _REJECTS_AT_ONCE or self._waiting_bytes >= _REJECTS_AT_ONCE_BYTES:
            self._send_waiting()

    def finish_bundle(self) -> None:
        try:
            self._send_waiting()
            super().finish_bundle()
        except RecordTooLargeError:  # the limit was not known, or has changed: the repeated bundle tries less
            for topic, size in self._largest.items():
                self._limits.refused(topic, size)
            raise

    def _send_waiting(self) -> None:
        named = [named_users(rejected.record, self._settings.mapping) for rejected in self._waiting]
        users = sorted(set[str]().union(*named))
        erased = erased_among(worker(self._settings).store, users) if users else {}
        for rejected, own in zip(self._waiting, named, strict=True):
            metrics.REJECTS.labels(reason=rejected.reason).inc()
            if own & erased.keys():
                metrics.REJECTS_OF_ERASED.inc()
            else:
                letter = dead_letter(rejected, self._settings.outputs.dead_letter_suffix)
                letter = fitted(letter, rejected.record, own, self._limits, self._spool)
                size = message_bytes(letter)
                self._largest[letter.topic] = max(size, self._largest.get(letter.topic, 0))
                self._send(*letter)
        self._waiting, self._waiting_bytes = [], 0


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

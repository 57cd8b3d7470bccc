"""Reading for local rounds: a persistent assignment, polled by its driver, committed only when told to."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from features.online import SourcePosition
from pipelines.kafka import patch_headers
from pipelines.kafka.client import KafkaFailureError, KafkaUnavailableError, connect
from pipelines.kafka.start_offsets import Policy
from pipelines.kafka.topics import TopicInfo, describe, known_topics
from pipelines.messages.record import Record
from pipelines.settings import Kafka

_LOG = logging.getLogger(__name__)

FETCH_WAIT_MS: Final = 50
"""How long the broker may hold a fetch of quiet partitions. kafka-python keeps one fetch a broker in flight,
which names only partitions without records in hand: records of the others wait until it returns."""
LAST_LOOK_MS: Final = 5
"""How long a poll that has records waits for what came during the last round: enough for one fetch."""
FETCH_BYTES: Final = 16 << 20
"""A fetch brings at most this, or one record batch; two fetches may wait parsed or not, beside the round."""
CHUNK_RECORDS: Final = 500
REQUEST_TIMEOUT_S: Final = 30.0
"""How long positions, offsets and commits wait for brokers that are away before they fail."""

Positions = dict[SourcePosition, int]


class OffsetGapError(KafkaFailureError):
    """A position that the broker no longer, or not yet, has."""

    def __init__(self, position: SourcePosition, wanted: int, first: int, end: int) -> None:
        self.position = position
        self.wanted = wanted
        self.first = first
        self.end = end
        self.lost = max(0, first - wanted)
        got = f"{self.lost} records are gone (retention)" if self.lost else "the log ends before it"
        super().__init__(
            f"{position.topic}[{position.partition}]: expected records from offset {wanted}, got a log of "
            f"{first} to {end}: {got}; set kafka.on_out_of_range to earliest or latest to go on without them"
        )


class RoundReader:
    """Polls every partition that this worker owns: ``partition % workers == worker`` of each topic.

    Lifecycle: made, :meth:`seek` once to the start positions, then :meth:`poll` over and over from one
    thread, :meth:`close`. Reads committed transactions only. Within a partition records come in order, each
    once, until :meth:`seek` goes back. Partitions added later are read from their first offset, found within
    ``kafka.discover_every_s``. Brokers that go away are waited for: polls are empty meanwhile.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Iterable[str],
        worker_of: tuple[int, int] = (0, 1),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._topics = list(dict.fromkeys(topics))
        self._worker, self._workers = worker_of
        self._clock = clock
        patch_headers.install()
        self._admin = connect(kafka, KafkaAdminClient, request_timeout_ms=10_000)
        try:
            self._infos = describe(self._admin, self._topics, kafka)
            self._consumer = connect(
                kafka,
                KafkaConsumer,
                group_id=kafka.group_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                fetch_max_wait_ms=FETCH_WAIT_MS,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=FETCH_BYTES // 4,
            )
        except Exception:
            self._admin.close()
            raise
        self._owned: dict[TopicPartition, SourcePosition] = {}
        for topic, info in self._infos.items():
            self._owned |= self._partitions(topic, info)
        self._next: dict[TopicPartition, int] = {}
        self._waiting: deque[Any] = deque()
        self._discover_at_s = clock() + kafka.discover_every_s

    def assigned(self) -> tuple[SourcePosition, ...]:
        """The partitions that this worker owns, by topic and number."""
        return tuple(sorted(self._owned.values(), key=lambda p: (p.topic, p.partition)))

    def partitions(self) -> tuple[SourcePosition, ...]:
        """Every known partition of the topics, whoever owns it."""
        return tuple(
            SourcePosition(info.topic_id, topic, n)
            for topic, info in self._infos.items()
            for n in info.partitions
        )

    def seek(self, positions: Mapping[SourcePosition, int]) -> None:
        """Read on from these offsets: at the start, or back to repeat what was read. Others stay."""
        chosen = {tp: positions[p] for tp, p in self._owned.items() if p in positions}
        self._next |= chosen
        self._consumer.assign(list(self._next))
        for tp, offset in chosen.items():
            self._consumer.seek(tp, offset)
        self._waiting = deque(r for r in self._waiting if TopicPartition(r.topic, r.partition) not in chosen)

    def poll(self, max_records: int, max_bytes: int, timeout_ms: int) -> list[Record]:
        """Up to so many records and bytes (one larger record comes alone). Waits while there are none,
        then for what the broker has at hand.

        Raises OffsetGapError, KafkaFailureError.
        """
        if self._clock() >= self._discover_at_s:
            self._discover()
            self._discover_at_s = self._clock() + self._kafka.discover_every_s
        taken: list[Record] = []
        taken_bytes = 0
        while len(taken) < max_records:
            try:
                if not self._waiting and not self._fetch(
                    max_records - len(taken), LAST_LOOK_MS if taken else timeout_ms
                ):
                    break
            except KafkaFailureError:
                if not taken:
                    raise
                break  # what is taken goes out first; the next poll meets the failure again
            raw = self._waiting[0]
            size = max(raw.serialized_key_size, 0) + max(raw.serialized_value_size, 0)
            size += max(raw.serialized_header_size, 0)
            if taken and taken_bytes + size > max_bytes:
                break
            self._waiting.popleft()
            taken_bytes += size
            tp = TopicPartition(raw.topic, raw.partition)
            self._next[tp] = raw.offset + 1
            taken.append(_record(raw, self._owned[tp].topic_id))
        return taken

    def positions(self) -> Positions:
        """The next offset of every partition: all before it has been given out or is not for us."""
        self._skip_markers()
        return {self._owned[tp]: offset for tp, offset in self._next.items()}

    def end_offsets(self) -> Positions:
        """Where each partition ends now: after the last record that a finished transaction may show us."""
        return self.offsets_of("latest", self.assigned())

    def reached(self, ends: Mapping[SourcePosition, int]) -> bool:
        """Whether everything before ``ends`` has been given out. Partitions that are gone count as done."""
        now = self.positions()
        return all(now.get(position, end) >= end for position, end in ends.items())

    def lag(self) -> Positions:
        """Records still to read per partition, as of its last fetch; those never fetched are left out."""
        return {
            self._owned[tp]: max(0, high - offset)
            for tp, offset in self._next.items()
            if (high := self._consumer.highwater(tp)) is not None
        }

    def offsets_of(self, policy: Policy, partitions: Iterable[SourcePosition]) -> Positions:
        """The offset that a start policy means in each partition. Raises KafkaUnavailableError."""
        of = {TopicPartition(p.topic, p.partition): p for p in partitions}
        timeout_ms = int(REQUEST_TIMEOUT_S * 1000)
        try:
            if policy == "earliest":
                found = self._consumer.beginning_offsets(list(of), timeout_ms=timeout_ms)
            else:
                found = self._consumer.end_offsets(list(of), timeout_ms=timeout_ms)
            if policy == "timestamp":
                wanted = dict.fromkeys(of, self._kafka.start_timestamp_ms)
                times = self._consumer.offsets_for_times(wanted, timeout_ms=timeout_ms)
                found |= {tp: hit.offset for tp, hit in times.items() if hit is not None}
        except kafka_errors.KafkaError as error:
            raise self._failed("offsets", error) from error
        return {of[tp]: offset for tp, offset in found.items()}

    def committed(self) -> Positions:
        """What the group last committed; partitions without a commit are left out."""
        found: Positions = {}
        try:
            for tp, position in self._owned.items():
                offset = self._consumer.committed(tp, timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
                if offset is not None and offset >= 0:
                    found[position] = offset
        except kafka_errors.KafkaError as error:
            raise self._failed(f"offsets of the group {self._kafka.group_id}", error) from error
        return found

    def commit(self, positions: Mapping[SourcePosition, int]) -> None:
        """Commit to the group, acknowledged when this returns. Raises KafkaFailureError."""
        offsets = {
            tp: OffsetAndMetadata(positions[p], "", -1) for tp, p in self._owned.items() if p in positions
        }
        try:
            self._consumer.commit(offsets, timeout_ms=int(REQUEST_TIMEOUT_S * 1000))
        except kafka_errors.KafkaError as error:
            raise self._failed(f"a commit to the group {self._kafka.group_id}", error) from error

    def close(self) -> None:
        """Release the connections; commits nothing."""
        self._consumer.close(autocommit=False, timeout_ms=1000)
        self._admin.close()

    def _partitions(self, topic: str, info: TopicInfo) -> dict[TopicPartition, SourcePosition]:
        return {
            TopicPartition(topic, n): SourcePosition(info.topic_id, topic, n)
            for n in info.partitions
            if n % self._workers == self._worker
        }

    def _fetch(self, max_records: int, timeout_ms: int) -> bool:
        """Bring more records from kafka-python's buffer or the broker; whether any came."""
        if not self._next:
            return False
        try:
            batches = self._consumer.poll(timeout_ms=timeout_ms, max_records=min(max_records, CHUNK_RECORDS))
        except kafka_errors.OffsetOutOfRangeError as error:
            self._out_of_range(error.args[0])
            return False
        except kafka_errors.KafkaError as error:
            if getattr(error, "retriable", False):
                _LOG.warning("kafka: a fetch failed with %s; it is repeated", type(error).__name__)
                return False
            raise self._failed("records", error) from error
        for records in batches.values():
            self._waiting.extend(records)
        return bool(self._waiting)

    def _skip_markers(self) -> None:
        """Move positions over what only kafka-python sees: transaction markers and aborted records."""
        held = {(raw.topic, raw.partition) for raw in self._waiting}
        for tp, offset in self._next.items():
            high = self._consumer.highwater(tp)
            if high is not None and high > offset and tp not in held:
                self._next[tp] = max(offset, self._consumer.position(tp, timeout_ms=0) or 0)

    def _out_of_range(self, wanted_offsets: Mapping[TopicPartition, int]) -> None:
        self._discover()  # a recreated topic has other offsets, and is no gap
        for tp, wanted in wanted_offsets.items():
            if self._next.get(tp) != wanted:
                continue
            position = self._owned[tp]
            first = self.offsets_of("earliest", [position])[position]
            end = self.offsets_of("latest", [position])[position]
            if first <= wanted <= end:
                continue
            policy = self._kafka.on_out_of_range
            gap = OffsetGapError(position, wanted, first, end)
            if policy == "error":
                raise gap
            start = first if policy == "earliest" else end
            _LOG.error("kafka: %s; on_out_of_range is %s: going on at %d", gap, policy, start)
            self.seek({position: start})

    def _discover(self) -> None:
        """Take up partitions added since, and topics recreated, from their first offset."""
        try:
            infos = known_topics(self._admin, self._topics)
            for topic in self._topics:
                if topic not in infos:
                    _LOG.warning("kafka: %s: expected the topic to exist, got none; waiting for it", topic)
                elif infos[topic] != self._infos.get(topic):
                    self._take_up(topic, infos[topic])
        except (kafka_errors.KafkaError, KafkaUnavailableError) as error:
            _LOG.warning(
                "kafka: looking for new partitions failed with %s; again later", type(error).__name__
            )

    def _take_up(self, topic: str, info: TopicInfo) -> None:
        if info.topic_id != self._infos[topic].topic_id:
            _LOG.warning(
                "kafka: %s was recreated; it is another source and read from its first offset", topic
            )
            gone = [tp for tp in self._owned if tp.topic == topic]
            for tp in gone:
                del self._owned[tp]
                self._next.pop(tp, None)
            self._waiting = deque(raw for raw in self._waiting if raw.topic != topic)
            self._consumer.assign(list(self._next))  # of nothing: kafka-python unsubscribes
        added = {tp: p for tp, p in self._partitions(topic, info).items() if tp not in self._owned}
        starts = self.offsets_of("earliest", added.values())
        self._owned |= added
        self._infos[topic] = info
        self.seek(starts)

    def _failed(self, what: str, error: Exception) -> KafkaFailureError:
        where = ", ".join(self._kafka.bootstrap_servers)
        if isinstance(error, kafka_errors.KafkaTimeoutError):
            return KafkaUnavailableError(
                f"kafka.bootstrap_servers: expected {what} from {where}, got no answer in "
                f"{REQUEST_TIMEOUT_S:g} s; check that the brokers are up"
            )
        if isinstance(error, kafka_errors.UnsupportedCodecError):
            return KafkaFailureError(
                f"kafka: expected {what} from {where} in a compression that is installed, got another; "
                "pip install 'kafka-python[lz4,snappy,zstd]'"
            )
        return KafkaFailureError(
            f"kafka: expected {what} from {where}, got {type(error).__name__}; "
            "check the broker's log and our rights"
        )


def _record(raw: Any, topic_id: str) -> Record:
    return Record(
        raw.topic, topic_id, raw.partition, raw.offset, raw.timestamp, raw.key, raw.value, tuple(raw.headers)
    )

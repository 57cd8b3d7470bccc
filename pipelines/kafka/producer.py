"""The producer behind every sink: acknowledged by all replicas, idempotent, and loud when anything failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from pipelines.kafka.client import KafkaFailureError, connect
from pipelines.settings import Kafka

HEADROOM_BYTES: Final = 1 << 20
"""Room for key and headers beside a value of ``kafka.max_record_bytes``."""
MAX_PENDING_BYTES: Final = 32 << 20
MAX_PENDING_RECORDS: Final = 20_000
"""Beyond these, :meth:`Sender.send` waits for acknowledgements: kafka-python's own buffer has no bound."""


class RecordTooLargeError(KafkaFailureError):
    """A record is larger than the topic takes, or than this client sends."""


class Sender:
    """Sends records; after :meth:`flush` returns, every one sent before is acknowledged.

    Safe to share between threads. Connects at the first record. After a failure the producer is made anew,
    since an idempotent producer may not recover; what was not acknowledged has to be sent again by the
    caller and may then be there twice.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._lock = threading.RLock()
        self._producer: Any = None
        self._futures: list[tuple[str, Any]] = []
        self._pending_bytes = 0

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        """Hand over one record; a null header value is sent as empty bytes, which kafka-python demands.

        Raises KafkaUnavailableError, KafkaFailureError.
        """
        with self._lock:
            producer = self._connected()
            try:
                future = producer.send(
                    topic,
                    value=value,
                    key=key,
                    headers=[(name, held or b"") for name, held in headers],
                    partition=partition,
                    timestamp_ms=timestamp_ms,
                )
            except kafka_errors.KafkaError as error:
                self._fail(topic, error)
            self._futures.append((topic, future))
            self._pending_bytes += len(value or b"") + len(key or b"")
            if self._pending_bytes > MAX_PENDING_BYTES or len(self._futures) > MAX_PENDING_RECORDS:
                self.flush()

    def flush(self) -> None:
        """Wait until everything sent is acknowledged. Raises KafkaFailureError naming the first failure."""
        with self._lock:
            if self._producer is None:
                return
            futures, self._futures, self._pending_bytes = self._futures, [], 0
            try:
                self._producer.flush()
            except kafka_errors.KafkaError as error:
                self._fail(futures[0][0] if futures else "", error)
            for topic, future in futures:
                if future.failed():
                    self._fail(topic, future.exception)

    def close(self) -> None:
        """Flush, then release the connections."""
        with self._lock:
            try:
                self.flush()
            finally:
                self._drop()

    def _connected(self) -> Any:
        if self._producer is None:
            self._producer = connect(
                self._kafka,
                KafkaProducer,
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                batch_size=1 << 16,
                max_request_size=self._kafka.max_record_bytes + HEADROOM_BYTES,
                max_block_ms=int(self._kafka.connect_timeout_s * 1000),
            )
        return self._producer

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        self._futures, self._pending_bytes = [], 0
        if producer is not None:
            producer.close(timeout=5)

    def _fail(self, topic: str, error: BaseException) -> Any:
        self._drop()
        if isinstance(error, kafka_errors.MessageSizeTooLargeError | kafka_errors.RecordListTooLargeError):
            raise RecordTooLargeError(
                f"topic {topic}: expected every record to be acknowledged, got {type(error).__name__}; raise "
                "max.message.bytes of the topic above kafka.max_record_bytes by 1 MiB"
            ) from error
        if isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.UnknownTopicOrPartitionError):
            advice = "check that the topic exists (kafka-topics.sh --create) and that the brokers are up"
        else:
            advice = "check the broker's log and our rights on the topic"
        raise KafkaFailureError(
            f"topic {topic}: expected every record to be acknowledged, got {type(error).__name__}; {advice}"
        ) from error

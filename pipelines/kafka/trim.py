"""Removing the head of partitions: Kafka's DeleteRecords, the only way to take single records out of a log.

Records below the new start can no longer be read from the moment the brokers answer. The bytes leave the
disks with their segment, which brokers remove as they do for retention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors

from features.online import SourcePosition
from pipelines.kafka.connect import KafkaFailureError, connect
from pipelines.settings import Kafka

_TIMEOUT_MS: Final = 30_000


def delete_before(kafka: Kafka, offsets: Mapping[SourcePosition, int]) -> None:
    """Let each partition begin at this offset; what is below is gone for every reader.

    Raises KafkaUnavailableError, KafkaFailureError where the brokers cannot or will not (before Kafka 0.11,
    without the right DELETE, topics with ``cleanup.policy=compact`` alone).
    """
    chosen = {TopicPartition(p.topic, p.partition): offset for p, offset in offsets.items()}
    if not chosen:
        return
    names = ", ".join(sorted({tp.topic for tp in chosen}))
    try:
        with connect(kafka, KafkaAdminClient) as admin:
            admin.delete_records(chosen, timeout_ms=_TIMEOUT_MS)
    except kafka_errors.KafkaError as error:
        raise KafkaFailureError(
            f"{names}: expected the brokers to delete the oldest records, got {type(error).__name__}; they "
            "need Kafka 0.11 or later, our user the right DELETE, the topics cleanup.policy=delete"
        ) from error

"""Kafka: records in, dead letters and changelogs out. The only package that knows kafka-python.

``connect`` reaches the brokers and describes topics, ``reader`` reads for local rounds, ``sender`` writes,
``dead_letter`` turns a reject into a record and back.
"""

from pipelines.kafka.connect import (
    KafkaFailureError,
    KafkaUnavailableError,
    TopicInfo,
    client_config,
    create_topics,
    topics_info,
)
from pipelines.kafka.dead_letter import dead_letter, original
from pipelines.kafka.group_reader import POSITIONS
from pipelines.kafka.reader import OffsetGapError, RoundReader
from pipelines.kafka.sender import Sender
from pipelines.kafka.start import start_positions

__all__ = [
    "POSITIONS",
    "KafkaFailureError",
    "KafkaUnavailableError",
    "OffsetGapError",
    "RoundReader",
    "Sender",
    "TopicInfo",
    "client_config",
    "create_topics",
    "dead_letter",
    "original",
    "start_positions",
    "topics_info",
]

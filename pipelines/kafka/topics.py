"""Topics at the brokers: which there are, creating them, how long they keep records, deleting their head."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import (  # type: ignore[attr-defined]  # it exports NewTopic without __all__
    ConfigResource,
    ConfigResourceType,
    NewTopic,
)

from features.online import SourcePosition
from pipelines.kafka.client import KafkaFailureError, connect
from pipelines.settings import Kafka

_NO_TOPIC_ID: Final = uuid.UUID(int=0)
DAY_MS: Final = 86_400_000
_RETENTION: Final = "retention.ms"
_DELETE_TIMEOUT_MS: Final = 30_000


class TopicInfo(NamedTuple):
    """One incarnation of a topic: a deleted and recreated one has another id."""

    topic_id: str
    """As Kafka's own tools print it, or ``<cluster id>/<topic>`` where the broker gives none."""
    partitions: tuple[int, ...]


def topics_info(kafka: Kafka, topics: Iterable[str]) -> dict[str, TopicInfo]:
    """What the brokers say of these topics; creates none.

    Raises KafkaUnavailableError, and KafkaFailureError that names every topic that is missing.
    """
    with connect(kafka, KafkaAdminClient) as admin:
        return describe(admin, topics, kafka)


def existing_topics(kafka: Kafka, topics: Iterable[str]) -> dict[str, TopicInfo]:
    """Those of these topics that exist; creates none. Raises KafkaUnavailableError."""
    with connect(kafka, KafkaAdminClient) as admin:
        return known_topics(admin, list(dict.fromkeys(topics)))


def describe(admin: Any, topics: Iterable[str], kafka: Kafka) -> dict[str, TopicInfo]:
    """:func:`topics_info` over an open admin client."""
    names = list(dict.fromkeys(topics))
    found = known_topics(admin, names)
    if missing := [name for name in names if name not in found]:
        server = kafka.bootstrap_servers[0]
        raise KafkaFailureError(
            f"kafka.topics: expected the topics {', '.join(names)} at {server}, got no {', '.join(missing)}; "
            "create them: portrait apply"
        )
    return found


def known_topics(admin: Any, names: list[str]) -> dict[str, TopicInfo]:
    """Those of the named topics that exist and have partitions."""
    answers: list[Mapping[str, Any]] = admin.describe_topics(names)
    cluster_id = ""
    found: dict[str, TopicInfo] = {}
    for answer in answers:
        if answer["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno:
            raise KafkaFailureError(
                f"kafka.topics: expected the right to read {answer['name']}, got none; "
                "grant READ and DESCRIBE on it to our user"
            )
        if answer["error_code"] or not answer["partitions"]:
            continue
        topic_id = uuid.UUID(str(answer.get("topic_id") or _NO_TOPIC_ID))
        if topic_id == _NO_TOPIC_ID:
            cluster_id = cluster_id or admin.describe_cluster()["cluster_id"]
            name = f"{cluster_id}/{answer['name']}"
        else:
            name = base64.urlsafe_b64encode(topic_id.bytes).rstrip(b"=").decode()
        partitions = tuple(sorted(p["partition_index"] for p in answer["partitions"]))
        found[answer["name"]] = TopicInfo(name, partitions)
    return found


def topics_beginning(kafka: Kafka, prefixes: Iterable[str]) -> list[str]:
    """Names of the topics that begin with one of these. Raises KafkaUnavailableError."""
    beginnings = tuple(prefixes)
    with connect(kafka, KafkaAdminClient) as admin:
        return sorted(name for name in admin.list_topics() if name.startswith(beginnings))


def create_topics(
    kafka: Kafka, topics: Iterable[str], configs: Mapping[str, str], partitions: int = 4
) -> list[str]:
    """Create those of these topics that do not exist, with the brokers' default replication; their names.

    ``configs``: what is not to be the brokers' default.
    Raises KafkaUnavailableError, and KafkaFailureError where the brokers refuse.
    """
    with connect(kafka, KafkaAdminClient) as admin:
        names = list(dict.fromkeys(topics))
        found = known_topics(admin, names)
        missing = [name for name in names if name not in found]
        try:
            if missing:
                admin.create_topics(
                    [
                        NewTopic(name, num_partitions=partitions, topic_configs=dict(configs))
                        for name in missing
                    ]
                )
                admin.wait_for_topics(missing, timeout_ms=int(kafka.connect_timeout_s * 1000))
        except kafka_errors.TopicAlreadyExistsError:
            pass  # another process was faster
        except kafka_errors.IncompatibleBrokerVersion:
            return []  # before Kafka 2.4, and librdkafka's mock, which makes a topic at its first record
        except kafka_errors.KafkaError as error:
            raise KafkaFailureError(
                f"kafka.topics: expected to create {', '.join(missing)}, got {type(error).__name__}; "
                "check our rights, or have them created"
            ) from error
    return missing


def retention_config(days: float) -> dict[str, str]:
    """What a new topic is created with, so that a record goes at most a day after ``days`` (and the brokers'
    pause between two looks).

    Brokers drop whole segments, by their newest record: a quiet topic must begin a new one daily.
    """
    kept_ms = round(days * DAY_MS)
    return {_RETENTION: str(kept_ms), "segment.ms": str(min(DAY_MS, kept_ms))}


def kept_days(kafka: Kafka, topics: Iterable[str]) -> dict[str, float]:
    """For how many days each of these topics keeps its records (inf: for ever), where the brokers tell us.

    Raises KafkaUnavailableError.
    """
    kept_ms = _numbers(kafka, topics, _RETENTION)
    return {name: ms / DAY_MS if ms >= 0 else float("inf") for name, ms in kept_ms.items()}


def max_message_bytes(kafka: Kafka, topics: Iterable[str]) -> dict[str, int]:
    """Bytes of the largest record batch that each of these topics takes, where the brokers tell us.

    Raises KafkaUnavailableError.
    """
    return _numbers(kafka, topics, "max.message.bytes")


def _numbers(kafka: Kafka, topics: Iterable[str], key: str) -> dict[str, int]:
    """Topic → the value of one of its configurations; without topics that the brokers say nothing of."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, [key]) for name in topics]
    if not resources:
        return {}
    try:
        with connect(kafka, KafkaAdminClient) as admin:
            answers = admin.describe_configs(resources, config_filter="all")
    except kafka_errors.KafkaError:  # an old broker, or no right to DESCRIBE_CONFIGS
        return {}
    configs_by_topic: dict[str, Any] = next(iter(answers.values()), {})
    return {name: int(configs[key]["value"]) for name, configs in configs_by_topic.items() if key in configs}


def change_command(kafka: Kafka, topic: str, days: float) -> str:
    """What a person runs to let an existing topic keep its records for ``days``."""
    config = ",".join(f"{name}={value}" for name, value in retention_config(days).items())
    return (
        f"kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers[0]} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {config}"
    )


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
            admin.delete_records(chosen, timeout_ms=_DELETE_TIMEOUT_MS)
    except kafka_errors.KafkaError as error:
        raise KafkaFailureError(
            f"{names}: expected the brokers to delete the oldest records, got {type(error).__name__}; they "
            "need Kafka 0.11 or later, our user the right DELETE, the topics cleanup.policy=delete"
        ) from error

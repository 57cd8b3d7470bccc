"""How long a topic keeps its records: said when we create one, and only looked at ever after."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines.kafka.connect import connect
from pipelines.settings import Kafka

DAY_MS: Final = 86_400_000
_KEY: Final = "retention.ms"


def retention_config(days: float) -> dict[str, str]:
    """What a new topic is created with, so that a record goes at most a day after ``days`` (and the brokers'
    pause between two looks).

    Brokers drop whole segments, by their newest record: a quiet topic must begin a new one daily.
    """
    kept_ms = round(days * DAY_MS)
    return {_KEY: str(kept_ms), "segment.ms": str(min(DAY_MS, kept_ms))}


def kept_days(kafka: Kafka, topics: Iterable[str]) -> dict[str, float]:
    """For how many days each of these topics keeps its records (inf: for ever), where the brokers tell us.

    Raises KafkaUnavailableError.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, [_KEY]) for name in topics]
    if not resources:
        return {}
    try:
        with connect(kafka, KafkaAdminClient) as admin:
            answers = admin.describe_configs(resources, config_filter="all")
    except kafka_errors.KafkaError:  # an old broker, or no right to DESCRIBE_CONFIGS
        return {}
    held: dict[str, Any] = next(iter(answers.values()), {})
    kept = {name: int(configs[_KEY]["value"]) for name, configs in held.items() if _KEY in configs}
    return {name: kept_ms / DAY_MS if kept_ms >= 0 else float("inf") for name, kept_ms in kept.items()}


def change_command(kafka: Kafka, topic: str, days: float) -> str:
    """What a person runs to let an existing topic keep its records for ``days``."""
    config = ",".join(f"{name}={value}" for name, value in retention_config(days).items())
    return (
        f"kafka-configs.sh --bootstrap-server {kafka.bootstrap_servers[0]} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {config}"
    )

"""How long a real Kafka keeps dead letters: as the settings say where we create a topic, told where not."""

from __future__ import annotations

import pytest

from pipelines.kafka.topics import change_command, kept_days
from pipelines.operations.plan import letters_plan
from pipelines.runners.prepare import dead_letter_topics, make_output_topics
from pipelines.settings import Settings, Topics
from tests.support.kafka_server import KafkaServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def _settings(server: KafkaServer, days: float) -> Settings:
    """Of source topics that nobody else uses."""
    topics = {name: server.new_topic(1) for name in ("reviews", "images", "voices", "controls")}
    return Settings(kafka=server.settings(topics=Topics(**topics), dead_letter_retention_days=days))


def _letters(settings: Settings) -> str:
    return "; ".join(letters_plan(settings))


def test_new_dead_letter_topics_keep_records_as_long_as_the_settings_say(kafka_server: KafkaServer) -> None:
    settings = _settings(kafka_server, 2.5)
    created = make_output_topics(settings)
    assert kept_days(settings.kafka, created) == dict.fromkeys(dead_letter_topics(settings), 2.5)
    assert _letters(settings) == "0 topics to be created, which keep dead letters for 2.5 days"


def test_existing_topics_stay_as_they_are_and_plan_says_the_command(kafka_server: KafkaServer) -> None:
    settings = _settings(kafka_server, 14)
    reviews, images, *_ = dead_letter_topics(settings)
    kafka_server.new_topic(1, name=reviews, **{"retention.ms": "-1"})
    kafka_server.new_topic(1, name=images, **{"retention.ms": "86400000"})
    make_output_topics(settings)
    assert kept_days(settings.kafka, [reviews, images]) == {reviews: float("inf"), images: 1}
    said = _letters(settings)
    assert f"{reviews} keeps them for inf days" in said
    assert change_command(settings.kafka, images, 14) in said
    assert said.count("kafka-configs.sh") == 2

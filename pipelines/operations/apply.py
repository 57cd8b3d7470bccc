"""``portrait apply``: Feast's registry, and the topics that a run needs at the brokers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from features.repo.apply import apply_repo
from pipelines.kafka.client import KafkaFailureError
from pipelines.runners.prepare import make_output_topics, make_source_topics
from pipelines.settings import Settings

_WAIT_FOR_BROKERS_S = 2.0


def apply_project(settings: Settings, say: Callable[[str], object]) -> None:
    """Register the entity, views and services with Feast, then create the topics that are missing.

    Feast's part works without brokers: topics that cannot be created now are reported, and the next
    ``portrait apply`` creates them. Raises PortraitError where Feast refuses.
    """
    apply_repo(settings.feature_repo)
    say(f"applied {settings.feature_repo}")
    wait_s = min(settings.kafka.connect_timeout_s, _WAIT_FOR_BROKERS_S)
    settings = replace(settings, kafka=replace(settings.kafka, connect_timeout_s=wait_s))
    try:
        created = make_source_topics(settings) + make_output_topics(settings)
    except KafkaFailureError as error:
        say(f"created no topics: {error}; then run portrait apply again")
        return
    say(f"created the topics {', '.join(created)}" if created else "created no topics: all are there")

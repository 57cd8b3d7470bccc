"""Real processes of the fault tests; a broker that a test kills is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kafka_server import KafkaServer, kafka_server, running_kafka

__all__ = ["kafka_server", "own_kafka"]


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker that this test may kill."""
    with running_kafka(tmp_path / "kafka") as server:
        yield server

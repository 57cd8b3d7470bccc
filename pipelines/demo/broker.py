"""A Kafka-protocol broker inside this process, for the demo and tests: nothing it holds outlives the process.

It is librdkafka's mock cluster: in memory, about 5 MB kept of each partition (older records vanish), no
transactions, no security. For anything else run a Kafka (``make kafka-up``).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any

from pipelines.settings import Topics


class EmbeddedBroker:
    """Context manager; inside it ``bootstrap_servers`` is the address of a broker on loopback.

    The topics named at the start exist, with four partitions each; others appear when first written.
    """

    def __init__(self, topics: Iterable[str] = Topics().all()) -> None:
        self._topics = tuple(topics)
        self._cluster: Any = None
        self.bootstrap_servers: tuple[str, ...] = ()

    def __enter__(self) -> EmbeddedBroker:
        from confluent_kafka import Producer

        # The mock cluster lives as long as this client; its own log would tell of every connection.
        self._cluster = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        for topic in self._topics:
            self._cluster.list_topics(topic, timeout=10)
        brokers = self._cluster.list_topics(timeout=10).brokers.values()
        self.bootstrap_servers = tuple(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster = None
        self.bootstrap_servers = ()

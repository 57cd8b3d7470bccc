"""Real processes that the tests of this folder share."""

from tests.kafka_server import kafka_server

__all__ = ["kafka_server"]

"""Real processes that the tests of this folder share."""

from tests.support.kafka_server import kafka_server
from tests.support.redis_server import redis_server

__all__ = ["kafka_server", "redis_server"]

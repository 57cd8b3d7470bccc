"""How to reach Redis: Feast's connection strings, time limits, and errors that keep secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from redis import Redis, RedisCluster, RedisError, Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException
from redis.retry import Retry

from features.online import StoreError

RedisType = Literal["redis", "redis_cluster", "redis_sentinel"]


def parse_connection_string(text: str) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Feast's form ``host:port,host:port,name=value,…`` → nodes and parameters of redis-py.

    Raises ValueError without quoting the text, which may hold a password.
    """
    nodes: list[tuple[str, int]] = []
    parameters: dict[str, Any] = {}
    for part in text.split(","):
        name, is_parameter, value = part.partition("=")
        if is_parameter:
            try:
                parameters[name] = json.loads(value)
            except json.JSONDecodeError:
                parameters[name] = value
            continue
        host, _, port = part.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError("connection_string: expected host:port[,name=value…], got another part")
        nodes.append((host, int(port)))
    if not nodes:
        raise ValueError("connection_string: expected at least one host:port, got none")
    return nodes, parameters


def connect(
    connection_string: str, redis_type: RedisType = "redis", sentinel_master: str = "mymaster"
) -> tuple[Any, str]:
    """A client that is safe to share between threads, and the address to show in messages.

    Unlike redis-py's, our defaults give up on a silent server: ``socket_timeout=30``,
    ``socket_connect_timeout=5``; three retries with jitter. A repeated compare-and-set is harmless:
    if the first one was stored, the second finds a newer revision and reports a conflict.
    """
    nodes, parameters = parse_connection_string(connection_string)
    where = "redis at " + ",".join(f"{host}:{port}" for host, port in nodes)
    retry = Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries=3)
    parameters = {"socket_timeout": 30, "socket_connect_timeout": 5, "retry": retry, **parameters}
    parameters["decode_responses"] = False
    with redis_errors(where, "connect"):
        if redis_type == "redis_cluster":
            startup = [ClusterNode(host, port) for host, port in nodes]  # type: ignore[no-untyped-call]
            return RedisCluster(startup_nodes=startup, **parameters), where
        if redis_type == "redis_sentinel":
            sentinel = Sentinel(nodes, **parameters)  # type: ignore[no-untyped-call]
            return sentinel.master_for(sentinel_master), where  # type: ignore[no-untyped-call]
        host, port = nodes[0]
        return Redis(host=host, port=port, **parameters), where


@contextmanager
def redis_errors(where: str, what: str) -> Iterator[None]:
    """Redis errors as StoreError; keeps arguments and passwords out of the message."""
    try:
        yield
    except (RedisError, RedisClusterException) as error:
        said = str(error).split(", with args")[0]
        raise StoreError(
            f"{where}: expected to {what}, got {type(error).__name__}: {said}; check that it runs and answers"
        ) from error

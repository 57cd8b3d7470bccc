"""A real Redis for tests: one process on a free loopback port, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from tests.support.ports import free_ports

INSTALL = "sudo apt-get install -y --no-install-recommends redis-server"
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RedisServer:
    """Where a running server listens."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def connection_string(self) -> str:
        return f"127.0.0.1:{self.port}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)


def require_redis() -> str:
    """Path of redis-server; without one the test is skipped, in CI it fails."""
    path = shutil.which("redis-server")
    if path is None:
        message = f"redis-server is missing; run: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def running_redis(
    folder: Path, *, cluster: bool = False, appendfsync: str = "everysec", port: int | None = None
) -> Iterator[RedisServer]:
    """Start a server with AOF and ``noeviction``; ``cluster``: one node that owns every slot.

    With ``port`` and the folder of a server that died, it goes on where that one ended.
    """
    program = require_redis()
    if port is None:
        (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "appendfsync": appendfsync,
        "maxmemory-policy": "noeviction",
    }
    if cluster:
        options |= {"cluster-enabled": "yes", "cluster-port": str(free_ports(1)[0])}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        server = RedisServer(port, process)
        _wait_until_ready(server, folder / "redis.log", cluster=cluster)
        yield server
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(server: RedisServer, log: Path, *, cluster: bool) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    slots_given = not cluster
    with server.client() as client:
        while time.monotonic() < deadline:
            if server.process.poll() is not None:
                break
            try:
                if not slots_given:
                    client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
                    slots_given = True
                if not cluster or client.execute_command("CLUSTER INFO")["cluster_state"] == "ok":
                    client.ping()
                    return
            except (redis.ConnectionError, redis.BusyLoadingError):
                pass
            time.sleep(0.02)
    raise RuntimeError(f"redis-server did not start; its log ends: {log.read_text()[-500:]}")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests; each test takes a project of its own."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A cluster of one node: it knows every slot, and refuses what a cluster refuses."""
    with running_redis(tmp_path_factory.mktemp("redis-cluster"), cluster=True) as server:
        yield server

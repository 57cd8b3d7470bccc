"""``feast serve`` and ``feast ui`` over our stores, as the commands that a user starts."""

# ruff: noqa: S310 (the addresses are those of servers started here)
from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from features.online.open import open_store
from features.repo.apply import apply_repo, write_repo
from features.schema import EMBEDDING_DIM
from tests.support.ports import free_ports
from tests.support.profiles import write_of
from tests.support.redis_server import redis_server

__all__ = ["redis_server"]

pytestmark = pytest.mark.integration

START_TIMEOUT_S = 120


@contextmanager
def running_feast(repo: Path, command: str, ready: str) -> Iterator[str]:
    """The address of a Feast server on a free loopback port."""
    (port,) = free_ports(1)
    feast = [str(Path(sys.executable).with_name("feast")), "--chdir", str(repo)]
    with (repo / "feast.log").open("wb") as log:
        process = subprocess.Popen(
            [*feast, command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(address + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"feast {command} did not start: {(repo / 'feast.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return dict(json.load(response))


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_feast_serve_answers_with_vectors(request: pytest.FixtureRequest, tmp_path: Path, kind: str) -> None:
    server = None if kind == "sqlite" else request.getfixturevalue("redis_server").connection_string
    write_repo(tmp_path / "repo", history_dir=tmp_path / "data", project="served", redis=server)
    apply_repo(tmp_path / "repo")
    store = open_store(tmp_path / "repo")
    store.compare_and_set([write_of("ann", 0, 3), write_of("bob", 0, erased=True)])
    with running_feast(tmp_path / "repo", "serve", "/health") as address:
        body = {"feature_service": "profile", "entities": {"user_id": ["ann", "bob", "carol"]}}
        answer = post(f"{address}/get-online-features", body)
        served = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        assert served["revision"]["values"] == [3, None, None]
        assert served["revision"]["statuses"] == ["PRESENT", "NOT_FOUND", "NOT_FOUND"]
        assert served["embedding"]["values"][0] == [3.0] * EMBEDDING_DIM
        store.compare_and_set([write_of("ann", 3)])  # written while it serves
        answer = post(f"{address}/get-online-features", body)
        served = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
        assert served["revision"]["values"][0] == 4
    store.close()


def test_feast_ui_shows_the_project_on_loopback(tmp_path: Path) -> None:
    write_repo(tmp_path / "repo", history_dir=tmp_path / "data", project="shown")
    apply_repo(tmp_path / "repo")
    with (
        running_feast(tmp_path / "repo", "ui", "/") as address,
        urllib.request.urlopen(f"{address}/projects-list.json", timeout=30) as response,
    ):
        assert "shown" in response.read().decode()

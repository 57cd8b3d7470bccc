"""Every test of the contract runs over every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from features.online import ProfileStore
from tests.support.online_repo import STORES, Repo, make_repo
from tests.support.redis_server import redis_cluster_server, redis_server

__all__ = ["redis_cluster_server", "redis_server", "repo", "store"]


@pytest.fixture(params=STORES)
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repo:
    """A repo and a project of its own for every test; servers are shared."""
    return make_repo(request, tmp_path, request.param, project=f"p{uuid4().hex[:8]}")


@pytest.fixture
def store(repo: Repo) -> Iterator[ProfileStore]:
    store = repo.open()
    yield store
    store.close()

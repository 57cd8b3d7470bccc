"""Feast repos for tests, one for each kind of online store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from features.online import ProfileStore
from features.online.open import open_store
from tests.redis_server import RedisServer

STORES = ("sqlite", "redis", "redis_cluster")


@dataclass(frozen=True)
class Repo:
    """A folder with a feature_store.yaml."""

    path: Path
    project: str
    kind: str

    def open(self) -> ProfileStore:
        return open_store(self.path)


def make_repo(request: pytest.FixtureRequest, folder: Path, kind: str, project: str) -> Repo:
    """Write the yaml by hand: the least that opens a store."""
    if kind == "sqlite":
        online = {"type": "features.online.sqlite.PortraitSqliteOnlineStore", "path": "online.db"}
    else:
        server: RedisServer = request.getfixturevalue(f"{kind}_server")
        online = {
            "type": "features.online.redis.PortraitRedisOnlineStore",
            "connection_string": server.connection_string,
            "redis_type": kind,
        }
    lines = [f"project: {project}", "provider: local", "registry: registry.db", "online_store:"]
    lines += [f"  {name}: {value}" for name, value in online.items()]
    lines += ["offline_store:", "  type: duckdb", "entity_key_serialization_version: 3", ""]
    folder.joinpath("feature_store.yaml").write_text("\n".join(lines))
    return Repo(folder, project, kind)

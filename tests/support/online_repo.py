"""Feast repos for tests, one for each kind of online store, and a look at the bytes they hold."""

# ruff: noqa: S608 (table names of the test's own project)
from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from features.online import ProfileStore
from features.online.feast_keys import VIEW_TIME_FIELDS, entity_key, redis_field, sqlite_table
from features.online.open import open_store
from features.online.redis_profiles import STATE
from features.schema import PROFILE_FIELDS
from tests.support.profiles import views_of
from tests.support.redis_server import RedisServer

STORES = ("sqlite", "redis", "redis_cluster")


class Stored(NamedTuple):
    """What a store holds of a user at one instant: the record, and feature → value of all views."""

    record: bytes | None
    features: dict[str, bytes]


@dataclass(frozen=True)
class Repo:
    """A folder with a feature_store.yaml, and the server that it names."""

    path: Path
    project: str
    server: RedisServer | None

    def open(self) -> ProfileStore:
        return open_store(self.path)

    def stored(self, user_id: str) -> Stored:
        """Read in one atomic step, past all of our own reading code."""
        if self.server is None:
            return self._in_sqlite(user_id)
        with self.server.client() as client:
            held = client.hgetall(entity_key(user_id) + self.project.encode())
        fields = {redis_field(f.view, f.name): f.name for f in PROFILE_FIELDS}
        return Stored(held.get(STATE), {fields[k]: v for k, v in held.items() if k in fields})

    def _in_sqlite(self, user_id: str) -> Stored:
        with closing(sqlite3.connect(self.path / "online.db", isolation_level=None)) as db:
            db.execute("BEGIN")
            record = db.execute(
                f'SELECT record FROM "{self.project}_portrait_state" WHERE user_id = ?', (user_id,)
            ).fetchone()
            features: dict[str, bytes] = {}
            for view in ("user_profile", "user_modalities"):
                table = sqlite_table(self.project, view)
                query = f"SELECT feature_name, value FROM {table} WHERE entity_key = ?"
                features.update(db.execute(query, (entity_key(user_id),)))
        return Stored(None if record is None else record[0], features)

    def load_views_alone(self, user_id: str) -> None:
        """Leave what ``feast materialize`` leaves: a view, but no state."""
        if self.server is None:
            table = sqlite_table(self.project, "user_profile")
            with closing(sqlite3.connect(self.path / "online.db")) as db, db:
                db.execute(
                    f"INSERT INTO {table} (entity_key, feature_name, value) VALUES (?, ?, ?)",
                    (entity_key(user_id), "revision", views_of(1)["user_profile"]["revision"]),
                )
            return
        with self.server.client() as client:
            client.hset(entity_key(user_id) + self.project.encode(), VIEW_TIME_FIELDS[0], b"\x08\x01")


def make_repo(
    request: pytest.FixtureRequest, folder: Path, kind: str, project: str, **online: object
) -> Repo:
    """The least that opens a store; ``online`` adds settings of the online store."""
    server: RedisServer | None = None
    if kind == "sqlite":
        online = {"type": "features.online.sqlite.PortraitSqliteOnlineStore", "path": "online.db"} | online
    else:
        server = request.getfixturevalue(f"{kind}_server")
        online = {
            "type": "features.online.redis.PortraitRedisOnlineStore",
            "connection_string": server.connection_string,
            "redis_type": kind,
        } | online
    lines = [f"project: {project}", "provider: local", "registry: registry.db", "online_store:"]
    lines += [f"  {name}: {value}" for name, value in online.items()]
    lines += ["offline_store:", "  type: duckdb", "entity_key_serialization_version: 3", ""]
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("feature_store.yaml").write_text("\n".join(lines))
    return Repo(folder, project, server)

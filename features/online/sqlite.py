"""Feast's SQLite store, safe beside a running pipeline. In ``feature_store.yaml``::

    online_store:
      type: features.online.sqlite.PortraitSqliteOnlineStore
      path: data/online.db

It reads and writes what Feast's own store does, with these differences:

- threads and processes may share it (a connection a thread, write-ahead log, ``synchronous=FULL``);
- the newest row wins; a row of the same second replaces;
- rows for a user whose state the pipeline keeps are left out, and counted: they could only undo it;
- times are UTC, whatever ``TZ`` says (Feast's: local time);
- ``feast teardown`` drops the tables of its project and leaves the file, in which others may live.

Vector search inside SQLite is not offered (Feast's needs Python 3.10).
"""

from __future__ import annotations

from features.online import feast_import  # noqa: F401

# isort: split

import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import extract_text_and_num
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig, _table_id
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware

from features.online.feast_keys import quoted, sqlite_table
from features.online.sqlite_file import SqliteFile
from features.online.sqlite_profiles import chunks, create_tables, marks, own_tables
from features.schema import JOIN_KEY, VIEWS

# ruff: noqa: S608 (the only names pasted into SQL are table names, quoted)

_log = logging.getLogger(__name__)

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]

_TYPE: Final = "features.online.sqlite.PortraitSqliteOnlineStore"


class PortraitSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Settings of Feast's SQLite store."""

    type: Literal["features.online.sqlite.PortraitSqliteOnlineStore"] = _TYPE  # type: ignore[assignment]


class PortraitSqliteOnlineStore(SqliteOnlineStore):
    """What Feast calls; the pipeline uses :class:`~features.online.sqlite_profiles.SqliteProfiles`."""

    users_left_alone = 0
    """Rows not written because their users have a state."""

    _file: SqliteFile | None = None

    def _sqlite_file(self, config: RepoConfig) -> SqliteFile:
        path = Path(self._get_db_path(config))
        if self._file is None or self._file.path != path:
            project: str = config.project
            self._file = SqliteFile(
                path,
                lambda connection: create_tables(connection, project),
                sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES,  # what Feast's other methods expect
            )
        return self._file

    def plan(self, config: RepoConfig, desired_registry_proto: Any) -> list[Any]:
        """Nothing: ``update`` makes the tables. Feast remembers the planned ones of its own type alone,
        and ``feast plan`` would announce ours after every apply."""
        return []

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        return self._sqlite_file(config).connection()

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        rows = []
        with self._sqlite_file(config).transaction("write features") as db:
            guarded = _users_with_state(db, config.project, data) if table.name in VIEWS else set()
            for key, values, event_time, created in data:
                if _user_id(key) in guarded:
                    continue
                key_bytes = serialize_entity_key(key, config.entity_key_serialization_version)
                times_s = (_seconds(event_time), None if created is None else _seconds(created))
                rows += [
                    (
                        key_bytes,
                        name,
                        value.SerializeToString(),
                        extract_text_and_num(value, False)[0],
                        *times_s,
                    )
                    for name, value in values.items()
                ]
            db.executemany(_newest_wins_sql(_table(config, table)), rows)
        self._count(sum(_user_id(row[0]) in guarded for row in data))
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        db = self._get_conn(config)
        keys = [serialize_entity_key(key, config.entity_key_serialization_version) for key in entity_keys]
        wanted = requested_features or [feature.name for feature in table.features]
        name_of_table = _table(config, table)
        found: dict[bytes, tuple[int, dict[str, Value]]] = {}
        for chunk in chunks(keys):
            for key, name, value, seconds in db.execute(
                f"SELECT entity_key, feature_name, value, CAST(event_ts AS INTEGER) FROM {name_of_table} "
                f"WHERE entity_key IN {marks(chunk)} AND feature_name IN {marks(wanted)}",
                [*chunk, *wanted],
            ):
                held_s, features = found.get(key, (seconds, {}))
                features[name] = Value.FromString(value)
                found[key] = (max(held_s, seconds), features)
        return [
            (datetime.fromtimestamp(found[key][0], UTC), found[key][1]) if key in found else (None, None)
            for key in keys
        ]

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Drop this project's views, states, positions and spaces, together."""
        file = self._sqlite_file(config)
        names = {_table(config, table) for table in tables} | set(own_tables(config.project))
        names.update(sqlite_table(config.project, view) for view in VIEWS)
        with file.transaction("drop tables") as db:
            for name in sorted(names):
                db.execute(f"DROP TABLE IF EXISTS {name}")
        file.close()
        self._file = None

    def _count(self, left_alone: int) -> None:
        if left_alone and not self.users_left_alone:
            _log.warning("rows of users whose state the pipeline keeps are left out (first: %d)", left_alone)
        self.users_left_alone += left_alone


def _table(config: RepoConfig, table: FeatureView) -> str:
    return quoted(_table_id(config.project, table, config.registry.enable_online_feature_view_versioning))


def _seconds(time: datetime) -> int:
    return int(make_tzaware(time).timestamp() // 1)


def _user_id(key: EntityKey) -> str | None:
    """The user that a key names; None for keys of other entities."""
    return key.entity_values[0].string_val if list(key.join_keys) == [JOIN_KEY] else None


def _users_with_state(db: sqlite3.Connection, project: str, data: list[Row]) -> set[str | None]:
    user_ids = [user_id for row in data if (user_id := _user_id(row[0])) is not None]
    found: set[str | None] = set()
    for chunk in chunks(user_ids):
        query = f"SELECT user_id FROM {own_tables(project)[0]} WHERE user_id IN {marks(chunk)}"
        found.update(user_id for (user_id,) in db.execute(query, chunk))
    return found


def _newest_wins_sql(table: str) -> str:
    columns = ("value", "value_text", "event_ts", "created_ts")
    return (
        f"INSERT INTO {table} (entity_key, feature_name, {', '.join(columns)}) VALUES (?, ?, ?, ?, ?, ?) "
        f"ON CONFLICT (entity_key, feature_name) DO UPDATE SET "
        f"{', '.join(f'{column} = excluded.{column}' for column in columns)} "
        "WHERE excluded.event_ts >= event_ts"
    )

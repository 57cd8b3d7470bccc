"""States and views of users in one SQLite file, changed in one transaction a batch.

Views lie in Feast's own tables, one row a feature; states, positions and spaces in tables beside them
that Feast does not know. Nothing here imports Feast.
"""

# ruff: noqa: S608 (the only names pasted into SQL are our table names, quoted)
from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from features.online import ProfileWrite, ServedUser, SourcePosition, StatelessUsersError
from features.online.encode import int64
from features.online.feast_keys import entity_key, quoted, sqlite_table
from features.online.sqlite_file import SqliteFile
from features.schema import PROFILE_FIELDS, VIEWS

CHUNK: Final = 500
"""Of the values in one ``IN (…)``."""

_SYNCHRONOUS_FULL: Final = 2
_INCARNATION_0: Final = int64(0)
_PLACES: Final = {field.name: place for place, field in enumerate(PROFILE_FIELDS)}
_UNSERVED: Final[list[bytes | None]] = [None] * len(PROFILE_FIELDS)
_T = TypeVar("_T")


class SqliteProfiles:
    """A :class:`~features.online.ProfileStore` in a file; creates what is missing."""

    def __init__(self, project: str, path: Path) -> None:
        self._state, self._positions, self._space = own_tables(project)
        self._tables = {view: sqlite_table(project, view) for view in VIEWS}
        self._file = SqliteFile(path, lambda connection: create_tables(connection, project))

    def read_states(self, user_ids: Sequence[str]) -> list[bytes | None]:
        with self._file.snapshot("read states") as db:  # a user may appear between two queries
            held = self._records(db, user_ids)
            unknown = [user_id for user_id in user_ids if user_id not in held]
            if stateless := self._users_with_views(db, unknown):
                raise StatelessUsersError(
                    f"{self._file.where}: expected a state beside the views of every user, got "
                    f"{len(stateless)} of {len(user_ids)} users with views alone (feast materialize); "
                    "run portrait rebuild"
                )
        return [held.get(user_id) for user_id in user_ids]

    def read_views(self, user_ids: Sequence[str], *, records: bool = False) -> list[ServedUser]:
        served: list[list[bytes | None]] = [[*_UNSERVED] for _ in user_ids]
        place_of = _PLACES.get
        with self._file.snapshot("read views") as db:
            for table in self._tables.values():
                for some in chunks(list(enumerate(user_ids))):
                    keys = [entity_key(user_id) for _, user_id in some]
                    # A number for each user: cheaper to hand over, and to find, than her key in each row.
                    asked = ",".join(f"({i},?)" for i, _ in some)
                    query = (
                        f"WITH asked(i, key) AS (VALUES {asked}) SELECT i, feature_name, value "
                        f"FROM asked CROSS JOIN {table} ON entity_key = key"
                    )
                    for i, name, value in db.execute(query, keys):
                        if (place := place_of(name)) is not None:
                            served[i][place] = value
            without = {i for i, values in enumerate(served) if values == _UNSERVED}
            held = self._records(db, [user_ids[i] for i in range(len(user_ids)) if records or i in without])
        return [
            ServedUser(None if i in without else served[i], held.get(user_id))
            for i, user_id in enumerate(user_ids)
        ]

    def compare_and_set(self, writes: Sequence[ProfileWrite]) -> list[bool]:
        if not writes:
            return []
        with self._file.transaction("compare and set") as db:
            revisions = self._revisions(db, [write.user_id for write in writes])
            unknown = [write.user_id for write in writes if write.user_id not in revisions]
            stateless = self._users_with_views(db, unknown)
            stored: list[bool] = []
            latest: dict[str, ProfileWrite] = {}
            for write in writes:
                accept = (
                    write.user_id not in stateless
                    and revisions.get(write.user_id, 0) == write.expected_revision
                )
                stored.append(accept)
                if accept:
                    revisions[write.user_id] = write.revision
                    latest[write.user_id] = write
            self._write(db, latest.values())
        return stored

    def erased_users(self) -> Iterator[tuple[str, bytes]]:
        query = (
            f"SELECT user_id, record FROM {self._state} WHERE user_id > ? AND (SELECT value FROM "
            f"{self._tables['user_profile']} WHERE entity_key = portrait_entity_key(user_id) "
            "AND feature_name = 'incarnation') IS NOT ? ORDER BY user_id LIMIT ?"
        )
        after = ""
        while True:
            with self._file.errors("find erased users"):
                db = self._file.connection()
                db.create_function("portrait_entity_key", 1, entity_key, deterministic=True)
                page = db.execute(query, (after, _INCARNATION_0, CHUNK)).fetchall()
            if not page:
                return
            yield from page
            after = page[-1][0]

    def remove(self, user_ids: Sequence[str]) -> None:
        with self._file.transaction("remove users") as db:
            keys = [(entity_key(user_id),) for user_id in user_ids]
            for table in self._tables.values():
                db.executemany(f"DELETE FROM {table} WHERE entity_key = ?", keys)
            db.executemany(f"DELETE FROM {self._state} WHERE user_id = ?", [(u,) for u in user_ids])

    def read_positions(self, namespace: str) -> dict[SourcePosition, int]:
        with self._file.errors("read positions"):
            rows = self._file.connection().execute(
                f"SELECT topic_id, topic, partition, next_offset FROM {self._positions} WHERE namespace = ?",
                (namespace,),
            )
            return {SourcePosition(*source): offset for *source, offset in rows}

    def write_positions(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        if not positions:
            return
        with self._file.transaction("write positions") as db:
            db.executemany(
                f"INSERT OR REPLACE INTO {self._positions} VALUES (?, ?, ?, ?, ?)",
                [(namespace, *source, offset) for source, offset in positions.items()],
            )

    def read_space(self) -> tuple[str, str] | None:
        with self._file.errors("read the space"):
            row = (
                self._file.connection()
                .execute(f"SELECT event_space, profile_space FROM {self._space}")
                .fetchone()
            )
        return None if row is None else (row[0], row[1])

    def claim_space(self, event_space: str, profile_space: str) -> tuple[str, str]:
        with self._file.transaction("claim the space") as db:
            db.execute(f"INSERT OR IGNORE INTO {self._space} VALUES (1, ?, ?)", (event_space, profile_space))
        return self.read_space() or (event_space, profile_space)

    def durability_problems(self) -> list[str]:
        with self._file.errors("read its settings"):
            db = self._file.connection()
            journal = db.execute("PRAGMA journal_mode").fetchone()[0]
            synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
        problems = []
        if journal != "wal":
            problems.append(
                f"{self._file.where}: expected journal_mode wal, got {journal}; set online_store.path of "
                "feature_store.yaml to a local disk (network file systems have no shared memory for it)"
            )
        if synchronous < _SYNCHRONOUS_FULL:
            problems.append(
                f"{self._file.where}: expected synchronous 2 (FULL) or more, got {synchronous}; "
                "use an SQLite that was not built to ignore PRAGMA synchronous"
            )
        return problems

    def close(self) -> None:
        self._file.close()

    def _records(self, db: sqlite3.Connection, user_ids: Sequence[str]) -> dict[str, bytes]:
        held: dict[str, bytes] = {}
        for chunk in chunks(user_ids):
            held.update(
                db.execute(
                    f"SELECT user_id, record FROM {self._state} WHERE user_id IN {marks(chunk)}",
                    chunk,
                )
            )
        return held

    def _revisions(self, db: sqlite3.Connection, user_ids: Sequence[str]) -> dict[str, int]:
        held: dict[str, int] = {}
        for chunk in chunks(user_ids):
            held.update(
                db.execute(
                    f"SELECT user_id, revision FROM {self._state} WHERE user_id IN {marks(chunk)}",
                    chunk,
                )
            )
        return held

    def _users_with_views(self, db: sqlite3.Connection, user_ids: Sequence[str]) -> set[str]:
        """Those who have a row in any of our views; asked only about users without a state."""
        by_key = {entity_key(user_id): user_id for user_id in user_ids}
        found: set[str] = set()
        for table in self._tables.values():
            for chunk in chunks(list(by_key)):
                rows = db.execute(
                    f"SELECT DISTINCT entity_key FROM {table} WHERE entity_key IN {marks(chunk)}",
                    chunk,
                )
                found.update(by_key[key] for (key,) in rows)
        return found

    def _write(self, db: sqlite3.Connection, writes: Iterable[ProfileWrite]) -> None:
        states = []
        rows: dict[tuple[str, ...], list[tuple[bytes | int, ...]]] = {}  # of each view and its features
        erased = []
        for write in writes:
            states.append((write.user_id, write.revision, write.record))
            key = entity_key(write.user_id)
            if write.views is None:
                erased.append((key,))
                continue
            times_s = (write.event_timestamp_us // 1_000_000, write.created_us // 1_000_000)
            for view, features in write.views.items():
                if features:
                    rows.setdefault((view, *features), []).append((key, *times_s, *features.values()))
        db.executemany(
            f"INSERT INTO {self._state} VALUES (?, ?, ?) ON CONFLICT (user_id) DO UPDATE SET "
            "revision = excluded.revision, record = excluded.record",
            states,
        )
        for (view, *names), values in rows.items():
            db.executemany(upsert_sql(self._tables[view], names), values)
        for table in self._tables.values():
            db.executemany(f"DELETE FROM {table} WHERE entity_key = ?", erased)


def own_tables(project: str) -> tuple[str, str, str]:
    """The tables of states, positions and spaces, quoted."""
    state, positions, space = (
        quoted(f"{project}_portrait_{name}") for name in ("state", "positions", "space")
    )
    return state, positions, space


def create_tables(db: sqlite3.Connection, project: str) -> None:
    """Create what is missing: our tables, and Feast's with its own columns (``SqliteOnlineStore.update``)."""
    state, positions, space = own_tables(project)
    db.execute("BEGIN IMMEDIATE")
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {state} "
        "(user_id TEXT PRIMARY KEY, revision INTEGER NOT NULL, record BLOB NOT NULL)"
    )
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {positions} "
        "(namespace TEXT, topic_id TEXT, topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, "
        "PRIMARY KEY (namespace, topic_id, topic, partition))"
    )
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {space} "
        "(id INTEGER PRIMARY KEY CHECK (id = 1), event_space TEXT NOT NULL, profile_space TEXT NOT NULL)"
    )
    for view in VIEWS:
        table = sqlite_table(project, view)
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (entity_key BLOB, feature_name TEXT, value BLOB, "
            "value_text TEXT,  vector_value BLOB, event_ts timestamp, created_ts timestamp,  "
            "PRIMARY KEY(entity_key, feature_name))"
        )
        index = quoted(f"{project}_{view}_ek")
        db.execute(f"CREATE INDEX IF NOT EXISTS {index} ON {table} (entity_key)")
    db.execute("COMMIT")


def upsert_sql(table: str, names: Sequence[str]) -> str:
    """Write the named features of a user: entity key, event and creation time in whole seconds UTC, values.

    One statement a user takes half the time of one a feature. ``value_text``, which Feast fills for its text
    search, stays empty.
    """
    texts = ("'" + name.replace("'", "''") + "'" for name in names)
    rows = ", ".join(f"(?1, {text}, ?{number}, ?2, ?3)" for number, text in enumerate(texts, start=4))
    return (
        f"INSERT INTO {table} (entity_key, feature_name, value, event_ts, created_ts) VALUES {rows} "
        "ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
        "event_ts = excluded.event_ts, created_ts = excluded.created_ts"
    )


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut into what one ``IN (…)`` takes."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def marks(values: Sequence[object]) -> str:
    """``(?,?,…)`` for these values."""
    return f"({','.join('?' * len(values))})"

"""Microseconds per user for reading states and for compare-and-set, beside the bare equivalent.

``python -m tests.bench.bench_store`` prints JSON. "bare" moves the same bytes to the same place
without comparing anything: HMGET and HSET in one pipeline, SELECT and upserts in one transaction.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from features.online import ProfileStore, ProfileWrite
from features.online.encode import Column, encode_views
from features.online.feast_keys import entity_key, redis_field
from features.online.redis_connection import connect
from features.online.redis_profiles import STATE, RedisProfiles
from features.online.sqlite_profiles import SqliteProfiles, upsert_sql
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS
from tests.support.profiles import NOW_US
from tests.support.redis_server import RedisServer, running_redis

ROUNDS = 15
RECORD_BYTES = 5_000
USERS = 2_000

Views = dict[str, dict[str, bytes]]


def realistic_columns(n: int) -> dict[str, Column]:
    """Columns of the sizes that real profiles have (tags and aspects about 600 bytes of JSON)."""
    rng = np.random.default_rng(0)
    make: dict[str, Callable[[], Column]] = {
        "vector": lambda: rng.normal(size=(n, EMBEDDING_DIM)).astype("f4"),
        "float": lambda: rng.normal(size=n),
        "int": lambda: rng.integers(0, 5_000, n),
        "string": lambda: ["0123456789abcdef"] * n,
        "json": lambda: [json.dumps([{"id": "digital", "weight": 0.5, "evidence": ["a", "b"]}] * 9)] * n,
        "strings": lambda: [["digital", "books", "home"]] * n,
        "time": lambda: rng.integers(16 * 10**14, 17 * 10**14, n),
    }
    return {field.name: make[field.type]() for field in PROFILE_FIELDS}


def per_user_us(work: Callable[[int], None], rounds: int = ROUNDS) -> dict[str, float]:
    """Median and best over rounds of all users; the first round is not counted."""
    taken = []
    for round_number in range(rounds + 1):
        start = time.perf_counter()
        work(round_number)
        taken.append((time.perf_counter() - start) / USERS * 1e6)
    return {"median_us": round(statistics.median(taken[1:]), 1), "best_us": round(min(taken[1:]), 1)}


def batches(size: int) -> list[list[str]]:
    users = [f"user{i:06d}" for i in range(USERS)]
    return [users[at : at + size] for at in range(0, USERS, size)]


def bench_store(store: ProfileStore, size: int, views: list[Views]) -> dict[str, dict[str, float]]:
    """Reads and writes by the store, batch after batch; every write must succeed."""
    record = bytes(RECORD_BYTES)

    def write(round_number: int) -> None:
        for users in batches(size):
            writes = [
                ProfileWrite(user, round_number, round_number + 1, record, features, NOW_US, NOW_US)
                for user, features in zip(users, views, strict=False)
            ]
            if not all(store.compare_and_set(writes)):
                raise RuntimeError("bench_store: expected every write to be stored, got a conflict")

    def read(_: int) -> None:
        for users in batches(size):
            store.read_states(users)

    written = per_user_us(write)
    return {"compare_and_set": written, "read_states": per_user_us(read)}


def bench_bare_redis(server: RedisServer, size: int, views: list[Views]) -> dict[str, dict[str, float]]:
    record = bytes(RECORD_BYTES)
    fields = [
        {redis_field(view, name): value for view, values in user.items() for name, value in values.items()}
        | {STATE: record}
        for user in views
    ]
    with server.client() as client:

        def write(_: int) -> None:
            for users in batches(size):
                with client.pipeline(transaction=False) as pipe:
                    for user, mapping in zip(users, fields, strict=False):
                        pipe.hset(entity_key(user) + b"bare", mapping=mapping)
                    pipe.execute()

        def read(_: int) -> None:
            for users in batches(size):
                with client.pipeline(transaction=False) as pipe:
                    for user in users:
                        pipe.hmget(entity_key(user) + b"bare", STATE)
                    pipe.execute()

        written = per_user_us(write)
        return {"write": written, "read": per_user_us(read)}


def bench_bare_sqlite(path: Path, size: int, views: list[Views]) -> dict[str, dict[str, float]]:
    record = bytes(RECORD_BYTES)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous=FULL")

        def write(_: int) -> None:
            for users in batches(size):
                db.execute("BEGIN IMMEDIATE")
                db.executemany(
                    'INSERT OR REPLACE INTO "bench_portrait_state" VALUES (?, 1, ?)',
                    [(user, record) for user in users],
                )
                for view, features in views[0].items():
                    rows = [
                        (entity_key(user), 1, 1, *served[view].values())
                        for user, served in zip(users, views, strict=False)
                    ]
                    db.executemany(upsert_sql(f'"bench_{view}"', list(features)), rows)
                db.execute("COMMIT")

        def read(_: int) -> None:
            for users in batches(size):
                marks = ",".join("?" * len(users))
                query = f'SELECT user_id, record FROM "bench_portrait_state" WHERE user_id IN ({marks})'  # noqa: S608
                db.execute(query, users).fetchall()

        written = per_user_us(write)
        return {"write": written, "read": per_user_us(read)}


def main() -> None:
    """Both stores, batches of 200 and 500."""
    columns = realistic_columns(500)
    views = encode_views(columns)
    start = time.perf_counter()
    for _ in range(20):
        encode_views(columns)
    report: dict[str, object] = {
        "record_bytes": RECORD_BYTES,
        "view_bytes": sum(len(value) for features in views[0].values() for value in features.values()),
        "encode_views_us": round((time.perf_counter() - start) / 20 / 500 * 1e6, 1),
    }
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder) / "redis") as server:
        for size in (200, 500):
            with server.client() as client:
                client.flushall()
            redis_store = RedisProfiles("bench", *connect(server.connection_string))
            report[f"redis_batch_{size}"] = {
                "store": bench_store(redis_store, size, views),
                "bare": bench_bare_redis(server, size, views),
            }
            path = Path(folder) / f"bench{size}.db"
            sqlite_store = SqliteProfiles("bench", path)
            report[f"sqlite_batch_{size}"] = {
                "store": bench_store(sqlite_store, size, views),
                "bare": bench_bare_sqlite(path, size, views),
            }
            sqlite_store.close()
    json.dump(report, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""Looking 100 users up, beside a bare read of the same bytes by the same client, as JSON.

``python -m tests.bench.bench_lookup [--users 100] [--of 2000] [--calls 400]``. "bare" sends the same HMGETs
in one pipeline, or runs the same SELECTs in one transaction, and decodes nothing. The two take turns, so
that a busy machine slows both; ``ratio_p99`` is what must stay below 1.2.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np

from features.online import ProfileStore, ProfileWrite
from features.online.encode import encode_views
from features.online.feast_keys import entity_key, redis_field
from features.online.lookup import lookup
from features.online.redis_connection import connect
from features.online.redis_profiles import RedisProfiles
from features.online.sqlite_profiles import SqliteProfiles
from features.schema import PROFILE_FIELDS, VIEWS
from tests.bench.bench_store import RECORD_BYTES, realistic_columns
from tests.support.profiles import NOW_US
from tests.support.redis_server import running_redis

Read = Callable[[Sequence[str]], object]


def fill(store: ProfileStore, users: Sequence[str]) -> None:
    record = bytes(RECORD_BYTES)
    for start in range(0, len(users), 500):
        chunk = users[start : start + 500]
        views = encode_views(realistic_columns(len(chunk)))
        writes = [ProfileWrite(u, 0, 1, record, v, NOW_US, NOW_US) for u, v in zip(chunk, views, strict=True)]
        if not all(store.compare_and_set(writes)):
            raise RuntimeError("bench_lookup: expected an empty store, got a conflict")


def by_turns(
    store: ProfileStore, bare: Read, users: Sequence[str], args: argparse.Namespace
) -> dict[str, float]:
    """Milliseconds a call, p50 and p99, of both, and how they compare."""
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {"lookup": [], "bare": []}
    for _ in range(args.calls + 20):
        asked = [users[i] for i in rng.choice(len(users), args.users, replace=False)]
        calls: list[tuple[str, Read]] = [
            ("bare", bare),
            ("lookup", lambda wanted: lookup(store, wanted, timedelta(days=14))),
        ]
        for name, call in calls if rng.random() < 0.5 else calls[::-1]:
            start = time.perf_counter()
            call(asked)
            taken[name].append((time.perf_counter() - start) * 1e3)
    ms = {name: np.percentile(times[20:], (50, 99)) for name, times in taken.items()}
    report = {
        f"{name}_{p}_ms": round(float(v), 3)
        for name, pair in ms.items()
        for p, v in zip(("p50", "p99"), pair, strict=True)
    }
    ratios = ms["lookup"] / ms["bare"]
    return report | {"ratio_p50": round(float(ratios[0]), 3), "ratio_p99": round(float(ratios[1]), 3)}


def bare_sqlite(db: sqlite3.Connection) -> Read:
    def read(users: Sequence[str]) -> object:
        keys = [entity_key(user) for user in users]
        db.execute("BEGIN")
        found = []
        for view in VIEWS:
            query = f'SELECT entity_key, feature_name, value FROM "bench_{view}" WHERE entity_key IN ({",".join("?" * len(keys))})'  # noqa: E501, S608
            found.append(db.execute(query, keys).fetchall())
        db.execute("COMMIT")
        return found

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("users", 100), ("of", 2000), ("calls", 400)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    users = [f"user{i:06d}" for i in range(args.of)]
    report: dict[str, object] = dict(vars(args))
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder) / "redis") as server:
        store: ProfileStore = RedisProfiles("bench", *connect(server.connection_string))
        fill(store, users)
        fields = [redis_field(field.view, field.name) for field in PROFILE_FIELDS]
        client, _ = connect(server.connection_string)

        def bare_redis(asked: Sequence[str]) -> object:
            with client.pipeline(transaction=False) as pipe:
                for user in asked:
                    pipe.hmget(entity_key(user) + b"bench", fields)
                return pipe.execute()

        report["redis"] = by_turns(store, bare_redis, users, args)
        store.close()
        client.close()
        path = Path(folder) / "bench.db"
        store = SqliteProfiles("bench", path)
        fill(store, users)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            report["sqlite"] = by_turns(store, bare_sqlite(db), users, args)
        store.close()
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""Many users in Redis and in parquet: what filling, lookups, folding, compaction, views and neighbours cost.

``[SCALE=1m] python -m tests.bench.bench_scale [--dir FOLDER]`` prints JSON. States and profiles come from the
real fold, go through the real store and the real tables; every user has about five events, three in ten
users a second version of a day later. A million users take about 9 GB of Redis memory and 13 GB of disk
under ``--dir`` (default: a temporary folder).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from features.audience.find import find_audience
from features.audience.group import group_portrait
from features.audience.language import compile_expression
from features.fold.packed_state import States, pack
from features.online import ProfileStore, ProfileWrite
from features.online.encode import encode_views
from features.online.feast_keys import entity_key
from features.online.lookup import lookup
from features.online.redis_connection import connect
from features.online.redis_profiles import RedisProfiles
from features.profile.columns import profile_columns
from features.schema import EncodedEvent
from features.similar.index import SimilarUsers
from features.tables.compact import compact
from features.tables.rows import event_batch, profile_batch
from features.tables.views import query
from features.tables.writer import write_table
from models.fusion import load_fusion
from pipelines.steps.fold import FoldContext, fold_events
from tests.bench.population import (
    DAY_US,
    HEX,
    NOW_US,
    POLICY,
    SPACES,
    TAXONOMY,
    Population,
    chunks,
    encoded,
    measured,
    percentiles_ms,
    scale,
    user_name,
)
from tests.support.redis_server import RedisServer, running_redis

LARGE, SMALL = "bench", "few"
"""Feast projects in the one Redis."""
CHUNK = 5_000
FEW = 1_000
BATCH = 500
ROUNDS = 20
NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
EXPRESSION = 'interest("digital") > 0.4 and sentiment > 0 and last_seen < 14d'
VIEWS = {
    "profiles_latest": "SELECT count(*), avg(sentiment) FROM profiles_latest",
    "profiles_as_of": "SELECT count(*), avg(sentiment) FROM profiles_as_of(now() - INTERVAL 12 HOUR)",
    "profile_changes": "SELECT count(*), avg(moved) FROM profile_changes",
    "tags_long": "SELECT tag, count(*), avg(weight) FROM tags_long GROUP BY tag",
    "events_unique": "SELECT modality, count(*) FROM events_unique GROUP BY modality",
    "evidence_of_one": "SELECT * FROM evidence WHERE user_id = 'user0000007'",
    "modality_coverage": "SELECT * FROM modality_coverage",
    "freshness": "SELECT age, count(*) FROM freshness GROUP BY age",
}


def fill(store: ProfileStore, directory: Path, population: Population, n: int) -> dict[str, Any]:
    """Put n users into the store and both tables; where the time went, in seconds."""
    spent: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        spent[name] = round(spent.get(name, 0.0) + time.perf_counter() - start, 2)
        return result

    for done, users in enumerate(chunks(n, CHUNK)):
        names = [user_name(i) for i in users.tolist()]
        states, events = timed("generate and fold", partial(population.people, users, NOW_US - DAY_US))
        _put(store, directory, population, names, states, events, NOW - timedelta(days=1), timed)
        again = np.flatnonzero(users % 10 < 3)
        states, events = timed(
            "generate and fold", partial(_second_day, population, states, users[again], again)
        )
        names = [names[i] for i in again]
        _put(store, directory, population, names, states, events, NOW, timed)
        if done % 20 == 19:
            print(f"bench_scale: filled {users[-1] + 1} of {n} users", file=sys.stderr)
    return {"by_part_s": spent}


def _second_day(
    population: Population, states: States, users: npt.NDArray[np.int64], again: npt.NDArray[np.int64]
) -> tuple[States, Sequence[EncodedEvent]]:
    rows = [slice(states.source_start[i], states.source_start[i + 1]) for i in again.tolist()]
    windows = [slice(states.window_start[i], states.window_start[i + 1]) for i in again.tolist()]
    some = States(
        states.head[again],
        np.concatenate([states.sources[r] for r in rows]),
        np.concatenate([[0], np.cumsum([r.stop - r.start for r in rows])]),
        np.concatenate([states.window[w] for w in windows]),
        np.concatenate([[0], np.cumsum([w.stop - w.start for w in windows])]),
        SPACES,
    )
    return population.more(some, users, np.ones(len(users), int), NOW_US)


def _put(
    store: ProfileStore,
    directory: Path,
    population: Population,
    names: Sequence[str],
    states: States,
    events: Sequence[EncodedEvent],
    when: datetime,
    timed: Callable[[str, Callable[[], Any]], Any],
) -> None:
    vectors = timed("fuse", lambda: population.fused(states))
    columns = timed("profile", lambda: profile_columns(states, vectors, TAXONOMY, *HEX))
    writes = timed("encode and pack", lambda: _writes(names, states, columns))
    if not all(timed("store", lambda: store.compare_and_set(writes))):
        raise RuntimeError("bench_scale: expected an empty store, got a conflict")
    rows = timed("parquet", lambda: (profile_batch(names, columns), event_batch(events, HEX[0], TAXONOMY)))
    timed("parquet", lambda: write_table(directory, "profiles", [rows[0]], when))
    timed("parquet", lambda: write_table(directory, "events", [rows[1]], when))


def _writes(names: Sequence[str], states: States, columns: dict[str, Any]) -> list[ProfileWrite]:
    revisions, created = states.head["revision"].tolist(), states.head["created_us"].tolist()
    parts = zip(names, revisions, pack(states), encode_views(columns), created, strict=True)
    return [ProfileWrite(u, r - 1, r, record, views, at, at) for u, r, record, views, at in parts]


def fold_cost(server: RedisServer, large: ProfileStore, population: Population, n: int) -> dict[str, Any]:
    """µs per event to read, fold, fuse and store, at n users beside the same at a thousand, by turns."""
    rng = np.random.default_rng(4)
    small = RedisProfiles(SMALL, *connect(server.connection_string))
    few = np.arange(min(FEW, n))
    halves: list[npt.NDArray[np.int64]] = []
    taken: dict[str, list[float]] = {"few": [], "all": []}
    fusion = load_fusion(None, "learned")
    for _ in range(ROUNDS + 2):
        if not halves:
            halves = np.split(rng.permutation(few), 2)
            _copy(server, few)
        users = {"few": halves.pop(), "all": rng.choice(n, min(BATCH, n), replace=False)}
        for name, store in [("few", small), ("all", large)][:: int(rng.choice([1, -1]))]:
            context = FoldContext(store, fusion, TAXONOMY, SPACES, HEX, POLICY)
            chosen = np.sort(users[name])
            at, events = population.events(chosen, np.ones(len(chosen), int), NOW_US)
            batch = encoded(chosen[at], events)
            start = time.perf_counter()
            fold_events(batch, context)
            taken[name].append((time.perf_counter() - start) / len(batch) * 1e6)
    small.close()
    few_us, all_us = (float(np.median(taken[name][2:])) for name in ("few", "all"))
    return {
        f"us_per_event_at_{len(few)}": round(few_us, 1),
        f"us_per_event_at_{n}": round(all_us, 1),
        "ratio": round(all_us / few_us, 3),
    }


def _copy(server: RedisServer, users: npt.NDArray[np.int64]) -> None:
    """Give the small project the users as the large one has them now, so that they do not grow by rounds."""
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for key in (entity_key(user_name(i)) for i in users.tolist()):
            pipe.copy(key + LARGE.encode(), key + SMALL.encode(), replace=True)
        pipe.execute()


def lookups(store: ProfileStore, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    return {
        "one_user": percentiles_ms(lambda _: lookup(store, [user_name(int(rng.integers(n)))]), 2_000),
        "hundred_users": percentiles_ms(
            lambda _: lookup(store, [user_name(i) for i in rng.integers(0, n, 100).tolist()]), 200
        ),
    }


def views(directory: Path) -> dict[str, Any]:
    """Seconds of one question to each view, and of an audience and a portrait of everybody."""
    found: dict[str, Any] = {}
    for name, text in VIEWS.items():
        with measured(found.setdefault(name, {})):
            query(directory, text)
    with measured(found.setdefault("audience", {})):
        audience = find_audience(directory, compile_expression(EXPRESSION, TAXONOMY), NOW)
    found["audience"]["matched"] = audience.matched
    with measured(found.setdefault("group", {})):
        group_portrait(directory, None, NOW)
    return found


def neighbours(directory: Path, population: Population, n: int) -> dict[str, Any]:
    """The index built from parquet, asked, and refreshed after one in a hundred users changed."""
    similar = SimilarUsers(directory)
    found: dict[str, Any] = {}
    with measured(found.setdefault("build", {})):
        similar.refresh()
    found["file_mb"] = sum(file.stat().st_size for file in similar.folder.iterdir()) >> 20
    rows = query(directory, "SELECT user_id, embedding FROM profiles_latest USING SAMPLE 1000 ROWS")
    vectors = np.array(rows["embedding"].to_pylist(), np.float32)
    found["top_10"] = percentiles_ms(lambda i: similar.near(vectors[i % len(vectors)], HEX[1], 10), 1_000)
    some = np.arange(0, n, 100)
    states, _ = population.people(some, NOW_US)
    columns = profile_columns(states, population.fused(states), TAXONOMY, *HEX)
    columns["created"] = [NOW_US + DAY_US] * len(some)
    write_table(directory, "profiles", [profile_batch([user_name(i) for i in some.tolist()], columns)], NOW)
    with measured(found.setdefault("refresh_1_percent", {})):
        found["replaced"] = similar.refresh().replaced
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="where Redis and parquet live meanwhile")
    args = parser.parse_args()
    n = scale(5_000)
    population = Population()
    report: dict[str, Any] = {"users": n, "rss_at_start_mb": psutil.Process().memory_info().rss >> 20}
    with tempfile.TemporaryDirectory(dir=args.dir) as folder, running_redis(Path(folder) / "redis") as server:
        with server.client() as client:  # a rewrite of the log in the middle would be measured with the rest
            client.config_set("auto-aof-rewrite-percentage", 0)
        store = RedisProfiles(LARGE, *connect(server.connection_string))
        directory = Path(folder) / "data"
        with measured(report.setdefault("fill", {})):
            parts = fill(store, directory, population, n)
        report["fill"] |= parts
        with server.client() as client:
            report["redis_used_memory_mb"] = client.info("memory")["used_memory"] >> 20
        report["redis_rss_mb"] = psutil.Process(server.process.pid).memory_info().rss >> 20
        report["lookup"] = lookups(store, n)
        report["fold"] = fold_cost(server, store, population, n)
        report["erased_users_s"] = _seconds(lambda: list(store.erased_users()))
        report["views_before_compaction"] = views(directory)
        with measured(report.setdefault("compact", {})):
            done = compact(directory, today=True, grace_s=0.0)
        report["compact"] |= {
            name: getattr(done, name)
            for name in ("rows", "files_before", "files_after", "bytes_before", "bytes_after", "duplicates")
        }
        report["views"] = views(directory)
        report["similar"] = neighbours(directory, population, n)
        store.close()
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return round(time.perf_counter() - start, 2)


if __name__ == "__main__":
    main()

"""Erasing 1,000 users from the parquet of many, and rebuilding a Redis from the events table, as JSON.

``[SCALE=1m] python -m tests.bench.bench_erase [--dir FOLDER] [--events-each 5] [--erased 1000]``. The erase
is measured over tables that were compacted (sorted by user: every file holds some of the erased) and includes
finding them, writing the files anew and looking once more; readers' pause 0. The rebuild folds two
batches at once, DuckDB and torch on one thread; ``events_per_cpu_second`` leaves out what it waits for Redis.
Most of its cost is a user's, so it is measured again with a fifth of the users and five times the events.
A million users take about 7 GB of disk and 6 GB of Redis memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from features.online.erased_users import Erased
from features.online.redis_connection import connect
from features.online.redis_profiles import RedisProfiles
from features.profile.columns import profile_columns
from features.tables.compact import compact
from features.tables.erase import remove_users, rows_left
from features.tables.merge import Limits
from features.tables.rows import event_batch, profile_batch
from features.tables.writer import write_table
from models.fusion import load_fusion
from pipelines.operations.check import Checked, _look
from pipelines.operations.rebuild import Rebuilt, fold_table
from pipelines.steps.fold import FoldContext
from tests.bench.population import (
    HEX,
    NOW_US,
    POLICY,
    SPACES,
    TAXONOMY,
    Population,
    chunks,
    measured,
    scale,
    user_name,
)
from tests.support.redis_server import running_redis

CHUNK = 5_000
DEFAULT_USERS = 20_000
DAY = datetime.fromtimestamp(NOW_US / 1e6 - 2 * 86_400, UTC)


def fill(directory: Path, n: int, events_each: float) -> None:
    """Both tables, a file for every 5,000 users, then compacted."""
    population = Population(events_each=events_each)
    for users in chunks(n, CHUNK):
        states, events = population.people(users)
        columns = profile_columns(states, population.fused(states), TAXONOMY, *HEX)
        names = [user_name(i) for i in users.tolist()]
        write_table(directory, "profiles", [profile_batch(names, columns)], DAY)
        write_table(directory, "events", [event_batch(events, HEX[0], TAXONOMY)], DAY)
    compact(directory, grace_s=0.0)


def size_mb(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*.parquet")) >> 20


def erase(directory: Path, n: int, erased: int) -> dict[str, Any]:
    report: dict[str, Any] = {"users": n, "erased": min(erased, n), "parquet_mb": size_mb(directory)}
    at = datetime.now(UTC)
    step = max(1, n // erased)
    users = [Erased(user_name(i), at, False, 0, {}, None) for i in range(0, n, step)][:erased]
    with measured(report):
        removed = remove_users(directory, users, grace_s=0.0)
        left = rows_left(directory, users)
    report |= {f"{table}_rows": found.rows for table, found in removed.items()}
    report |= {f"{table}_files": found.files for table, found in removed.items()}
    if any(found.rows for found in left.values()):
        raise RuntimeError("bench_erase: expected no row of an erased user, got some")
    one: dict[str, Any] = {}
    with measured(one):
        remove_users(directory, [Erased(user_name(1), at, False, 0, {}, None)], grace_s=0.0)
    report["one_user_seconds"] = one["seconds"]
    return report


def rebuild(directory: Path, folder: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    with running_redis(folder) as server:
        store = RedisProfiles("bench", *connect(server.connection_string))
        context = FoldContext(store, load_fusion(None, "learned"), TAXONOMY, SPACES, HEX, POLICY)
        done, report = Rebuilt(), dict[str, Any]()
        cpu_s = time.process_time()
        with measured(report):
            fold_table(directory, context, done, limits=Limits(threads=1))
        cpu_s = time.process_time() - cpu_s
        report |= {
            "users": done.rebuilt,
            "events": done.applied,
            "events_per_second": done.events_per_second,
            "cpu_seconds": round(cpu_s, 2),
            "events_per_cpu_second": int(done.applied / cpu_s),
        }
        sample = [user_name(i) for i in range(1, done.users, max(1, done.users // 1_000))]
        report["checked"] = len(sample)
        report["differing"] = len(_look(sample, directory, context, Checked()))
        store.close()
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="folder for tables and Redis (default: a temporary one)")
    parser.add_argument("--events-each", type=float, default=5.0)
    parser.add_argument("--erased", type=int, default=1_000)
    arguments = parser.parse_args()
    n = scale(DEFAULT_USERS)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as temporary:
        directory = Path(temporary, "data")
        print(f"bench_erase: filling tables of {n} users", file=sys.stderr)
        fill(directory, n, arguments.events_each)
        Path(temporary, "redis").mkdir()
        report = {
            "erase": erase(directory, n, arguments.erased),
            "rebuild": rebuild(directory, Path(temporary, "redis")),
        }
        fill(many := Path(temporary, "many"), max(1, n // 5), 5 * arguments.events_each)
        report["rebuild_5_times_the_events"] = rebuild(many, Path(temporary, "redis_many"))
    print(json.dumps(report))


if __name__ == "__main__":
    main()

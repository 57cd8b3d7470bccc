"""kill -9 at every step of a compaction: no row is ever missing, and the next run finishes the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.tables.compact import compact
from features.tables.schema import PROFILES_SCHEMA
from features.tables.writer import write_table
from tests.faults.steps import KILLED_AT_STEP

pytestmark = pytest.mark.faults

DAYS = [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3)]
USERS = [f"u{i}" for i in range(4)]

COMPACTION = """
from features.tables import compact, merge
merge.ROW_GROUP = 2
compact.compact(pathlib.Path(sys.argv[1]), grace_s=0.0, limits=merge.Limits(file_bytes=1))
"""


def fill(directory: Path) -> list[tuple[str, int]]:
    for day in DAYS:
        for user in USERS:
            row = {"user_id": user, "revision": day.day, "event_space": "e", "profile_space": "p"}
            write_table(directory, "profiles", [pa.RecordBatch.from_pylist([row], PROFILES_SCHEMA)], day)
    return sorted((user, day.day) for user in USERS for day in DAYS)


def rows_in(directory: Path) -> list[tuple[str, int]]:
    files = [pq.ParquetFile(file) for file in directory.glob("profiles/dt=*/*.parquet")]
    rows = [row for file in files for row in file.read(["user_id", "revision"]).to_pylist()]
    return sorted((row["user_id"], row["revision"]) for row in rows)


def test_a_compaction_killed_at_any_step_loses_nothing_and_is_finished_by_the_next(tmp_path: Path) -> None:
    step = 0
    while True:
        step += 1
        directory = tmp_path / str(step)
        wanted = fill(directory)
        command = [sys.executable, "-c", KILLED_AT_STEP + COMPACTION, str(directory), str(step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert sorted(set(rows_in(directory))) == wanted, f"after step {step}"
        compact(directory, grace_s=0.0)
        assert rows_in(directory) == wanted, f"after step {step} and another run"
        assert not list(directory.rglob(".compact-*")), f"remains of step {step}"
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert step > 15  # it was killed among its writes, renames and removals

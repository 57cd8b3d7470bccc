"""kill -9 at every step of an erase: nobody else's row is ever missing, the next run finishes the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.online.erased_users import Erased
from features.tables.compact import compact
from features.tables.erase import remove_users, rows_left
from tests.faults.steps import KILLED_AT_STEP
from tests.faults.test_compact_kills import USERS, fill, rows_in

pytestmark = pytest.mark.faults

ERASED = [Erased(user, datetime(2026, 1, 4, tzinfo=UTC), False, 0, {}, None) for user in USERS[:2]]

ERASE = """
from features.tables import erase
from tests.faults.test_erase_kills import ERASED
erase.remove_users(pathlib.Path(sys.argv[1]), ERASED, grace_s=0.0)
"""


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 99])
def test_an_erase_killed_at_any_step_is_finished_by_the_next(tmp_path: Path, step: int) -> None:
    others = [row for row in fill(tmp_path) if row[0] in USERS[2:]]
    compact(tmp_path, grace_s=0.0)
    command = [sys.executable, "-c", KILLED_AT_STEP + ERASE, str(tmp_path), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if step == 99 else -signal.SIGKILL), done.stderr
    assert set(others) <= set(rows_in(tmp_path))
    remove_users(tmp_path, ERASED, grace_s=0.0)
    assert rows_left(tmp_path, ERASED)["profiles"].rows == 0
    assert sorted(set(rows_in(tmp_path))) == others
    compact(tmp_path, grace_s=0.0)
    assert rows_in(tmp_path) == others
    assert not list(tmp_path.rglob(".compact-*.tmp"))

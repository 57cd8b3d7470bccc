"""``portrait demo``: what the README promises of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.repo.read import read_profiles
from pipelines.console.profile import top_categories
from pipelines.demo.events import sample_tastes

COMMAND = Path(sys.executable).with_name("portrait")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the demo ran twice, and what the second run printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    for _ in range(2):
        done = subprocess.run(
            [COMMAND, "demo", "--dir", folder], capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_it_shows_users_one_profile_and_a_query_to_try(demo: tuple[Path, str]) -> None:
    folder, told = demo
    assert "sent 340 events" in told
    assert "bad ones" in told
    assert "supporting events" in told
    assert "read_parquet" in told
    assert len(list((folder / "data" / "profiles").rglob("*.parquet"))) >= 1


def test_planted_tastes_are_among_the_top_three_interests(demo: tuple[Path, str]) -> None:
    tastes = sample_tastes()
    rows = read_profiles(demo[0] / "feature_repo", list(tastes))
    assert len(tastes) >= 24
    assert all(rows)
    found = [set(tastes[row["user_id"]]) <= set(top_categories(row)) for row in rows if row]
    assert sum(found) >= 0.8 * len(tastes), f"{sum(found)} of {len(tastes)} users"


def test_the_query_it_prints_runs(demo: tuple[Path, str]) -> None:
    import duckdb

    told = demo[1]
    query = told[told.index("SELECT") : told.index("ORDER BY user_id") + len("ORDER BY user_id")]
    assert len(duckdb.execute(query).fetchall()) == len(sample_tastes())


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with subprocess.Popen([COMMAND, "demo", "--dir", folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "sent" in line:
                process.send_signal(signal.SIGINT)
                break
        process.stdout.read()
        assert process.wait(60) == 130
    assert not folder.exists()


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(json.dumps({}), encoding="utf-8")
    done = subprocess.run([COMMAND, "demo", "--dir", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "expected an empty folder or an older demo's" in done.stderr
    assert (tmp_path / "mine.txt").exists()

"""The lookup command: one line or one JSON object per user, and an exit code that says who is served."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from features.errors import UsageError
from features.online.open import open_store
from features.repo.apply import write_repo
from features.schema import EMBEDDING_DIM
from pipelines.cli.main import cli
from pipelines.console.lookup import parse_age
from tests.support.profiles import write_of


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    write_repo(tmp_path / "feature_repo", history_dir=tmp_path / "data")
    store = open_store(tmp_path / "feature_repo")
    store.compare_and_set([write_of("ann", 0)])
    store.close()
    return tmp_path / "feature_repo"


def run(repo: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lookup", *arguments, "--set", f"feature_repo={repo}"])


def test_served_users_are_lines_and_exit_code_0(repo: Path) -> None:
    done = run(repo, "ann")
    assert (done.exit_code, done.output.splitlines()) == (
        0,
        ["ann  fresh  newest event 2025-06-15T15:06:41Z; 1 events; tag1, 书; sentiment +0.12"],
    )


def test_an_unknown_user_is_said_and_exit_code_1(repo: Path) -> None:
    done = run(repo, "ann", "nobody")
    assert done.exit_code == 1
    assert done.output.splitlines()[1] == "nobody  unknown"


def test_json_holds_every_field_and_what_is_older_than_asked_for_is_stale(repo: Path) -> None:
    done = run(repo, "ann", "nobody", "--json", "--max-age", "14d")
    ann, nobody = json.loads(done.output)
    assert (ann["status"], ann["interests"], len(ann["embedding"])) == (
        "stale",
        ["tag1", "书"],
        EMBEDDING_DIM,
    )
    assert ann["last_event"] == "2025-06-15T15:06:41Z"
    assert (nobody["status"], nobody["tags"]) == ("unknown", None)


@pytest.mark.parametrize(
    ("text", "wanted"), [("90s", 90), ("1.5m", 90), ("12h", 43_200), ("14d", 1_209_600), ("2w", 1_209_600)]
)
def test_ages_are_a_number_and_a_unit(text: str, wanted: float) -> None:
    assert parse_age(text) == timedelta(seconds=wanted)


@pytest.mark.parametrize("text", ["14", "d", "14 days", "-1d", "1e9d", ""])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--max-age: expected a number and one of s, m, h, d, w"):
        parse_age(text)

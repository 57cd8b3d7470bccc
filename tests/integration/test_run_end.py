"""What ``portrait run`` says at its end, and how it ends where most records were rejected."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.demo.broker import EmbeddedBroker
from pipelines.operations.init import write_project
from pipelines.operations.produce import produce_file
from pipelines.settings import load_settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@dataclass
class Shop:
    """A project on an embedded broker."""

    folder: Path
    brokers: tuple[str, ...]

    def __post_init__(self) -> None:
        write_project(self.folder)
        self.override = f"kafka.bootstrap_servers={json.dumps(list(self.brokers))}"
        self.file = self.folder / "portrait.yaml"

    def run(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """``portrait run --until-caught-up`` to its end; its exit code must be ``expect``."""
        command = [sys.executable, "-m", "pipelines.cli.main", "run", "--until-caught-up", *arguments]
        command += ["-c", str(self.file), "--set", self.override]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == expect, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def send(self, begin: int, number: int, time: str) -> None:
        """Reviews of as many users."""
        file = self.folder / "events.jsonl"
        file.write_text("".join(_review(i, time) for i in range(begin, begin + number)), encoding="utf-8")
        assert produce_file(file, load_settings(self.file, [self.override])) == number


def _review(number: int, time: str) -> str:
    event: dict[str, Any] = {
        "specversion": "1.0", "id": f"r-{number}", "source": "test", "type": "portrait.review.v1",
        "time": time, "subject": f"user{number}", "data": {"text": "A lovely dress that fits well"},
    }  # fmt: skip
    return json.dumps(event) + "\n"


@pytest.fixture(scope="module")
def brokers() -> Iterator[tuple[str, ...]]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap_servers


def test_a_run_that_rejects_most_says_so_and_exits_with_1(tmp_path: Path, brokers: tuple[str, ...]) -> None:
    shop = Shop(tmp_path / "shop", brokers)
    shop.send(0, 30, "2999-01-01T00:00:00Z")
    shop.send(30, 5, "2026-01-01T00:00:00Z")
    ended = shop.run(expect=1)
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    (headline,) = [line for line in lines if line.startswith("35 records: ")]
    assert headline.startswith("35 records: 5 profiles written, 30 rejected: 30 bad_time (")
    cells = [line.replace("│", " ").split() for line in lines if line.startswith("│")]
    assert cells == [["event", "applied", "5"], ["rejected", "bad_time", "30"]]
    assert "look at the dead letters in <topic>.dead: their header portrait-error-detail" in lines[-2]
    assert lines[-1].startswith(
        "portrait: run: expected at most 50% of the records to be rejected, got 30 of 35: 30 bad_time; look"
    )
    assert len([line for line in lines if " ERROR run: expected at most 50% of the latest" in line]) == 1

    shop.send(35, 30, "2026-01-01T00:00:00Z")
    ended = shop.run("--json")
    told = json.loads(ended.stdout)
    assert told["seconds"] > 0
    assert told["rounds"] >= 1
    del told["seconds"], told["rounds"]
    outcomes = ("applied", "seen", "below_floor", "duplicate", "conflict", "absorbed", "control", "invalid")
    assert told == {
        "records": 30, "profiles_written": 30, "files": 2, "rejects": {}, "reject_share": 0.0,
        "events": dict.fromkeys(outcomes, 0) | {"applied": 30},
    }  # fmt: skip
    assert "30 records: " not in ended.stderr

    other = Shop(tmp_path / "other", brokers)
    few = ("--set", "rounds.reject_alarm_share=0.2")
    ended = other.run("--workers", "2", "--json", *few, expect=1)
    told = json.loads(ended.stdout)
    assert (told["records"], told["events"]["applied"], told["rejects"]) == (65, 35, {"bad_time": 30})
    assert len(told["workers"]) == 2
    assert sum(worker["records"] for worker in told["workers"]) == 65
    assert "portrait: run: expected at most 20% of the records to be rejected, got 30 of 65" in ended.stderr

"""The end of a run as people and as programs read it."""

from __future__ import annotations

import json
from collections import Counter

from rich.console import Console

from pipelines.console.run_end import end_as_json, print_end
from pipelines.runners.progress import Progress
from pipelines.settings import Settings

ONE = Progress(205, 2, 2, 3, Counter(applied=4, seen=1), Counter(bad_time=200), 1.25)
TWO = Progress(20, 1, 0, 0, Counter(), Counter(bad_time=19, bad_json=1), 0.5)


def _said(*parts: Progress) -> list[str]:
    console = Console(width=60, force_terminal=False, color_system=None)
    with console.capture() as said:
        print_end(parts, Settings(), console)
    return said.get().splitlines()


def _cells(lines: list[str]) -> list[list[str]]:
    return [line.replace("│", " ").split() for line in lines if line.startswith("│")]


def test_a_run_tells_counts_by_outcome_and_reason_and_where_to_look() -> None:
    lines = _said(ONE)
    assert lines[0] == (
        "205 records: 3 profiles written, 200 rejected: 200 bad_time (2 rounds, 2 parquet files, 1.2 s)"
    )
    assert _cells(lines) == [
        ["event", "applied", "4"],
        ["event", "seen", "1"],
        ["rejected", "bad_time", "200"],
    ]
    assert lines[-1].startswith("look at the dead letters in <topic>.dead: ")


def test_of_workers_each_has_a_column() -> None:
    lines = _said(ONE, TWO)
    assert lines[0].startswith(
        "225 records: 3 profiles written, 220 rejected: 219 bad_time, 1 bad_json (3 rounds"
    )
    assert "worker 0" in lines[2]
    assert "worker 1" in lines[2]
    assert _cells(lines)[-2:] == [
        ["rejected", "bad_time", "200", "19", "219"],
        ["rejected", "bad_json", "0", "1", "1"],
    ]


def test_a_run_without_records_is_a_line() -> None:
    assert _said(Progress()) == [
        "0 records: 0 profiles written, 0 rejected (0 rounds, 0 parquet files, 0.0 s)"
    ]
    assert _said()[0].startswith("0 records")


def test_programs_get_one_object_with_each_of_several_workers() -> None:
    assert json.loads(end_as_json([ONE])) == json.loads(json.dumps(ONE.as_dict()))
    told = json.loads(end_as_json([ONE, TWO]))
    assert (told["records"], told["rejects"]) == (225, {"bad_time": 219, "bad_json": 1})
    assert [worker["records"] for worker in told["workers"]] == [205, 20]

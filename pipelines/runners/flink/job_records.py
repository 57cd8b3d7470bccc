"""Records of submitted jobs, kept in ``jobs/`` beside the Feast repo: what a restore needs to know."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from features.errors import UsageError
from pipelines.runners.flink.rest import FlinkError, FlinkRest
from pipelines.settings import Settings

LAST: Final = "last"
_CHECKPOINT: Final = re.compile(r"/([0-9a-f]{32})/chk-\d+/?$")


@dataclass(frozen=True)
class JobRecord:
    """One submitted job."""

    job: str
    name: str
    submitted_s: float
    flink_rest: str
    checkpoints: str
    reader_groups: int
    steps: tuple[str, ...]
    savepoint: str | None = None


def save_record(settings: Settings, record: JobRecord) -> Path:
    """Write a record, or write it anew."""
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record.job}.json"
    path.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    return path


def records(settings: Settings) -> list[JobRecord]:
    """Every job submitted from this project, the newest first."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in _folder(settings).glob("*.json")]
    made = [JobRecord(**data | {"steps": tuple(data["steps"])}) for data in found]
    return sorted(made, key=lambda record: -record.submitted_s)


def add_savepoint(settings: Settings, job: str, savepoint: str) -> None:
    """Note the savepoint that a job ended with; nothing for a job submitted elsewhere."""
    for record in records(settings):
        if record.job == job:
            save_record(settings, replace(record, savepoint=savepoint))


def resolve_restore(settings: Settings, rest: FlinkRest, restore: str) -> str:
    """The path to restore from: as given, or the newest savepoint or checkpoint of this project's last job.

    Raises UsageError where there is none, FlinkError while that job still runs.
    """
    if restore != LAST:
        return restore
    known = {job["jid"]: job["state"] for job in rest.jobs()}
    for record in records(settings):
        if known.get(record.job) in ("RUNNING", "RESTARTING", "CREATED", "INITIALIZING"):
            raise FlinkError(
                f"--restore last: expected an ended job, got {record.job}, which still runs; "
                f"portrait stop {record.job} --savepoint first"
            )
        if found := record.savepoint or _newest_checkpoint(record, rest, record.job in known):
            return found
    raise UsageError(
        "--restore last: expected a savepoint or retained checkpoint of a job of this project, got none; "
        "name one with --restore PATH, or leave it out: the start then rewinds the stored positions"
    )


def _newest_checkpoint(record: JobRecord, rest: FlinkRest, known: bool) -> str | None:
    folder = urlparse(record.checkpoints)
    if folder.scheme in ("", "file"):
        found = [
            path for path in Path(folder.path).glob(f"{record.job}/chk-*") if (path / "_metadata").exists()
        ]
        newest = max(found, key=lambda path: int(path.name.partition("-")[2]), default=None)
        return f"file://{newest}" if newest else None
    if not known:
        return None
    latest = (rest.checkpoints(record.job).get("latest") or {}).get("completed") or {}
    path = latest.get("external_path")
    return str(path) if path else None


def check_steps(settings: Settings, restore: str, steps: Sequence[str]) -> None:
    """Refuse to restore a checkpoint into a graph of other steps. One of an unknown job passes.

    Flink matches state by place in the graph, not by name: other steps could take state that is not theirs.
    Raises UsageError that names the steps.
    """
    checkpoint = _CHECKPOINT.search(restore)
    for record in records(settings):
        if record.savepoint != restore and (checkpoint is None or checkpoint[1] != record.job):
            continue
        added, gone = sorted({*steps} - {*record.steps}), sorted({*record.steps} - {*steps})
        if added or gone:
            told = [f"without {', '.join(gone[:3])}"] * bool(gone) + [f"with {', '.join(added[:3])}"] * bool(
                added
            )
            raise UsageError(
                f"--restore: expected the steps of job {record.job}, got a graph {' and '.join(told)}; start "
                "without --restore (the stored positions are rewound, nothing is lost), or pass "
                "--allow_non_restored_state to let Flink match what it can"
            )


def _folder(settings: Settings) -> Path:
    return settings.feature_repo.absolute().parent / "jobs"

"""The ``portrait`` command's side of Flink jobs: run and follow one, list them, stop one.

What imports Beam or a store is imported where it is needed: listing and stopping have to be quick.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from features.errors import UsageError
from features.online import SourcePosition
from pipelines.runners.flink.job_records import add_savepoint, records
from pipelines.runners.flink.rest import ENDED, FlinkError, FlinkRest

if TYPE_CHECKING:
    from pipelines.runners.flink.job_metrics import JobFigures
    from pipelines.runners.flink.submit import JobPlan
from pipelines.settings import Settings

_RESTORE: Final = "portrait run --runner flink --restore"


def run_attached(
    settings: Settings,
    plan: JobPlan,
    *,
    detach: bool,
    metrics_port: int | None,
    say: Callable[[str], None],
) -> None:
    """Submit, then follow until SIGTERM or Ctrl-C, which stops the job with a savepoint.

    With ``detach`` returns once every partition is read. Raises FlinkError where the job ends by itself.
    """
    from pipelines.runners.flink.submit import submit, watch

    if metrics_port and detach:
        raise UsageError(
            "--metrics-port: expected a run that stays and serves them, got --detach; leave one of them out"
        )
    rest = FlinkRest(plan.flink_rest)
    figures = _serve_figures(rest, metrics_port) if metrics_port else None
    running = submit(settings, plan)
    if figures:
        figures.job = running.job
    say(f"job {running.job}: {running.partitions} partitions are read, after {running.after_s:.0f} s")
    if detach:
        return
    asked = threading.Event()

    def stop(_signum: int, _frame: FrameType | None) -> None:
        asked.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    state = watch(settings, rest, running.job, asked.wait)
    if asked.is_set() and state not in ENDED:
        say(stop_job(settings, plan.flink_rest, running.job, savepoint=True))
        return
    if state in ("FAILED", "SUSPENDED"):
        raise FlinkError(
            f"job {running.job}: expected it to go on, got {state}: {rest.failure(running.job)}; start it "
            "again with --restore last"
        )


def _serve_figures(rest: FlinkRest, port: int) -> JobFigures:
    from prometheus_client import CollectorRegistry

    from pipelines import metrics
    from pipelines.runners.flink.job_metrics import JobFigures

    figures, registry = JobFigures(rest), CollectorRegistry()
    registry.register(figures)
    metrics.serve(port, registry)
    return figures


def list_jobs(settings: Settings, flink_rest: str, as_json: bool) -> str:
    """A table or JSON of the cluster's jobs, and of silent partitions."""
    rest = FlinkRest(flink_rest)
    rows = describe(rest)
    ours = {record.job for record in records(settings)}
    running = any(row["job"] in ours and row["state"] == "RUNNING" for row in rows)
    silent = _ages_s(settings) if running else {}
    unread = {f"{p.topic}[{p.partition}]": round(age_s, 1) for p, age_s in silent.items() if age_s > 30}
    if as_json:
        return json.dumps({"jobs": rows, "unread_partitions": unread})
    lines = [_line(row) for row in rows] or [f"no jobs at {rest.url}"]
    if running:
        lines.append(
            f"unread for over 30 s: {', '.join(unread)}"
            if unread
            else f"all {len(silent)} partitions are read"
        )
    return "\n".join(lines)


def _ages_s(settings: Settings) -> dict[SourcePosition, float]:
    from pipelines.kafka.liveness import Liveness
    from pipelines.runners.flink.submit import partitions_of
    from pipelines.runners.stored_positions import StoredPositions

    return Liveness(StoredPositions(settings)).ages(partitions_of(settings))


def describe(rest: FlinkRest) -> list[dict[str, Any]]:
    """Each job that the cluster knows, with its latest checkpoint."""
    rows = []
    for job in rest.jobs():
        seen = rest.checkpoints(job["jid"])
        latest = (seen.get("latest") or {}).get("completed") or {}
        rows.append(
            {
                "job": job["jid"],
                "name": job["name"],
                "state": job["state"],
                "started_ms": job["start-time"],
                "checkpoints": seen.get("counts", {}).get("completed", 0),
                "checkpoint_bytes": latest.get("state_size"),
                "checkpoint": latest.get("external_path"),
                "failures": rest.failures(job["jid"]),
            }
        )
    return rows


def _line(row: dict[str, Any]) -> str:
    started = datetime.fromtimestamp(row["started_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    size_kb = (row["checkpoint_bytes"] or 0) / 1000
    return (
        f"{row['job']}  {row['name']}  {row['state']}  since {started}Z  {row['checkpoints']} checkpoints, "
        f"the last of {size_kb:.0f} kB  {row['failures']} failures"
    )


def stop_job(
    settings: Settings, flink_rest: str, job: str | None, *, savepoint: bool, folder: str | None = None
) -> str:
    """Stop one job; what to say. Raises FlinkError, UsageError."""
    rest = FlinkRest(flink_rest)
    chosen = job or _running_job(settings, rest)
    if rest.state(chosen) in ENDED:
        return f"job {chosen} had ended: {rest.state(chosen)}"
    if not savepoint:
        rest.cancel(chosen)
        return f"job {chosen} is cancelled; to go on from its last checkpoint: {_RESTORE} last"
    path = rest.stop_with_savepoint(chosen, folder)
    add_savepoint(settings, chosen, path)
    return f"job {chosen} is stopped; savepoint {path}; to go on: {_RESTORE} {path}"


def _running_job(settings: Settings, rest: FlinkRest) -> str:
    running = {job["jid"] for job in rest.jobs() if job["state"] not in ENDED}
    ours = [record.job for record in records(settings) if record.job in running]
    if len(ours) != 1:
        raise UsageError(
            f"JOB: expected one running job of this project, got {len(ours)}; name it (portrait jobs)"
        )
    return ours[0]

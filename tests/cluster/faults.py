"""Faults on a real Flink cluster, each judged by the ledger: ``python -m tests.cluster.faults [CASE…]``

Not collected by pytest: a case takes about two minutes. Events are fed steadily while a case does its harm;
``gap_s`` is the longest time without a newly applied event around it, which is how long recovery took, and
``command_s`` what of it went into commands. ``refusals`` tries starts that must be refused. Prints JSON; a
table in Markdown and progress go to stderr. The exit code is 1 where a ledger is not clean or a refusal is
not as it should be.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cluster.parts import Feed, Parts, running_parts, say
from tests.cluster.refusals import refusals
from tests.support.flink_cluster import FlinkJobs
from tests.support.job import make_job, wait_until


def run_case(
    parts: Parts, name: str, harm: Callable[[Parts, FlinkJobs], None], users: int = 95
) -> dict[str, Any]:
    """Feed, start, harm after some seconds, let it settle, audit, stop."""
    job = make_job(
        parts.folder / f"{name}{int(time.time())}",
        parts.kafka,
        redis=parts.redis.connection_string,
        **{"endless.history_s": 15},
    )
    jobs = FlinkJobs(parts.cluster, job)
    began_s = time.monotonic()
    jobs.start()
    opened_s = time.monotonic() - began_s
    feed = Feed(jobs, users)
    with feed.running():
        wait_until(lambda: bool(feed.applied) and feed.applied[-1][1] > 100, 120, "events to be applied")
        say(f"{name}: harm")
        harmed_s = time.monotonic()
        harm(parts, jobs)
        mended_s = time.monotonic() - harmed_s
        feed.join()
        jobs.settle(300)
    found = job.audit()
    files = len(list(job.settings.history.dir.rglob("*.parquet")))
    listed = [row for row in jobs.listed()["jobs"] if row["state"] == "RUNNING"]
    jobs.stop()
    return {
        "clean": found.clean, "sent": found.sent, "applied": found.applied, "rejected": found.rejected,
        "loss": found.loss, "duplicates": found.duplicates, "divergence": found.divergence,
        "not_in_parquet": found.not_in_parquet, "parquet_files": files, "command_s": round(mended_s, 1),
        "gap_s": round(feed.gap_s(harmed_s), 1), "opened_s": round(opened_s, 1),
        "restarts": sum(row["failures"] for row in listed),
    }  # fmt: skip


def kill_worker(_parts: Parts, jobs: FlinkJobs) -> None:
    jobs.kill_a_worker()


def kill_task_manager(parts: Parts, jobs: FlinkJobs) -> None:
    parts.cluster.signal_part("taskmanager-1", signal.SIGKILL)
    time.sleep(1)
    parts.cluster.start_part("taskmanager-1")


def kill_job_manager(parts: Parts, jobs: FlinkJobs) -> None:
    parts.cluster.signal_part("jobmanager", signal.SIGKILL)
    time.sleep(1)
    parts.cluster.start_part("jobmanager")
    _wait_for_slots(parts)
    jobs.start("--restore", "last")


def kill_everything(parts: Parts, jobs: FlinkJobs) -> None:
    for name in parts.cluster.names():
        parts.cluster.signal_part(name, signal.SIGKILL)
    time.sleep(1)
    parts.cluster.start()
    jobs.start("--restore", "last")


def lose_checkpoints(parts: Parts, jobs: FlinkJobs) -> None:
    """All at once, and a start without a checkpoint: from the stored positions, rewound."""
    for name in parts.cluster.names():
        parts.cluster.signal_part(name, signal.SIGKILL)
    time.sleep(1)
    parts.cluster.start()
    jobs.start()


def rescale(_parts: Parts, jobs: FlinkJobs) -> None:
    jobs.stop("--savepoint")
    jobs.start("--restore", "last", "--parallelism=4")


def restart_redis(parts: Parts, _jobs: FlinkJobs) -> None:
    parts.restart_redis()


def restart_kafka(parts: Parts, _jobs: FlinkJobs) -> None:
    parts.kafka.kill()
    time.sleep(3)
    parts.kafka.start()


def add_partitions(parts: Parts, jobs: FlinkJobs) -> None:
    with parts.kafka.admin() as admin:
        admin.create_partitions({jobs.job.settings.kafka.topics.reviews: 6})


def _wait_for_slots(parts: Parts) -> None:
    from pipelines.runners.flink.rest import FlinkRest

    rest = FlinkRest(parts.cluster.rest)
    wait_until(lambda: rest.slots().free == 4, 60, "the TaskManagers to come back")


CASES: dict[str, Callable[[Parts, FlinkJobs], None]] = {
    "worker": kill_worker,
    "taskmanager": kill_task_manager,
    "jobmanager": kill_job_manager,
    "everything": kill_everything,
    "nocheckpoint": lose_checkpoints,
    "rescale": rescale,
    "redis": restart_redis,
    "kafka": restart_kafka,
    "partitions": add_partitions,
}
REFUSALS = "refusals"


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What came out, in Markdown."""
    faults = {name: result for name, result in results.items() if "gap_s" in result}
    refused = results.get(REFUSALS, {}).get("refusals", {})
    return "\n\n".join(
        (
            _rows(
                ("fault", "recovered after s", "commands took s", "sent", "lost", "doubled", "diverged"),
                faults,
                ("gap_s", "command_s", "sent", "loss", "duplicates", "divergence"),
            ),
            _rows(
                ("refused", "after s", "exit code", "message"), refused, ("seconds", "exit_code", "message")
            ),
        )
    ).strip()


def _rows(titles: Sequence[str], results: Mapping[str, Mapping[str, Any]], columns: Sequence[str]) -> str:
    rows = [
        (name, *(str(result[column]).replace("|", "/") for column in columns))
        for name, result in results.items()
    ]
    return (
        "\n".join(f"| {' | '.join(row)} |" for row in (titles, ["---"] * len(titles), *rows)) if rows else ""
    )


def main() -> int:
    known = [*CASES, REFUSALS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "cases", nargs="*", choices=[*known, []], default=[], metavar="CASE", help=", ".join(known)
    )
    chosen = parser.parse_args().cases or known
    results = {}
    with tempfile.TemporaryDirectory() as folder, running_parts(Path(folder)) as parts:
        for name in chosen:
            try:
                results[name] = refusals(parts) if name == REFUSALS else run_case(parts, name, CASES[name])
            except Exception as error:
                results[name] = {"clean": False, "error": f"{type(error).__name__}: {error}"[:800]}
            say(f"{name}: {json.dumps(results[name])}")
    print(json.dumps(results, indent=1))
    say(f"\n{table(results)}")
    return 0 if all(result["clean"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

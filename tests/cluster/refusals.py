"""What a real Flink cluster cannot run is refused: one clear message, soon, and an exit code.

``python -m tests.cluster.faults refusals``. One job over one cluster: while it runs, and after it ended
in a savepoint with events in flight, starts that must fail are tried one after another. Then jobs of changed
code go on in the two ways that the refusals name, and the ledger of everything that was sent must be clean.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from tests.cluster.parts import Parts, say
from tests.support.flink_cluster import FlinkJobs
from tests.support.job import make_job, real_events, wait_until
from tests.support.ports import free_ports

WITHIN_S: Final = 60.0
"""The longest that a refusal may take, on a busy machine."""


@dataclass(frozen=True)
class Refusal:
    """A start that must fail: with ``arguments``, in a cluster ``harmed``, by code ``changed``."""

    told: str
    """A regular expression of the message."""
    arguments: Callable[[Parts], tuple[str, ...]] = lambda _: ()
    harmed: Callable[[Parts], AbstractContextManager[None]] = lambda _: nullcontext()
    changed: str | None = None


@contextmanager
def _without(parts: Parts, name: str) -> Iterator[None]:
    parts.cluster.signal_part(name, signal.SIGKILL)
    try:
        yield
    finally:
        parts.cluster.start_part(name)


@contextmanager
def _file_for_checkpoints(parts: Parts) -> Iterator[None]:
    """Rights would not stop root; a file where the folder should be stops everybody."""
    folder = parts.cluster.folder / "checkpoints"
    aside = folder.with_name("checkpoints-aside")
    folder.rename(aside)
    folder.write_text("a file where a folder should be")
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


_NO_POOL: Final = r"expected a pool of Python workers at [\d.:]+, got "
_NO_JOB_SERVER: Final = r"expected a Beam job server at [\d.:]+, got "
_ANOTHER: Final = ("--job_name=another",)

WHILE_IT_RUNS: Final = {
    "second job": Refusal(r"expected no running job .*both would read every record"),
    "too few slots": Refusal(r"expected 9 free slots", lambda _: (*_ANOTHER, "--parallelism=9")),
    "restore of a running job": Refusal(r"expected an ended job", lambda _: ("--restore", "last")),
}
AFTER_ITS_END: Final = {
    "renamed step": Refusal(
        r"expected the steps of job .*without FoldProfiles/.* and with FoldShoppers/",
        lambda _: ("--restore", "last"),
        changed="renamed",
    ),
    "added step": Refusal(
        r"expected the steps of job .*with WriteRejected/Audit",
        lambda _: ("--restore", "last"),
        changed="added",
    ),
    "no such savepoint": Refusal(
        r"--restore: expected a savepoint", lambda parts: ("--restore", f"file://{parts.folder}/no/savepoint")
    ),
    "no worker pool": Refusal(_NO_POOL + "no answer", harmed=lambda parts: _without(parts, "workerpool")),
    "no worker pool, out of sight": Refusal(
        r"expected it to read, got: .*Connection refused.*; it is cancelled: is a pool of Python workers",
        harmed=lambda parts: _without(parts, "workerpool"),
        changed="remote",
    ),
    "another gRPC server for the pool": Refusal(
        _NO_POOL + "unimplemented",
        lambda parts: (f"--environment_config={parts.cluster.job_endpoint}",),
    ),
    "another program for the pool": Refusal(
        _NO_POOL,
        lambda parts: (f"--environment_config={parts.cluster.rest.removeprefix('http://')}",),
    ),
    "no job server": Refusal(
        _NO_JOB_SERVER + "no answer", harmed=lambda parts: _without(parts, "jobserver")
    ),
    "another program for the job server": Refusal(
        _NO_JOB_SERVER + "unimplemented", lambda parts: (f"--job_endpoint={parts.cluster.worker_pool}",)
    ),
    "no JobManager": Refusal(
        r"expected a JobManager at", lambda _: ("--flink-rest", f"127.0.0.1:{free_ports(1)[0]}")
    ),
    "unwritable checkpoints": Refusal(
        r"expected a writable state\.checkpoints\.dir", harmed=_file_for_checkpoints
    ),
    "unwritable checkpoints, out of sight": Refusal(
        r"expected it to read, got .*Failed to create checkpoint storage",
        harmed=_file_for_checkpoints,
        changed="remote",
    ),
    "workers of another version": Refusal(
        r"worker: expected apache-beam 2\.0\.0", changed="version"
    ),
    "unknown option": Refusal(r"--paralellism: expected an option", lambda _: ("--paralellism=2",)),
}  # fmt: skip


def refusals(parts: Parts) -> dict[str, Any]:
    """Every refusal in turn, then the ways out; and the ledger of all that was sent."""
    job = make_job(
        parts.folder / "refusals",
        parts.kafka,
        redis=parts.redis.connection_string,
        **{"endless.history_s": 15},
    )
    jobs, events = FlinkJobs(parts.cluster, job), real_events(40)
    part = events.num_rows // 4
    job.produce(events.slice(0, part))
    jobs.start()
    wait_until(lambda: jobs.applied() > 50, 120, "events to be applied")
    found = {name: refused(jobs, parts, name, case) for name, case in WHILE_IT_RUNS.items()}
    job.produce(events.slice(part, part))
    jobs.stop("--savepoint")  # while panes are in flight
    found |= {name: refused(jobs, parts, name, case) for name, case in AFTER_ITS_END.items()}
    # The two ways out that a refusal of other steps names, each with events in flight.
    command("renamed", jobs, "--restore", "last", "--allow_non_restored_state")
    job.produce(events.slice(2 * part, part))
    jobs.stop("--savepoint")
    command("added", jobs)
    job.produce(events.slice(3 * part))
    jobs.settle(300)
    audit = job.audit()
    jobs.stop()
    return {
        "clean": audit.clean and all(case["ok"] for case in found.values()),
        "sent": audit.sent, "loss": audit.loss, "duplicates": audit.duplicates,
        "divergence": audit.divergence, "not_in_parquet": audit.not_in_parquet, "refusals": found,
    }  # fmt: skip


def refused(jobs: FlinkJobs, parts: Parts, name: str, case: Refusal) -> dict[str, Any]:
    """Try one start; what it said, how long that took, and whether it is as it should be."""
    with case.harmed(parts):
        began_s = time.monotonic()
        done = command(case.changed, jobs, *case.arguments(parts), expect=None)
        taken_s = time.monotonic() - began_s
    errors = [line for line in done.stderr.splitlines() if line.startswith("portrait: ")]
    ok = (
        done.returncode in (1, 2)
        and len(errors) == 1
        and re.search(case.told, errors[0]) is not None
        and "Traceback" not in done.stderr
        and taken_s <= WITHIN_S
    )
    message = errors[-1].removeprefix("portrait: ") if errors else done.stderr[-800:]
    seen = {"ok": ok, "seconds": round(taken_s, 1), "exit_code": done.returncode, "message": message}
    say(f"refusals: {name}: {seen}{'' if ok else done.stderr[-3_000:]}")
    return seen


def command(
    changed: str | None, jobs: FlinkJobs, *arguments: str, expect: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """``portrait run --runner flink --detach``, of changed code where a change is named."""
    argv = jobs.job.command("run", "--runner", "flink", "--detach", *jobs.options(), *arguments)
    if changed:
        argv = [sys.executable, "-m", "tests.faults.changed", changed, *argv[1:]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"run: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done

"""Faults on a real Flink cluster, each judged by the ledger: ``python -m tests.faults.flink_faults [CASE…]``

Not collected by pytest: a case takes about two minutes. Events are fed steadily while a case does its harm;
``gap_s`` is the longest time without a newly applied event around it. Prints JSON, progress on stderr; the
exit code is 1 where a ledger is not clean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features.online import StoreError
from pipelines.kafka import KafkaFailureError, Sender
from pipelines.produce import read_messages
from tests.flink_cluster import FlinkJobs, running_flink
from tests.job import make_job, real_events, wait_until
from tests.kafka_server import KafkaServer, running_kafka
from tests.redis_server import RedisServer, running_redis

RATE = 20.0
"""Events a second."""


@dataclass
class Parts:
    """What a case may harm. ``redis`` changes when it is started again."""

    folder: Path
    cluster: Any
    kafka: KafkaServer
    redis: RedisServer
    stack: ExitStack

    def restart_redis(self) -> None:
        self.redis.process.kill()
        self.redis.process.wait()
        time.sleep(3)
        self.redis = self.stack.enter_context(
            running_redis(self.folder / "redis", appendfsync="always", port=self.redis.port)
        )


@dataclass
class Feed:
    """Sends a project's events at a steady rate from a thread, and watches when they are applied."""

    jobs: FlinkJobs
    users: int
    applied: list[tuple[float, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._sending = threading.Thread(target=self._send)

    @contextmanager
    def running(self) -> Iterator[Feed]:
        watching = threading.Thread(target=self._watch)
        self._sending.start()
        watching.start()
        try:
            yield self
        finally:
            self._sending.join()
            self._stop.set()
            watching.join()

    def join(self) -> None:
        """Wait until everything is sent."""
        self._sending.join()

    def gap_s(self, since_s: float) -> float:
        """The longest time without progress of those that end after ``since_s``."""
        moves = [
            at for (at, now), (_, before) in zip(self.applied[1:], self.applied, strict=False) if now > before
        ]
        return max((b - a for a, b in itertools.pairwise(moves) if b > since_s), default=0.0)

    def _send(self) -> None:
        job = self.jobs.job
        file = job.folder / "events.parquet"
        pq.write_table(real_events(self.users), file)
        messages = list(read_messages(file, job.settings.kafka.topics))
        for message in messages:
            job.sent.add(message.topic, message.key, message.value, message.headers)
        sender, began_s = Sender(job.settings.kafka), time.monotonic()
        for i, message in enumerate(messages):
            while True:
                try:
                    sender.send(message.topic, message.key, message.value, message.headers)
                    sender.flush()
                    break
                except KafkaFailureError:
                    time.sleep(0.5)
            time.sleep(max(0.0, began_s + i / RATE - time.monotonic()))
        sender.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            try:
                self.applied.append((time.monotonic(), self.jobs.applied()))
            except StoreError as error:
                say(f"  the store does not answer: {type(error).__name__}")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


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
    from pipelines.flink_rest import FlinkRest

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


@contextmanager
def running_parts(folder: Path) -> Iterator[Parts]:
    with ExitStack() as stack:
        kafka = stack.enter_context(running_kafka(folder / "kafka"))
        redis = stack.enter_context(running_redis(folder / "redis", appendfsync="always"))
        cluster = stack.enter_context(running_flink(folder / "cluster"))
        yield Parts(folder, cluster, kafka, redis, stack)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "cases", nargs="*", choices=[*CASES, []], default=[], metavar="CASE", help=", ".join(CASES)
    )
    chosen = parser.parse_args().cases or list(CASES)
    results = {}
    with tempfile.TemporaryDirectory() as folder, running_parts(Path(folder)) as parts:
        for name in chosen:
            try:
                results[name] = run_case(parts, name, CASES[name])
            except Exception as error:
                results[name] = {"clean": False, "error": f"{type(error).__name__}: {error}"[:800]}
            say(f"{name}: {json.dumps(results[name])}")
    print(json.dumps(results, indent=1))
    return 0 if all(result["clean"] for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

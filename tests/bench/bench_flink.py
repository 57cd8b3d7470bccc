"""Flink beside local rounds, on a real Kafka, Redis and cluster: ``python -m tests.bench.bench_flink``.

``throughput``: a backlog of mixed events, events/s between a tenth and nine tenths of it, and CPU time an
event of Python and JVM, with one and two workers on each runner. ``freshness``: event sent → readable by the
Feast SDK, at half of what one process of each runner was seen to do, or at ``--rate``. Nothing is pinned to
cores. Prints JSON, progress on stderr.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq

from features.fold.packed_state import unpack
from pipelines.kafka.producer import Sender
from pipelines.messages.dead_letter import Message
from pipelines.operations.produce import read_messages
from pipelines.process import worker
from tests.support.flink_cluster import FlinkJobs, running_flink
from tests.support.job import Job, make_job, real_events, wait_until
from tests.support.kafka_server import KafkaServer, running_kafka
from tests.support.redis_server import RedisServer, running_redis

USERS = 200
_numbers = itertools.count()


class Bench:
    """The parts that every measurement shares; each gets a project of its own."""

    def __init__(
        self, folder: Path, settings: Sequence[str], kafka: KafkaServer, redis: RedisServer, cluster: Any
    ) -> None:
        self.folder = folder
        self.settings = {key: json.loads(text) for key, _, text in (one.partition("=") for one in settings)}
        self.kafka = kafka
        self.redis = redis
        self.cluster = cluster

    def job(self) -> tuple[Job, Sequence[Any]]:
        """A fresh project and the messages for its topics, each once."""
        folder = self.folder / f"bench{next(_numbers)}"
        job = make_job(folder, self.kafka, redis=self.redis.connection_string, **self.settings)
        pq.write_table(real_events(USERS), folder / "events.parquet")
        return job, list(read_messages(folder / "events.parquet", job.settings.kafka.topics))

    def processes(self) -> tuple[list[psutil.Process], list[psutil.Process]]:
        """Python workers and JVMs of the cluster."""
        workers = psutil.Process(self.cluster.pid("workerpool")).children()
        java = [self.cluster.pid(name) for name in self.cluster.names() if name.startswith("taskmanager")]
        return workers, [psutil.Process(pid) for pid in java]


def renamed(messages: Sequence[Any], count: int) -> Iterator[Any]:
    """So many messages, repeated as needed, each with an id of its own."""
    for i in range(count):
        message = messages[i % len(messages)]
        headers = tuple((n, v + b"#%d" % i if n == "ce_id" and v else v) for n, v in message.headers)
        yield Message(message.topic, message.key, message.value, headers)


def applied(job: Job, users: Sequence[str]) -> int:
    held = worker(job.settings)
    return int(unpack(held.store.read_states(users), held.state_spaces).head["version"].sum())


@contextmanager
def on_flink(bench: Bench, job: Job, workers: int) -> Iterator[Callable[[], tuple[float, float]]]:
    """The job running on Flink; gives a call for the CPU seconds of (Python, JVM) so far."""
    jobs = FlinkJobs(bench.cluster, job)
    jobs.start(f"--parallelism={workers}")

    def cpu_s() -> tuple[float, float]:
        python, java = bench.processes()
        return _cpu_s(python), _cpu_s(java)

    try:
        yield cpu_s
    finally:
        jobs.stop()


@contextmanager
def on_rounds(_bench: Bench, job: Job, workers: int) -> Iterator[Callable[[], tuple[float, float]]]:
    """The same in local rounds."""
    arguments = ("--workers", str(workers)) if workers > 1 else ()
    with job.started(*arguments) as process:
        root = psutil.Process(process.pid)
        try:
            yield lambda: (_cpu_s([root, *root.children(recursive=True)]), 0.0)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


RUNNERS = {"flink": on_flink, "rounds": on_rounds}


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def throughput(bench: Bench, runner: str, workers: int, events: int) -> dict[str, Any]:
    """Events/s and µs of CPU an event over the middle of a backlog."""
    job, messages = bench.job()
    users = sorted({message.key.decode() for message in messages if message.key})
    marks: dict[float, tuple[float, int, tuple[float, float]]] = {}
    with RUNNERS[runner](bench, job, workers) as cpu_s:
        sender = Sender(job.settings.kafka)
        for message in renamed(messages, events):
            sender.send(message.topic, message.key, message.value, message.headers)
        sender.close()

        def look() -> bool:
            done = applied(job, users)
            for share in (0.1, 0.9):
                if done >= share * events * 0.95 and share not in marks:
                    marks[share] = (time.monotonic(), done, cpu_s())
            return len(marks) == 2

        wait_until(look, 900, "the backlog to be applied", every_s=0.25)
    (began_s, before, cpu_before), (ended_s, after, cpu_after) = marks[0.1], marks[0.9]
    count = after - before
    if count < events / 3:  # a pane holds thousands: both marks fell into the same
        return {"error": f"expected a longer backlog than {events}, got {count} events between the marks"}
    return {
        "events_per_s": round(count / max(1e-3, ended_s - began_s), 1),
        "python_us_per_event": round((cpu_after[0] - cpu_before[0]) / count * 1e6),
        "jvm_us_per_event": round((cpu_after[1] - cpu_before[1]) / count * 1e6),
        "events": count,
    }


def freshness(
    bench: Bench, runner: str, rate: float, seconds: float, probes_per_s: float = 4.0
) -> dict[str, Any]:
    """Seconds from a review's send until ``get_online_features`` shows its user, at a steady mixed load."""
    from feast import FeatureStore

    from features.online import feast_import  # noqa: F401 - before Feast

    job, messages = bench.job()
    job.run("apply")
    store = FeatureStore(repo_path=str(job.settings.feature_repo))
    template = next(m for m in messages if m.topic == job.settings.kafka.topics.reviews and m.key)
    waiting: dict[str, float] = {}
    ages_s: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set() or waiting:
            users = list(waiting)
            if users:
                rows = [{"user_id": user} for user in users]
                versions = store.get_online_features(["user_profile:version"], rows).to_dict()["version"]
                now_s = time.monotonic()
                ages_s.extend(now_s - waiting.pop(u) for u, v in zip(users, versions, strict=True) if v)
            time.sleep(0.02)

    with RUNNERS[runner](bench, job, 1):
        watching = threading.Thread(target=look)
        watching.start()
        sender, began_s = Sender(job.settings.kafka), time.monotonic()
        every = max(1, round(rate / probes_per_s))
        for i, message in enumerate(renamed(messages, int(rate * seconds))):
            sender.send(message.topic, message.key, message.value, message.headers)
            if i % every == 0:
                user = f"probe-{i}"
                headers = tuple(
                    (n, user.encode() if n in ("ce_subject", "ce_id") else v) for n, v in template.headers
                )
                waiting[user] = time.monotonic()
                sender.send(template.topic, user.encode(), template.value, headers)
            time.sleep(max(0.0, began_s + i / rate - time.monotonic()))
        done.set()
        watching.join()
        sender.close()
    warm = ages_s[len(ages_s) // 4 :]
    p50_s, p99_s = np.quantile(warm, (0.5, 0.99)).round(3).tolist()
    return {"rate": rate, "probes": len(warm), "p50_s": p50_s, "p99_s": p99_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", nargs="*", choices=["throughput", "freshness", []], default=[])
    parser.add_argument("--runners", nargs="*", choices=list(RUNNERS), default=list(RUNNERS))
    parser.add_argument("--events", type=int, default=20_000, help="backlog of throughput")
    parser.add_argument("--workers", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rate", type=float, help="events/s of freshness [half of the throughput]")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=JSON", help="settings of the jobs")
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    which = chosen.which or ["throughput", "freshness"]
    found: dict[str, Any] = {runner: {} for runner in chosen.runners}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        kafka = stack.enter_context(running_kafka(folder / "kafka"))
        redis = stack.enter_context(running_redis(folder / "redis"))
        cluster = stack.enter_context(running_flink(folder / "cluster"))
        bench = Bench(folder, chosen.set, kafka, redis, cluster)
        for runner in chosen.runners:
            for workers in chosen.workers if "throughput" in which else ():
                print(f"bench_flink: throughput of {runner}, {workers} workers …", file=sys.stderr)
                found[runner][f"throughput_{workers}"] = throughput(bench, runner, workers, chosen.events)
            if "freshness" in which:
                one = found[runner].get("throughput_1", {}).get("events_per_s", 100.0)
                print(f"bench_flink: freshness of {runner} …", file=sys.stderr)
                found[runner]["freshness"] = freshness(bench, runner, chosen.rate or one / 2, chosen.seconds)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""What tests of faults on Flink harm and feed: a real Kafka, a real Redis, a real cluster, a steady feed."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from features.online import StoreError
from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.producer import Sender
from pipelines.operations.produce import read_messages
from tests.support.flink_cluster import FlinkJobs, running_flink
from tests.support.job import real_events
from tests.support.kafka_server import KafkaServer, running_kafka
from tests.support.redis_server import RedisServer, running_redis

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


@contextmanager
def running_parts(folder: Path) -> Iterator[Parts]:
    with ExitStack() as stack:
        kafka = stack.enter_context(running_kafka(folder / "kafka"))
        redis = stack.enter_context(running_redis(folder / "redis", appendfsync="always"))
        cluster = stack.enter_context(running_flink(folder / "cluster"))
        yield Parts(folder, cluster, kafka, redis, stack)

"""Sending to and reading from a real Kafka, bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pipelines.kafka.producer import Sender
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.start_offsets import start_positions
from pipelines.messages.record import Record
from pipelines.settings import Kafka

LIMIT_S = 60.0


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def reading(
    kafka: Kafka,
    *topics: str,
    worker_of: tuple[int, int] = (0, 1),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[RoundReader]:
    """A reader at the start positions of its settings."""
    reader = RoundReader(kafka, topics, worker_of, clock)
    try:
        reader.seek(start_positions(kafka, reader, reader.committed(), {}))
        yield reader
    finally:
        reader.close()


def read_until(reader: RoundReader, done: Callable[[list[Record]], bool]) -> list[Record]:
    """Poll until ``done``, bounded; the records in the order given."""
    records: list[Record] = []
    deadline_s = time.monotonic() + LIMIT_S
    while not done(records):
        if time.monotonic() > deadline_s:
            pytest.fail(f"{len(records)} records in {LIMIT_S:g} s, and not done")
        records += reader.poll(1_000, 1 << 20, 100)
    return records


def read_all(reader: RoundReader) -> list[Record]:
    """Everything that the topics hold now."""
    ends = reader.end_offsets()
    return read_until(reader, lambda _: reader.reached(ends))


def send(kafka: Kafka, topic: str, values: list[bytes], partition: int | None = None) -> None:
    sender = Sender(kafka)
    for i, value in enumerate(values):
        sender.send(topic, f"user{i % 7}".encode(), value, partition=partition)
    sender.close()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(i).encode() for i in range(start, start + count)]


def values(records: list[Record]) -> list[int]:
    return [int(r.value or b"-1") for r in records]


def by_partition(records: list[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record)
    return found

"""What an endless reader commits, beats and alarms for; time is injected."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from features.online import SourcePosition, StoreError
from pipelines.kafka.liveness import ALARM_S, BEAT_S, BOOK, Liveness
from pipelines.kafka.reader_upkeep import GroupReader
from pipelines.kafka.safe_offsets import POSITIONS, Settled

A, B = (SourcePosition("id", "reviews", n) for n in range(2))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


class Book:
    """A position book in memory; fails while ``broken``."""

    def __init__(self) -> None:
        self.held: dict[str, dict[SourcePosition, int]] = {}
        self.broken = False

    def read(self, namespace: str) -> dict[SourcePosition, int]:
        return dict(self.held.get(namespace, {}))

    def write(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        if self.broken:
            raise StoreError("store: expected an answer, got none; start it")
        self.held.setdefault(namespace, {}).update(positions)


def test_positions_are_settled_once_a_later_bundle_is_finalized_long_enough_after() -> None:
    clock = Clock()
    settled = Settled(10, clock)
    first, second, third = (settled.finalizer({A: offset}) for offset in (5, 6, 9))
    first()
    clock.now_s += 60
    assert settled.due() == {}  # the job may have waited all the time
    second()
    assert settled.due() == {A: 5}
    clock.now_s += 5
    third()
    assert settled.due() == {}  # what was finalized just now may still wait in a pane
    clock.now_s += 5
    settled.finalizer({A: 12})()
    assert settled.due() == {A: 6}


def test_a_partition_that_moves_or_is_at_its_end_is_not_silent() -> None:
    clock, book = Clock(), Book()
    liveness = Liveness(book, clock)
    for offset in range(5):
        liveness.beat({A: offset, B: 7}, {A: 100, B: 7})
        assert liveness.silent([A, B]) == {}
        clock.now_s += BEAT_S


def test_a_stalled_and_a_never_opened_partition_are_told_within_30_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, book = Clock(), Book()
    liveness = Liveness(book, clock)
    began_s = clock.now_s
    with caplog.at_level(logging.ERROR):
        while not liveness.silent([A, B]):
            liveness.beat(
                {A: 3}, {A: 100}
            )  # A stands still before its end, B belongs to a reader that is not
            clock.now_s += BEAT_S
    assert clock.now_s - began_s < 30
    assert "reviews[0]: expected it to be read, got nothing" in caplog.text
    assert "reviews[1]: expected it to be read, got nothing" in caplog.text


def test_an_alarm_is_told_once_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    clock, book = Clock(), Book()
    liveness = Liveness(book, clock)
    liveness.silent([A])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.now_s += ALARM_S + 1
            liveness.silent([A])
        liveness.beat({A: 1}, {A: 1})
        assert liveness.silent([A]) == {}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_what_ran_before_excuses_nothing_and_alarms_nobody() -> None:
    clock, book = Clock(), Book()
    book.write(BOOK, {A: int((clock.now_s - 3600) * 1000)})
    assert Liveness(book, clock).silent([A]) == {}


class Reader:
    """A reader at an offset, which remembers what it was told to commit."""

    def __init__(self) -> None:
        self.committed: list[dict[SourcePosition, int]] = []

    def positions(self) -> dict[SourcePosition, int]:
        return {A: 7}

    def end_offsets(self) -> dict[SourcePosition, int]:
        return {A: 7}

    def partitions(self) -> tuple[SourcePosition, ...]:
        return (A,)

    def commit(self, positions: dict[SourcePosition, int]) -> None:
        self.committed.append(positions)


def held(book: Book, clock: Clock) -> tuple[GroupReader, Any]:
    reader: Any = Reader()
    return GroupReader(reader, book, Settled(0, clock), clock), reader


def test_settled_positions_reach_the_store_before_the_group() -> None:
    clock, book = Clock(), Book()
    group, reader = held(book, clock)
    group.settled.finalizer({A: 5})()
    book.broken = True
    group.look_after()
    assert reader.committed == []
    book.broken = False
    group.settled.finalizer({A: 6})()
    clock.now_s += BEAT_S
    group.look_after()
    assert (book.held[POSITIONS], reader.committed) == ({A: 6}, [{A: 6}])


def test_a_store_that_fails_fails_no_bundle_and_is_asked_again_at_the_next_beat() -> None:
    clock, book = Clock(), Book()
    group, _ = held(book, clock)
    book.broken = True
    group.look_after()
    book.broken = False
    group.look_after()
    assert book.held == {}  # not before the next beat
    clock.now_s += BEAT_S
    group.look_after()
    assert book.held[BOOK].keys() == {A}

"""The endless source: restrictions, claims, splits, and where a reader goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from hypothesis import given
from hypothesis import strategies as st

from features.online import SourcePosition
from pipelines.kafka import streaming_source
from pipelines.kafka.key_groups import group_elements
from pipelines.kafka.safe_offsets import PositionBook
from pipelines.kafka.streaming_source import (
    GroupPositions,
    GroupPositionsCoder,
    GroupTracker,
    ReadEvents,
    ReadGroupFn,
)
from pipelines.messages.record import Record
from pipelines.settings import Kafka

ELEMENT = group_elements(1)[0]
P = [SourcePosition("id", "reviews", n) for n in range(3)]


@given(
    st.dictionaries(
        st.builds(SourcePosition, st.text(), st.text(), st.integers(0, 2**31)), st.integers(0, 2**62)
    )
)
def test_a_restriction_survives_its_encoding(offsets: dict[SourcePosition, int]) -> None:
    coder = GroupPositionsCoder()
    encoded = coder.encode(GroupPositions(offsets))
    assert coder.decode(encoded) == GroupPositions(offsets)
    assert coder.encode(GroupPositions(dict(reversed(offsets.items())))) == encoded


def test_an_empty_restriction_is_truthy() -> None:
    assert GroupPositions()  # Beam drops a falsy residual


def test_a_split_leaves_the_rest_and_ends_the_claims() -> None:
    tracker = GroupTracker(GroupPositions({P[0]: 10}))
    assert tracker.try_claim((P[0], 12))
    assert tracker.try_claim((P[1], 1))
    assert tracker.try_split(0.5) == (GroupPositions({P[0]: 10}), GroupPositions({P[0]: 12, P[1]: 1}))
    assert not tracker.try_claim((P[0], 13))
    assert tracker.try_split(0) is None
    assert tracker.check_done()


def test_a_call_that_ends_without_a_split_is_a_loud_bug() -> None:
    tracker = GroupTracker(GroupPositions())
    assert not tracker.is_bounded()
    with pytest.raises(ValueError, match="expected a call to end by deferring"):
        tracker.check_done()


def test_claims_never_go_backwards() -> None:
    tracker = GroupTracker(GroupPositions({P[0]: 10}))
    with pytest.raises(ValueError, match=r"reviews\[0\]: expected a claim of 10 or later, got 9"):
        tracker.try_claim((P[0], 9))


class Log:
    """A Kafka of three partitions, and a reader of it that remembers where it was sent."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = dict(zip(P, lengths, strict=False))
        self.now: dict[SourcePosition, int] = {}
        self.markers: dict[SourcePosition, int] = {}
        self.seeks: list[dict[SourcePosition, int]] = []
        self.opened = self.closed = 0
        self.clock_s = 0.0

    def open(self, kafka: Kafka, topics: Iterable[str], worker_of: tuple[int, int]) -> Log:
        self.opened += 1
        self.now = {}
        return self

    def assigned(self) -> tuple[SourcePosition, ...]:
        return tuple(self.lengths)

    def positions(self) -> dict[SourcePosition, int]:
        return self.now | self.markers

    def seek(self, positions: dict[SourcePosition, int]) -> None:
        self.seeks.append(dict(positions))
        self.now |= positions

    def offsets_of(self, policy: str, partitions: Iterable[SourcePosition]) -> dict[SourcePosition, int]:
        return {p: 0 if policy == "earliest" else self.lengths[p] for p in partitions}

    def poll(self, max_records: int, max_bytes: int, timeout_ms: int) -> list[Record]:
        self.clock_s += 0.2
        found: list[Record] = []
        for p, offset in self.now.items():
            for n in range(offset, min(self.lengths[p], offset + max_records - len(found))):
                found.append(Record("reviews", "id", p.partition, n, 0, b"u", b"v", ()))
                self.now[p] = n + 1
        return found

    def close(self) -> None:
        self.closed += 1

    def clock(self) -> float:
        return self.clock_s


@pytest.fixture(autouse=True)
def no_idle_readers() -> Iterator[None]:
    streaming_source._idle.clear()
    yield
    streaming_source._idle.clear()


class Finalizer:
    """The runner's side of bundle finalization."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []

    def register(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)


def reading(
    log: Log, starts: Any = None, book: PositionBook | None = None, after_s: float = 0.0, **settings: Any
) -> ReadGroupFn:
    opened: Any = log.open  # a log stands in for the RoundReader
    return ReadGroupFn(Kafka(**settings), ("reviews",), starts or {}, book, after_s, 0.5, opened, log.clock)


def call(log: Log, restriction: GroupPositions, starts: Any = None, **settings: Any) -> tuple[list[int], Any]:
    """One process call: the offsets that it gave, and the residual."""
    threadsafe = ThreadsafeRestrictionTracker(GroupTracker(restriction))
    fn = reading(log, starts, **settings)
    records = list(fn.process(ELEMENT, Finalizer(), RestrictionTrackerView(threadsafe)))
    status = threadsafe.deferred_status()
    return [r.offset for r in records], status and status[0]


def test_the_first_call_begins_by_the_policy_and_the_next_goes_on_without_a_seek() -> None:
    log = Log(3, 2)
    given_out, residual = call(log, GroupPositions())
    assert sorted(given_out) == [0, 0, 1, 1, 2]
    assert residual == GroupPositions({P[0]: 3, P[1]: 2})
    log.lengths[P[0]] = 5
    assert call(log, residual) == ([3, 4], GroupPositions({P[0]: 5, P[1]: 2}))
    assert log.opened == 1
    assert log.seeks == [{P[0]: 0, P[1]: 0}, {}]


def test_stored_positions_come_before_the_policy() -> None:
    given_out, _ = call(Log(5, 5), GroupPositions(), {P[0]: 4}, start="latest")
    assert given_out == [4]


def test_a_restored_checkpoint_places_a_new_reader_and_new_partitions_begin_at_their_first_offset() -> None:
    log = Log(5, 5, 2)
    given_out, residual = call(log, GroupPositions({P[0]: 4, P[1]: 5}), start="latest")
    assert given_out == [4, 0, 1]
    assert residual == GroupPositions({P[0]: 5, P[1]: 5, P[2]: 2})


def test_a_reader_that_is_elsewhere_goes_back_to_the_restriction() -> None:
    log = Log(5)
    call(log, GroupPositions())
    given_out, _ = call(log, GroupPositions({P[0]: 2}))
    assert given_out == [2, 3, 4]


def test_markers_without_records_move_the_residual() -> None:
    log = Log(2)
    log.markers = {P[0]: 3}
    assert call(log, GroupPositions())[1] == GroupPositions({P[0]: 3})


def test_what_the_runner_splits_off_is_not_given_out_twice_or_lost() -> None:
    log = Log(5)
    threadsafe = ThreadsafeRestrictionTracker(GroupTracker(GroupPositions()))
    call_ = reading(log).process(ELEMENT, (finalizer := Finalizer()), RestrictionTrackerView(threadsafe))
    first = [next(call_).offset, next(call_).offset]
    split = threadsafe.try_split(0)
    assert split is not None
    assert list(call_) == []
    assert finalizer.callbacks == []  # nothing of a broken call may be committed
    assert first + call(log, split[1])[0] == [0, 1, 2, 3, 4]


def test_a_reader_whose_call_fails_is_closed() -> None:
    log = Log(5)
    tracker = RestrictionTrackerView(ThreadsafeRestrictionTracker(GroupTracker(GroupPositions())))
    call_ = reading(log).process(ELEMENT, Finalizer(), tracker)
    next(call_)
    call_.close()
    assert log.closed == 1
    assert streaming_source._idle == {}


def test_the_source_builds_without_reaching_any_broker() -> None:
    pipeline = beam.Pipeline()
    pipeline | "ReadEvents" >> ReadEvents(Kafka(), ("reviews",), groups=2)
    labels = {t.unique_name for t in pipeline.to_runner_api().components.transforms.values()}
    assert {"ReadEvents/Groups", "ReadEvents/Read"} <= labels

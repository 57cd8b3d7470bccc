"""The endless source of Flink and Dataflow: a splittable DoFn over reader groups.

Group i of N owns the partitions with ``partition % N == i`` of every topic: one element, one consumer, one
self-checkpoint for all of them, which keeps runner checkpoints small. A restriction is where each partition
goes on; it is encoded as JSON, so that a checkpoint outlives a renamed class. Flink jobs need
``--finish_bundle_before_checkpointing``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration

from features.errors import PortraitError
from features.online import SourcePosition
from pipelines import __version__, metrics
from pipelines.job_counters import tell
from pipelines.kafka.key_groups import group_elements, group_of
from pipelines.kafka.reader import Positions, RoundReader
from pipelines.kafka.reader_upkeep import GroupReader
from pipelines.kafka.safe_offsets import PositionBook, Settled
from pipelines.kafka.start_offsets import start_positions
from pipelines.messages.record import Record
from pipelines.settings import Kafka

_LOG = logging.getLogger(__name__)

RESUME_AFTER_S: Final = 0.1
MAX_RECORDS: Final = 2_000
MAX_BYTES: Final = 16 << 20

Claim = tuple[SourcePosition, int]
"""A partition, and the offset before which everything is done."""


class GroupPositions:
    """The restriction of a group: its partitions' next offsets; those not named begin by the start policy.

    No mapping itself: Beam drops a residual that is falsy, and an empty one means "from the start".
    """

    def __init__(self, offsets: Mapping[SourcePosition, int] | None = None) -> None:
        self.offsets: Positions = dict(offsets or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupPositions) and self.offsets == other.offsets

    def __hash__(self) -> int:
        return hash(frozenset(self.offsets.items()))

    def __repr__(self) -> str:
        return f"GroupPositions({self.offsets})"


class GroupPositionsCoder(Coder):
    """``[[topic id, topic, partition, offset], …]`` as JSON, sorted: equal positions have equal bytes."""

    def encode(self, value: GroupPositions) -> bytes:
        return json.dumps([[*p, offset] for p, offset in sorted(value.offsets.items())]).encode()

    def decode(self, encoded: bytes) -> GroupPositions:
        return GroupPositions({SourcePosition(t, n, p): offset for t, n, p, offset in json.loads(encoded)})

    def is_deterministic(self) -> bool:
        return True


class GroupTracker(RestrictionTracker):
    """Claims go forward within each partition until a split at 0, which leaves the rest to the residual."""

    def __init__(self, restriction: GroupPositions) -> None:
        self._restriction = restriction
        self._next: Positions = dict(restriction.offsets)
        self._stopped = False

    def current_restriction(self) -> GroupPositions:
        return self._restriction

    def try_claim(self, position: Claim) -> bool:
        """Whether what comes before ``position[1]`` is ours to give out. Raises ValueError backwards."""
        if self._stopped:
            return False
        partition, offset = position
        if offset < self._next.get(partition, 0):
            raise ValueError(
                f"{partition.topic}[{partition.partition}]: expected a claim of {self._next[partition]} or "
                f"later, got {offset}; the reader went back inside a bundle"
            )
        self._next[partition] = offset
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[GroupPositions, GroupPositions] | None:
        """A checkpoint at what is claimed, for any fraction: an endless rest has no middle."""
        if self._stopped:
            return None
        self._stopped = True
        return self._restriction, GroupPositions(self._next)

    def check_done(self) -> bool:
        if not self._stopped:
            raise ValueError("reader group: expected a call to end by deferring the rest, got none; a bug")
        return True

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(fraction=1.0 if self._stopped else 0.0)

    def is_bounded(self) -> bool:
        return False


class _GroupProvider(RestrictionProvider):
    def initial_restriction(self, element: str) -> GroupPositions:
        return GroupPositions()

    def create_tracker(self, restriction: GroupPositions) -> GroupTracker:
        return GroupTracker(restriction)

    def restriction_coder(self) -> Coder:
        return GroupPositionsCoder()

    def restriction_size(self, element: str, restriction: GroupPositions) -> int:
        return 1

    def truncate(self, element: str, restriction: GroupPositions) -> None:
        """On drain: read nothing more."""


class ReadEvents(beam.PTransform[Any, Any]):
    """Every record of the topics, for ever, at least once; positions live in the runner's checkpoints.

    ``starts`` are the offsets to begin at where the runner has no checkpoint (stored positions, rewound);
    partitions without one follow ``kafka.start``, and those found later begin at their first offset.
    ``book`` mirrors what is settled (``settled_after_s`` after it was read) and tells silent partitions.
    A call reads on for ``hold_s``: output leaves only then.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Iterable[str],
        groups: int,
        starts: Mapping[SourcePosition, int] | None = None,
        book: PositionBook | None = None,
        settled_after_s: float = 0.0,
        hold_s: float = 0.5,
    ) -> None:
        super().__init__()
        self._groups = groups
        self._fn = ReadGroupFn(kafka, tuple(topics), dict(starts or {}), book, settled_after_s, hold_s)

    def expand(self, begin: Any) -> Any:
        elements = group_elements(self._groups)  # beam.Create would name its steps for lines of Beam's code
        return (
            begin
            | beam.Impulse()
            | "Groups" >> beam.FlatMap(lambda _impulse: elements).with_output_types(str)
            | "Read" >> beam.ParDo(self._fn)
        )


_idle: dict[str, GroupReader] = {}
_lock: Final = threading.Lock()
"""Readers between two calls, by group: runners make and drop DoFn instances by the hundred."""


class ReadGroupFn(beam.DoFn):
    """A group's element → its records. Settings travel in the pipeline by reference to secrets only."""

    def __init__(
        self,
        kafka: Kafka,
        topics: tuple[str, ...],
        starts: Positions,
        book: PositionBook | None = None,
        settled_after_s: float = 0.0,
        hold_s: float = 0.5,
        open_reader: Callable[[Kafka, Iterable[str], tuple[int, int]], RoundReader] = RoundReader,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._starts = starts
        self._book = book
        self._settled_after_s = settled_after_s
        self._hold_s = hold_s
        self._open = open_reader
        self._clock = clock
        self._versions = Versions.here()

    def setup(self) -> None:
        """Raises PortraitError in a worker of other versions than the job's."""
        self._versions.check_here()

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        element: str,
        # Beam 2.77 resolves these in order: the finalizer has to be named before the tracker
        finalizer: Any = beam.DoFn.BundleFinalizerParam,
        tracker: Any = beam.DoFn.RestrictionParam(_GroupProvider()),  # noqa: B008 - Beam's way to ask for it
    ) -> Iterator[Record]:
        name = f"{self._kafka!r} {self._topics} {element}"
        with _lock:
            held = _idle.pop(name, None)
        try:
            held = held or self._opened(element)
            self._place(held.reader, tracker.current_restriction())
            whole = yield from self._read(held.reader, tracker)
            if whole:
                finalizer.register(held.settled.finalizer(held.reader.positions()))
                held.look_after()
                tell()
        except BaseException:  # also when the runner drops the generator: its position is unknown
            if held is not None:
                held.reader.close()
            raise
        with _lock:
            _idle[name] = held

    def _opened(self, element: str) -> GroupReader:
        reader = self._open(self._kafka, self._topics, group_of(element))
        _LOG.info("kafka: reader group %s opened %d partitions", element, len(reader.assigned()))
        return GroupReader(reader, self._book, Settled(self._settled_after_s, self._clock), self._clock)

    def _place(self, reader: RoundReader, restriction: GroupPositions) -> None:
        """Go on where the restriction says, which is where a reused reader mostly is."""
        now = reader.positions()
        wanted = {p: restriction.offsets[p] for p in reader.assigned() if p in restriction.offsets}
        if fresh := [p for p in reader.assigned() if p not in wanted and p not in now]:
            wanted |= self._beginnings(reader, fresh, resumed=bool(restriction.offsets))
        reader.seek({p: offset for p, offset in wanted.items() if now.get(p) != offset})

    def _beginnings(self, reader: RoundReader, fresh: list[SourcePosition], resumed: bool) -> Positions:
        if resumed:  # partitions that were added while no reader ran
            return reader.offsets_of("earliest", fresh)
        policy = start_positions(self._kafka, reader, self._starts, self._starts)
        return {p: policy[p] for p in fresh}

    def _read(self, reader: RoundReader, tracker: Any) -> Generator[Record, None, bool]:
        """Records until the hold or a bound is reached; False where the runner took the rest before."""
        until_s, count = self._clock() + self._hold_s, 0
        while self._clock() < until_s and count < MAX_RECORDS:
            left_ms = max(1, int((until_s - self._clock()) * 1000))
            polled = reader.poll(MAX_RECORDS - count, MAX_BYTES, left_ms)
            for number, record in enumerate(polled):
                partition = SourcePosition(record.topic_id, record.topic, record.partition)
                if not tracker.try_claim((partition, record.offset + 1)):
                    _count(polled[:number])
                    return False  # the next call seeks back to what is left
                count += 1
                yield record
            _count(polled)
        for claim in reader.positions().items():  # transaction markers, and partitions without records
            if not tracker.try_claim(claim):
                return False
        tracker.defer_remainder(Duration(seconds=RESUME_AFTER_S))
        return True


def _count(read: Iterable[Record]) -> None:
    for topic, number in Counter(record.topic for record in read).items():
        metrics.RECORDS.labels(topic=topic).inc(number)


@dataclass(frozen=True)
class Versions:
    """What must be equal on both sides."""

    beam: str
    portrait: str
    python: str

    @classmethod
    def here(cls) -> Versions:
        """Those of this process."""
        return cls(beam.__version__, __version__, f"{sys.version_info.major}.{sys.version_info.minor}")

    def check_here(self) -> None:
        """Raises PortraitError where this process has others."""
        if (ours := Versions.here()) != self:
            raise PortraitError(
                f"worker: expected {self} as the job was submitted with, got {ours}; install the same in the "
                "workers' environment, or submit from theirs"
            )

    def __str__(self) -> str:
        return f"apache-beam {self.beam}, portrait {self.portrait}, Python {self.python}"

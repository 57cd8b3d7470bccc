"""A reader group's reader between two calls, with what it owes the outside: commits, beats, alarms."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from features.online import StoreError
from pipelines.job_counters import tell_lag
from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.liveness import BEAT_S, Liveness
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.safe_offsets import POSITIONS, PositionBook, Settled

_LOG = logging.getLogger(__name__)


class GroupReader:
    """Used by one call at a time."""

    def __init__(
        self,
        reader: RoundReader,
        book: PositionBook | None,
        settled: Settled,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reader = reader
        self.settled = settled
        self._book = book
        self._clock = clock
        self._liveness = Liveness(book) if book else None
        self._next_beat_s = 0.0

    def look_after(self) -> None:
        """Every few seconds: commit what is settled, beat, look for silent partitions. Never fails a bundle:
        what does not work now is tried again at the next beat."""
        if self._liveness is None or self._book is None or self._clock() < self._next_beat_s:
            return
        self._next_beat_s = self._clock() + BEAT_S
        try:
            if due := self.settled.due():
                self._book.write(POSITIONS, due)  # first: a group's position alone says nothing of the store
                self.reader.commit(due)
            positions, ends = self.reader.positions(), self.reader.end_offsets()
            self._liveness.beat(positions, ends)
            tell_lag({p: max(0, ends.get(p, offset) - offset) for p, offset in positions.items()})
            self._liveness.silent(self.reader.partitions())
        except (StoreError, KafkaFailureError) as error:
            _LOG.warning("kafka: positions were not noted (%s); again in %g s", error, BEAT_S)

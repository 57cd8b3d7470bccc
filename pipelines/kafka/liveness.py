"""Whether every partition is read: an endless job can run, checkpoint and never open one of them.

Each reader notes when it last saw each of its partitions move or be at its end, in a book that all workers
share; each looks at the partitions of all. One reader that lives is enough for the alarm of another's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from apache_beam.metrics.metric import Metrics

from features.online import SourcePosition
from pipelines import metrics
from pipelines.kafka.safe_offsets import PositionBook

_LOG = logging.getLogger(__name__)

_OF_THE_RUNNER: Final = Metrics.gauge("portrait", "partitions_silent")
"""The same figure where the runner collects it, since nobody scrapes its workers."""
BOOK: Final = "read-at"
"""Namespace of the times, in ms since 1970."""
BEAT_S: Final = 5.0
ALARM_S: Final = 20.0
"""Silence of a partition that is an alarm; with a beat and a hold added it is below 30 s."""


class Liveness:
    """Beats for a reader's own partitions, and an alarm for every silent one of all.

    A partition counts as silent from when this object first knew of it: what ran before is no excuse and
    no reason for an alarm.
    """

    def __init__(self, book: PositionBook, clock: Callable[[], float] = time.time) -> None:
        self._book = book
        self._clock = clock
        self._known_since_s: dict[SourcePosition, float] = {}
        self._told: set[SourcePosition] = set()
        self._last: dict[SourcePosition, int] = {}

    def beat(self, positions: Mapping[SourcePosition, int], ends: Mapping[SourcePosition, int]) -> None:
        """Note the partitions that moved since the last beat, or have nothing to read."""
        now_ms = int(self._clock() * 1000)
        moving = {
            p: now_ms
            for p, offset in positions.items()
            if offset >= ends.get(p, offset + 1) or offset > self._last.get(p, offset)
        }
        self._last = dict(positions)
        self._book.write(BOOK, moving)

    def silent(self, partitions: Iterable[SourcePosition]) -> dict[SourcePosition, float]:
        """Seconds without reading of every partition beyond ALARM_S; says so in log and metric."""
        now_s = self._clock()
        found: dict[SourcePosition, float] = {}
        for partition, age_s in self.ages(partitions).items():
            since_s = self._known_since_s.setdefault(partition, now_s)
            silence_s = max(0.0, min(age_s, now_s - since_s))
            metrics.SILENCE_SECONDS.labels(partition.topic, str(partition.partition)).set(silence_s)
            if silence_s > ALARM_S:
                found[partition] = silence_s
        self._tell(found)
        return found

    def ages(self, partitions: Iterable[SourcePosition]) -> dict[SourcePosition, float]:
        """Seconds since each partition was last read; since 1970 where it never was."""
        now_s, read_at_ms = self._clock(), self._book.read(BOOK)
        return {p: now_s - read_at_ms.get(p, 0) / 1000 for p in partitions}

    def _tell(self, silent: Mapping[SourcePosition, float]) -> None:
        metrics.SILENT_PARTITIONS.set(len(silent))
        _OF_THE_RUNNER.set(len(silent))
        for partition in silent.keys() - self._told:
            _LOG.error(
                "kafka: %s[%d]: expected it to be read, got nothing for %.0f s; its reader is stuck or was "
                "never opened: restart the job from its last checkpoint if this stays",
                partition.topic, partition.partition, silent[partition],
            )  # fmt: skip
        for partition in self._told - silent.keys():
            _LOG.warning("kafka: %s[%d] is read again", partition.topic, partition.partition)
        self._told = set(silent)

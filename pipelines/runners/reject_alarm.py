"""The alarm of a run that rejects most of its records: an error in the log, and a gauge."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from pipelines import metrics
from pipelines.runners.progress import FEWEST, told, what_to_do
from pipelines.settings import Settings

_LOG = logging.getLogger(__name__)

WITHIN_S: Final = 60.0
SAY_EVERY_S: Final = 60.0


class _Round(NamedTuple):
    at_s: float
    records: int
    rejects: Counter[str]


class RejectAlarm:
    """Watches the share of rejects among the latest records of one process.

    These are the rounds of the last minute, and as many before them as make FEWEST records, so that a slow
    stream is watched too. With fewer records since the start the share counts as 0.
    """

    def __init__(
        self, settings: Settings, worker_of: tuple[int, int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        index, workers = worker_of
        self._who = f"worker {index} of {workers}: " if workers > 1 else ""
        self._most = settings.rounds.reject_alarm_share
        self._what_to_do = what_to_do(settings)
        self._clock = clock
        self._rounds: deque[_Round] = deque()
        self._records, self._rejects = 0, Counter[str]()
        self._said_s: float | None = None

    def look(self, records: int, rejects: Counter[str]) -> None:
        """Take note of a round; says so in the log, once a minute at most, while the share is too high."""
        now_s = self._clock()
        self._rounds.append(_Round(now_s, records, rejects))
        self._records += records
        self._rejects += rejects
        while self._rounds[0].at_s < now_s - WITHIN_S and self._records - self._rounds[0].records >= FEWEST:
            gone = self._rounds.popleft()
            self._records -= gone.records
            self._rejects -= gone.rejects
        share = self._rejects.total() / self._records if self._records >= FEWEST else 0.0
        metrics.REJECT_SHARE.set(share)
        if share > self._most and (self._said_s is None or now_s - self._said_s >= SAY_EVERY_S):
            self._said_s = now_s
            _LOG.error(
                "run: %sexpected at most %g%% of the latest records to be rejected, got %d of %d: %s; %s",
                self._who, 100 * self._most, self._rejects.total(), self._records, told(self._rejects),
                self._what_to_do,
            )  # fmt: skip

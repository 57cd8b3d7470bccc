"""Counters of a job on a cluster: workers report to Beam what their metrics grew by, its runner adds that up.

Workers are processes on other machines, which Prometheus does not scrape. Inside a bundle each reports its
growth as Beam counters; :mod:`pipelines.runners.flink.job_metrics` asks the runner for the sums and serves
them under the names they have in local rounds. A counter begins at 0 again when the job begins again, which
Prometheus expects of counters. What a failed bundle counted may be missing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, unquote

from apache_beam.metrics.metric import Metrics
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from features.online import SourcePosition
from pipelines import metrics

_LOG = logging.getLogger(__name__)

Series = tuple[str, frozenset[tuple[str, str]]]
"""A Prometheus series: its name, and its labels with their values."""

NAMESPACE: Final = "portrait"
TELL_EVERY_S: Final = 1.0
_MICRO: Final = 1_000_000
"""Beam's counters are integers, so sums of seconds travel as microseconds."""
METRICS: Final = [m for m in vars(metrics).values() if isinstance(m, Counter | Gauge | Histogram)]
_GROWING: Final = [figure for figure in METRICS if not isinstance(figure, Gauge)]
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


class Teller:
    """Hands what this process's figures grew by to the runner. Inside a bundle only: elsewhere it is lost."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = 0.0
        self._told: dict[Series, int] = {}
        self._lock = threading.Lock()

    def tell(self) -> None:
        """At most once a second, whichever step comes first."""
        with self._lock:
            if self._clock() < self._next_s:
                return
            self._next_s = self._clock() + TELL_EVERY_S
            for series, value in _samples(_GROWING):
                now = _to_int(series, value)
                if grown := now - self._told.get(series, 0):
                    Metrics.counter(NAMESPACE, to_name(series)).inc(grown)
                    self._told[series] = now


tell: Final = Teller().tell


def tell_lag(lag: Mapping[SourcePosition, int]) -> None:
    """Records not yet read of a reader's own partitions. To be told by their reader alone: the runner adds up
    what its subtasks tell, and several of them may share a process."""
    for position, records in lag.items():
        labels = {"topic": position.topic, "partition": str(position.partition)}
        metrics.LAG.labels(**labels).set(records)
        Metrics.gauge(NAMESPACE, to_name(("portrait_lag_records", frozenset(labels.items())))).set(records)


def to_name(series: Series) -> str:
    """A series as the name of a runner's metric; Flink replaces dots, colons, commas and blanks in one."""
    name, labels = series
    told = ";".join(f"{key}={quote(value, safe='').replace('.', '%2E')}" for key, value in sorted(labels))
    return name.removeprefix(f"{NAMESPACE}_") + (f"{{{told}}}" if labels else "")


def from_name(name: str) -> Series | None:
    """The series of a metric's name as Flink tells it, with its namespace; None for others than ours."""
    name, _, told = name.partition("{")
    pairs = [part.partition("=") for part in told.removesuffix("}").split(";") if part]
    return (name, frozenset((key, unquote(value)) for key, _, value in pairs)) if pairs or not told else None


def _samples(figures: Iterable[Counter | Gauge | Histogram]) -> Iterator[tuple[Series, float]]:
    for figure in figures:
        for family in figure.collect():
            yield from ((series_of(s), s.value) for s in family.samples if not s.name.endswith("_created"))


def series_of(sample: Sample) -> Series:
    """The series that a sample belongs to."""
    return sample.name, frozenset(sample.labels.items())


def _to_int(series: Series, value: float) -> int:
    return round(value * (_MICRO if series[0].endswith("_sum") else 1))


def from_int(series: Series, value: float) -> float:
    """The value of a series whose counter stands at ``value``: sums of seconds travel as microseconds."""
    return value / (_MICRO if series[0].endswith("_sum") else 1)

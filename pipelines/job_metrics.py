"""Figures of a cluster job: from every worker through the runner's own metrics to one Prometheus endpoint.

Workers are other processes on other machines, which nobody scrapes. Each hands what its figures grew by to
Beam as counters, the runner carries them, and ``portrait run --metrics-port`` asks the runner and serves them
under the names they have in local rounds. A counter begins at 0 again when the job begins again, which
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
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from features.online import SourcePosition
from pipelines import metrics
from pipelines.flink_rest import FlinkError, FlinkRest

_LOG = logging.getLogger(__name__)

Series = tuple[str, frozenset[tuple[str, str]]]
"""A Prometheus series: its name, and its labels with their values."""

NAMESPACE: Final = "portrait"
TELL_EVERY_S: Final = 1.0
_MICRO: Final = 1_000_000
"""Beam's counters are integers, so sums of seconds travel as microseconds."""
_FIGURES: Final = [m for m in vars(metrics).values() if isinstance(m, Counter | Gauge | Histogram)]
_GROWING: Final = [figure for figure in _FIGURES if not isinstance(figure, Gauge)]
_SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


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


class JobFigures(Collector):
    """This process's figures with those of all workers of a job added. One that does not answer now, or has
    ended, keeps what it told last."""

    def __init__(self, rest: FlinkRest) -> None:
        self.job: str | None = None
        self._rest = rest
        self._last: Mapping[Series, float] = {}

    def collect(self) -> Iterator[Metric]:
        workers = self._workers()
        for figure in _FIGURES:
            (family,) = figure.collect()
            names = {family.name + suffix for suffix in _SUFFIXES[family.type]}
            for name, labels in workers:
                if name in names and figure._labelnames:  # all series of its labels are there from now on
                    figure.labels(**{key: value for key, value in labels if key != "le"})
            (family,) = figure.collect()
            family.samples = [
                s._replace(value=s.value + workers.get(_series(s), 0.0)) for s in family.samples
            ]
            yield family

    def _workers(self) -> Mapping[Series, float]:
        if self.job is not None:
            try:
                found = self._rest.job_metrics(self.job, f"{NAMESPACE}_")
                told = {series: value for name, value in found.items() if (series := from_name(name))}
                self._last = {
                    series: _from_int(series, value) for series, value in told.items()
                } or self._last
            except FlinkError as error:
                _LOG.warning("%s; the workers' figures are those of before", error)
        return self._last


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
            yield from ((_series(s), s.value) for s in family.samples if not s.name.endswith("_created"))


def _series(sample: Sample) -> Series:
    return sample.name, frozenset(sample.labels.items())


def _to_int(series: Series, value: float) -> int:
    return round(value * (_MICRO if series[0].endswith("_sum") else 1))


def _from_int(series: Series, value: float) -> float:
    return value / (_MICRO if series[0].endswith("_sum") else 1)

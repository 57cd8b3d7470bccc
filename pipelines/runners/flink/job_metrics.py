"""Metrics of all workers of a Flink job, at one Prometheus endpoint (``portrait run --metrics-port``)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from pipelines.job_counters import METRICS, NAMESPACE, SUFFIXES, Series, from_int, from_name, series_of
from pipelines.runners.flink.rest import FlinkError, FlinkRest

_LOG = logging.getLogger(__name__)


class JobFigures(Collector):
    """This process's figures with those of all workers of a job added. One that does not answer now, or has
    ended, keeps what it told last."""

    def __init__(self, rest: FlinkRest) -> None:
        self.job: str | None = None
        self._rest = rest
        self._last: Mapping[Series, float] = {}

    def collect(self) -> Iterator[Metric]:
        workers = self._workers()
        for figure in METRICS:
            (family,) = figure.collect()
            names = {family.name + suffix for suffix in SUFFIXES[family.type]}
            for name, labels in workers:
                if name in names and figure._labelnames:  # all series of its labels are there from now on
                    figure.labels(**{key: value for key, value in labels if key != "le"})
            (family,) = figure.collect()
            family.samples = [
                s._replace(value=s.value + workers.get(series_of(s), 0.0)) for s in family.samples
            ]
            yield family

    def _workers(self) -> Mapping[Series, float]:
        if self.job is not None:
            try:
                found = self._rest.job_metrics(self.job, f"{NAMESPACE}_")
                told = {series: value for name, value in found.items() if (series := from_name(name))}
                self._last = {series: from_int(series, value) for series, value in told.items()} or self._last
            except FlinkError as error:
                _LOG.warning("%s; the workers' figures are those of before", error)
        return self._last

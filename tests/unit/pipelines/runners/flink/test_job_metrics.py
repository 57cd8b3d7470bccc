"""Figures of workers: told to the runner as what they grew by, and served under the names of local rounds."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import unquote

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from features.online import SourcePosition
from pipelines import metrics
from pipelines.job_counters import Teller, from_name, tell_lag, to_name
from pipelines.runners.flink.job_metrics import JobFigures
from pipelines.runners.flink.rest import MAX_QUERY, FlinkError, FlinkRest

SOURCE = "[17]{ReadEvents__ParseEvents__Shar"
FOLD = "ShardByUser/GroupByShard -> [5]{FoldProfiles"


class Cluster(FlinkRest):
    """The REST API of a JobManager that knows one job of two vertices and their metrics."""

    def __init__(self, told: dict[str, dict[str, float]]) -> None:
        super().__init__("127.0.0.1:1")
        self.told = told
        self.away = False

    def _get(self, path: str) -> Any:
        if self.away:
            raise FlinkError("flink: expected an answer, got none")
        path, _, query = path.partition("?agg=sum&get=")
        if path == "/jobs/j":
            return {"vertices": [{"id": name} for name in self.told]}
        known = self.told[path.split("/")[4]]
        if not query:
            return [{"id": name} for name in known]
        assert len(query) <= MAX_QUERY
        return [{"id": name, "sum": known[name]} for name in map(unquote, query.split(","))]


def served(figures: JobFigures) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(figures)
    lines = generate_latest(registry).decode().splitlines()
    return {
        name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))
    }


def figures_of(cluster: Cluster) -> JobFigures:
    made = JobFigures(cluster)
    made.job = "j"
    return made


def test_workers_add_up_under_the_names_of_local_rounds() -> None:
    cluster = Cluster(
        {
            "a": {f"{SOURCE}.portrait_rejects_total{{reason=bad_json}}": 2, f"{SOURCE}.numRecordsIn": 9},
            "b": {
                f"{FOLD}.portrait_events_total{{outcome=applied}}": 7,
                f"{FOLD}.portrait_rejects_total{{reason=bad_json}}": 1,
            },
        }
    )
    here = served(JobFigures(cluster))
    told = served(figures_of(cluster))
    grown = {name: value - here.get(name, 0) for name, value in told.items()}
    assert {name: value for name, value in grown.items() if value} == {
        'portrait_rejects_total{reason="bad_json"}': 3,
        'portrait_events_total{outcome="applied"}': 7,
    }


def test_a_histogram_of_a_worker_has_all_its_buckets() -> None:
    cluster = Cluster(
        {
            "a": {
                f"{SOURCE}.portrait_batch_seconds_bucket{{le=%2BInf;modality=smell}}": 3,
                f"{SOURCE}.portrait_batch_seconds_sum{{modality=smell}}": 2_500_000,
                f"{SOURCE}.portrait_batch_seconds_count{{modality=smell}}": 3,
            }
        }
    )
    told = {name: value for name, value in served(figures_of(cluster)).items() if "smell" in name}
    assert told.pop('portrait_batch_seconds_sum{modality="smell"}') == 2.5
    assert told['portrait_batch_seconds_bucket{le="0.005",modality="smell"}'] == 0
    assert told['portrait_batch_seconds_bucket{le="+Inf",modality="smell"}'] == 3
    metrics.BATCH_SECONDS.remove("smell")


def test_figures_stay_while_the_cluster_does_not_answer_and_after_the_job() -> None:
    cluster = Cluster({"a": {f"{SOURCE}.portrait_conflicts_total": 4}})
    figures = figures_of(cluster)
    before = served(figures)["portrait_conflicts_total"]
    cluster.away = True
    assert served(figures)["portrait_conflicts_total"] == before
    cluster.away, cluster.told = False, {}
    assert served(figures)["portrait_conflicts_total"] == before


def test_many_metrics_are_asked_for_in_several_requests() -> None:
    known = {f"{SOURCE}.portrait_lag_records{{partition={n};topic=reviews}}": 1.0 for n in range(200)}
    assert len(Cluster({"a": known}).job_metrics("j", "portrait_")) == 200


@given(st.dictionaries(st.sampled_from(("topic", "partition", "le", "reason")), st.text(min_size=1)))
def test_a_series_survives_being_a_metrics_name_in_flink(labels: dict[str, str]) -> None:
    series = ("portrait_lag_records", frozenset(labels.items()))
    name = to_name(series)
    assert not set(name) & set(" .:,")
    assert from_name(f"portrait_{name}") == series


_TELLER = Teller(itertools.count(step=10).__next__)


def _tell(_element: int) -> None:
    """By name, so that steps share the process's teller rather than a pickle of it."""
    _TELLER.tell()


def told_in_a_job() -> dict[str, int]:
    pipeline = beam.Pipeline(options=PipelineOptions([], direct_running_mode="in_memory"))
    _ = pipeline | beam.Create([0, 1, 2], reshuffle=False) | beam.Map(_tell)
    found = pipeline.run().metrics().query()
    return {m.key.metric.name: m.result for kind in ("counters", "gauges") for m in found[kind]}


def test_a_process_tells_its_runner_what_its_figures_grew_by() -> None:
    metrics.CONFLICTS.inc(1_000)
    assert told_in_a_job()["conflicts_total"] >= 1_000
    metrics.CONFLICTS.inc(5)
    metrics.FRESHNESS_SECONDS.observe(4_096)
    told = told_in_a_job()
    assert told["conflicts_total"] == 5
    # what other tests of the process observed may be thousands of years, of which a float keeps milliseconds
    assert told["freshness_seconds_sum"] == pytest.approx(4_096_000_000, abs=10_000)
    assert told["freshness_seconds_bucket{le=%2BInf}"] == 1
    assert "freshness_seconds_bucket{le=3600%2E0}" not in told


def test_the_lag_is_told_by_the_reader_of_a_partition_alone() -> None:
    tell_lag({SourcePosition("id", "a.b", 3): 17})  # by a reader elsewhere in this process
    assert not [name for name in told_in_a_job() if name.startswith("lag_records")]
    metrics.LAG.remove("a.b", "3")


def test_steps_of_one_process_tell_at_most_once_a_second() -> None:
    times = iter((0.0, 0.0, 0.5, 1.5, 1.5))
    asked: list[int] = []

    class Counted(Teller):
        def tell(self) -> None:
            before = self._next_s
            super().tell()
            asked.append(self._next_s != before)

    teller = Counted(lambda: next(times))
    for _ in range(3):
        teller.tell()
    assert asked == [True, False, True]

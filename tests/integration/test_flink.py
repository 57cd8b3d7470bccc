"""A short life of a job on a real Flink: start, mixed content, a killed worker, savepoint; all arrives.

Its figures are scraped on the way.
"""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.runners.flink.rest import FlinkRest
from tests.support.flink_cluster import FlinkJobs, bytes_under, running_flink
from tests.support.job import Job, make_job, real_events, wait_until
from tests.support.kafka_server import SASL_PASSWORD, SASL_USER, KafkaServer
from tests.support.ports import free_ports
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.data, pytest.mark.timeout(400)]

FEW_SECONDS = 8
FIRST = 600
"""Messages that are sent before the worker is killed."""


@dataclass(frozen=True)
class Figures:
    """What ``--metrics-port`` serves, as it was scraped last."""

    port: int
    told: dict[str, float] = field(default_factory=dict)

    def scrape(self) -> Figures:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        self.told.clear()
        for sample in (sample for family in families for sample in family.samples):
            self.told[sample.name] = self.told.get(sample.name, 0.0) + sample.value
        return self

    def accounted(self) -> float:
        """Records that were counted when read and as an event with an outcome, or a reject."""
        judged = self.told["portrait_events_total"] + self.told["portrait_rejects_total"]
        return min(judged, self.told.get("portrait_records_total", 0.0))


@dataclass(frozen=True)
class Ended:
    """A job that has ended, and what was seen while it ran."""

    jobs: FlinkJobs
    listed: dict[str, Any]
    groups_by_subtask: list[int]
    figures: Figures
    stopped: str

    @property
    def job(self) -> Job:
        return self.jobs.job


@pytest.fixture(scope="module")
def ended(
    tmp_path_factory: pytest.TempPathFactory, kafka_server: KafkaServer, redis_server: RedisServer
) -> Ended:
    """A job that read over 2,000 messages, lost a worker to kill -9 between them, ended in a savepoint."""
    folder = tmp_path_factory.mktemp("flink")
    for name, text in (("user", SASL_USER), ("password", SASL_PASSWORD)):
        (folder / name).write_text(text)
    login = {
        "kafka.bootstrap_servers": list(kafka_server.sasl_servers),
        "kafka.security.protocol": "SASL_PLAINTEXT",
        "kafka.security.sasl_mechanism": "PLAIN",
        "kafka.security.sasl_username": f"file:{folder / 'user'}",
        "kafka.security.sasl_password": f"file:{folder / 'password'}",
    }
    job = make_job(
        folder / "job",
        kafka_server,
        redis=redis_server.connection_string,
        **login,
        **{"endless.history_s": FEW_SECONDS},
    )
    events = real_events(95)
    (port,) = free_ports(1)
    figures = Figures(port)
    with ExitStack() as stack:
        aside = stack.enter_context(ThreadPoolExecutor(1))
        cluster = stack.enter_context(running_flink(folder / "cluster", task_managers=1))
        produced = aside.submit(job.produce, events.slice(0, FIRST))
        jobs = FlinkJobs(cluster, job)
        jid = stack.enter_context(jobs.attached("--metrics-port", str(figures.port)))
        produced.result()
        wait_until(lambda: jobs.applied() > 300, 60, "the first events", every_s=0.5)
        rest = FlinkRest(cluster.rest)  # asked before the kill: Flink counts anew after a restart
        wait_until(lambda: sum(rest.readers(jid)) >= 2, 60, "Flink to count its readers", every_s=0.5)
        readers = rest.readers(jid)
        wait_until(lambda: figures.scrape().accounted() >= FIRST, 60, "the workers' figures", every_s=0.5)
        produced, before = aside.submit(job.produce, events.slice(FIRST)), jobs.applied()
        wait_until(lambda: jobs.applied() > before, 60, "the next events", every_s=0.5)
        jobs.kill_a_worker()
        produced.result()
        jobs.settle(90)
        return Ended(jobs, jobs.listed(), readers, figures, jobs.stop("--savepoint"))


def test_a_killed_worker_loses_and_doubles_nothing(ended: Ended) -> None:
    found = ended.job.audit()
    assert found.clean, found.notes[:10]
    assert found.sent > 2000
    assert found.applied + found.rejected == found.identities


def test_the_figures_of_all_workers_are_served_in_one_place(ended: Ended) -> None:
    told = ended.figures.told
    assert told["portrait_records_total"] == FIRST
    assert told["portrait_events_total"] + told["portrait_rejects_total"] == FIRST
    assert told["portrait_freshness_seconds_count"] > 0
    assert told["portrait_batch_items_sum"] > 0
    assert told["portrait_profiles_written_total"] > 0
    assert 0 <= told["portrait_lag_records"] < FIRST  # as of up to a beat ago
    assert told["portrait_partitions_silent"] == 0
    assert "portrait_conflicts_total" in told


def test_parquet_comes_in_few_whole_files(ended: Ended) -> None:
    history = ended.job.settings.history.dir
    files = list(history.rglob("*.parquet"))
    rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    assert rows / len(files) > 100
    assert not list(history.rglob("*.tmp"))


def test_the_job_list_says_that_every_partition_is_read(ended: Ended) -> None:
    (job,) = ended.listed["jobs"]
    assert ended.listed["unread_partitions"] == {}
    assert job["state"] == "RUNNING"
    assert job["checkpoints"] > 0


def test_the_partitions_are_spread_over_the_subtasks(ended: Ended) -> None:
    assert ended.groups_by_subtask == [1, 1]


def test_the_savepoint_is_named_for_a_restore(ended: Ended) -> None:
    (record,) = (ended.job.folder / "jobs").glob("*.json")
    savepoint = json.loads(record.read_text())["savepoint"]
    assert f"--restore {savepoint}" in ended.stopped
    assert Path(savepoint.removeprefix("file:"), "_metadata").is_file()


def test_no_checkpoint_log_or_record_holds_the_password(ended: Ended) -> None:
    folders = [ended.jobs.cluster.folder / name for name in ("checkpoints", "savepoints", "log")]
    files = dict(bytes_under([*folders, ended.job.folder / "jobs"]))
    assert [path for path, data in files.items() if SASL_PASSWORD.encode() in data] == []
    assert any(b"reviews" in data or b"topic-" in data for data in files.values())


def test_the_clusters_processes_are_gone(ended: Ended) -> None:
    assert [name for name in ended.jobs.cluster.names() if ended.jobs.cluster.pid(name)] == []
    assert not list(ended.jobs.cluster.folder.glob("*.pid"))

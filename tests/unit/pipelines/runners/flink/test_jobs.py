"""Options, checks and records of Flink jobs; what fails says so in one message."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2_grpc, beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

from features.errors import UsageError
from pipelines.runners.flink import preflight
from pipelines.runners.flink.job_records import (
    JobRecord,
    add_savepoint,
    check_steps,
    records,
    resolve_restore,
    save_record,
)
from pipelines.runners.flink.options import NEEDED, check_known, job_options, value
from pipelines.runners.flink.preflight import check_cluster, job_server_options
from pipelines.runners.flink.rest import FlinkError, FlinkRest, root_cause
from pipelines.settings import Settings
from tests.support.infra_script import load_script
from tests.support.ports import free_ports

JOB = "0123456789abcdef0123456789abcdef"


class Cluster:
    """Answers of a JobManager's REST API, and of a job server that only describes its options."""

    job_endpoint: str
    rest: FlinkRest

    def __init__(self, checkpoints: str) -> None:
        self.answers: dict[str, Any] = {
            "/overview": {"slots-available": 2, "slots-total": 4},
            "/jobmanager/config": [{"key": "state.checkpoints.dir", "value": checkpoints}],
            "/taskmanagers": {"taskmanagers": [{"path": "pekko.tcp://flink@127.0.0.1:37123/user/rpc"}]},
            "/jobs/overview": {"jobs": [{"jid": JOB, "state": "CANCELED", "name": "portrait-x"}]},
        }
        self.options = set(NEEDED)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(f"file://{tmp_path}/checkpoints")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in made.answers
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(made.answers.get(self.path)).encode())

        def log_message(self, *_arguments: Any) -> None:
            pass

    class Jobs(beam_job_api_pb2_grpc.JobServiceServicer):
        def DescribePipelineOptions(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - Beam's name
            described = [beam_job_api_pb2.PipelineOptionDescriptor(name=name) for name in made.options]
            return beam_job_api_pb2.DescribePipelineOptionsResponse(options=described)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=http.serve_forever)
    thread.start()
    server = grpc.server(ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Jobs(), server)
    made.job_endpoint = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    made.rest = FlinkRest(f"127.0.0.1:{http.server_port}")
    server.start()
    yield made
    server.stop(0).wait()
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.fixture
def pool() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1))
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(
        BeamFnExternalWorkerPoolServicer(use_process=True), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


def check(cluster: Any, pool: str, *more: str, restore: str | None = None) -> None:
    args = (f"--job_endpoint={cluster.job_endpoint}", f"--environment_config={pool}", *more)
    check_cluster(cluster.rest, job_options(Settings(), args, restore), args)


def test_a_cluster_with_all_its_parts_passes(cluster: Any, pool: str) -> None:
    check(cluster, pool)


def test_too_few_slots_are_refused_before_anything_is_submitted(cluster: Any, pool: str) -> None:
    with pytest.raises(
        FlinkError, match=r"expected 3 free slots for --parallelism=3, got 2 of 4; stop another"
    ):
        check(cluster, pool, "--parallelism=3")


def test_a_second_job_over_the_same_records_is_refused(cluster: Any, pool: str) -> None:
    cluster.answers["/jobs/overview"]["jobs"][0] |= {"name": "portrait-portrait", "state": "RESTARTING"}
    with pytest.raises(FlinkError, match=rf"expected no running job portrait-portrait, got {JOB}"):
        check(cluster, pool)


def test_a_missing_worker_pool_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CONTACT_TIMEOUT_S", 0.5)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(FlinkError, match=rf"a pool of Python workers at {address}, got no answer in 0.5 s"):
        check(cluster, address)


def test_another_program_at_the_address_of_the_worker_pool_is_refused(cluster: Any) -> None:
    with pytest.raises(
        FlinkError, match=r"expected a pool of Python workers at .*, got unimplemented; start one"
    ):
        check(cluster, cluster.job_endpoint)


def test_a_job_server_of_another_version_is_refused(cluster: Any, pool: str) -> None:
    cluster.options.remove("finish_bundle_before_checkpointing")
    with pytest.raises(
        FlinkError, match=r"knows --finish_bundle_before_checkpointing, got one at .* too old"
    ):
        check(cluster, pool)


def test_no_job_server_is_refused_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "CONTACT_TIMEOUT_S", 0.5)
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    with pytest.raises(FlinkError, match=rf"a Beam job server at {endpoint}, got no answer in 0.5 s"):
        job_server_options(endpoint)


def test_no_job_manager_is_refused() -> None:
    with pytest.raises(
        FlinkError, match=r"expected a JobManager at http://127\.0\.0\.1:\d+, got .*--flink-rest"
    ):
        FlinkRest(f"127.0.0.1:{free_ports(1)[0]}").slots()


def test_an_unwritable_checkpoint_folder_is_refused(cluster: Any, pool: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where a folder should be")
    with pytest.raises(FlinkError, match=r"expected a writable state\.checkpoints\.dir, got file://"):
        check(cluster, pool)


def test_a_restore_from_nowhere_is_refused(cluster: Any, pool: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--restore: expected a savepoint or checkpoint of Flink, got file:"
    ):
        check(cluster, pool, restore=f"file://{tmp_path}/savepoint-1")
    (tmp_path / "savepoint-1").mkdir()
    (tmp_path / "savepoint-1" / "_metadata").touch()
    check(cluster, pool, restore=f"file://{tmp_path}/savepoint-1")
    check(cluster, pool, restore="s3://out/of/sight")


def test_a_cluster_without_a_checkpoint_folder_is_refused(cluster: Any, pool: str) -> None:
    cluster.answers["/jobmanager/config"] = []
    with pytest.raises(FlinkError, match=r"expected state\.checkpoints\.dir in its configuration, got none"):
        check(cluster, pool)


def test_options_of_beam_win_over_our_defaults_and_the_rest_stays() -> None:
    options = job_options(Settings(), ("--parallelism", "8", "--checkpointing_interval=1000"), "file:///s")
    assert [value(options, name) for name in ("parallelism", "checkpointing_interval")] == [8, "1000"]
    assert value(options, "finish_bundle_before_checkpointing")
    assert value(options, "savepoint_path") == "file:///s"
    assert value(options, "job_name") == "portrait-portrait"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--finish_bundle_before_checkpointing=false",), "expected it to be left to portrait run"),
        (("--savepoint_path=x",), "a savepoint is named with --restore"),
        (("parallelism=2",), "parallelism=2: expected an option of Beam"),
    ],
)
def test_options_that_would_break_a_job_are_refused(args: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        job_options(Settings(), args)


def test_an_option_that_nobody_knows_is_refused_rather_than_dropped() -> None:
    with pytest.raises(
        UsageError, match=r"--paralellism: expected an option of portrait run, Beam or this job"
    ):
        check_known(("--paralellism=4",), frozenset({"savepoint_path"}))
    check_known(("--parallelism=4", "--state_backend=rocksdb"), frozenset({"state_backend"}))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(feature_repo=tmp_path / "feature_repo")


def record(
    tmp_path: Path, steps: tuple[str, ...] = ("Read", "Fold"), job: str = JOB, at_s: float = 1.0
) -> JobRecord:
    return JobRecord(
        job, "portrait-x", at_s, "http://127.0.0.1:1", f"file://{tmp_path}/checkpoints", 2, steps
    )


def test_the_last_savepoint_or_the_newest_whole_checkpoint_is_restored(
    cluster: Any, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"expected a savepoint or retained checkpoint of a job of this project"
    ):
        resolve_restore(settings, cluster.rest, "last")
    save_record(settings, record(tmp_path))
    for number, whole in ((9, True), (10, True), (11, False)):
        folder = tmp_path / "checkpoints" / JOB / f"chk-{number}"
        folder.mkdir(parents=True)
        if whole:
            (folder / "_metadata").touch()
    assert resolve_restore(settings, cluster.rest, "last") == f"file://{tmp_path}/checkpoints/{JOB}/chk-10"
    add_savepoint(settings, JOB, "file:/savepoints/1")
    assert [r.savepoint for r in records(settings)] == ["file:/savepoints/1"]
    assert resolve_restore(settings, cluster.rest, "last") == "file:/savepoints/1"
    assert resolve_restore(settings, cluster.rest, "s3://named") == "s3://named"


def test_a_job_that_still_runs_is_not_restored_twice(
    cluster: Any, settings: Settings, tmp_path: Path
) -> None:
    save_record(settings, record(tmp_path))
    cluster.answers["/jobs/overview"]["jobs"][0]["state"] = "RUNNING"
    with pytest.raises(FlinkError, match=rf"expected an ended job, got {JOB}, which still runs"):
        resolve_restore(settings, cluster.rest, "last")


def test_a_checkpoint_of_other_steps_is_refused_by_their_names(settings: Settings, tmp_path: Path) -> None:
    save_record(settings, record(tmp_path))
    checkpoint = f"file://{tmp_path}/checkpoints/{JOB}/chk-3"
    check_steps(settings, checkpoint, ("Read", "Fold"))
    check_steps(settings, "file:///of/a/job/that/is/not/ours", ("Other",))
    with pytest.raises(
        UsageError, match=r"got a graph without Fold and with Audit, FoldProfiles; start without"
    ):
        check_steps(settings, checkpoint, ("Read", "FoldProfiles", "Audit"))


def test_the_cause_of_a_failure_is_one_line() -> None:
    java = "java.lang.RuntimeException: outer\n\tat a.b.C\nCaused by: java.io.IOException: disk full\n\tat x"
    assert root_cause(java) == "java.io.IOException: disk full"
    refused = (
        "a.B: UNAVAILABLE\nCaused by: n.AnnotatedConnectException: refused: /127.0.0.1:1\n"
        "Caused by: java.net.ConnectException: refused"
    )
    assert root_cause(refused) == "n.AnnotatedConnectException: refused: /127.0.0.1:1"
    storage = (
        "o.JobInitializationException: Could not start.\n"
        "Caused by: org.apache.flink.util.FlinkRuntimeException: Failed to create checkpoint storage.\n"
        "\t... 3 more\nCaused by: java.io.IOException: /checkpoints"
    )
    assert root_cause(storage) == "Failed to create checkpoint storage: java.io.IOException: /checkpoints"
    python = (
        "Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: Trace\n"
        '  File "x.py", line 1\nfeatures.online.StoreError: redis: expected an answer, got none\n\tat j.k'
    )
    assert root_cause(python) == "features.online.StoreError: redis: expected an answer, got none"


def test_a_program_of_somebody_else_at_a_port_is_not_taken_for_a_part_of_the_cluster() -> None:
    listens = load_script("flink").listens
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
    assert not listens(os.getpid(), port)

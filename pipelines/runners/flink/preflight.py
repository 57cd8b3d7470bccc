"""What must be true of a cluster before a job is submitted: each failure is one message within seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_job_api_pb2,
    beam_job_api_pb2_grpc,
)

from features.errors import UsageError
from pipelines.runners.flink.options import NEEDED, check_known, value
from pipelines.runners.flink.rest import ENDED, FlinkError, FlinkRest

CONTACT_TIMEOUT_S: Final = 5.0
_METADATA: Final = "_metadata"
"""The file that makes a folder a savepoint or a checkpoint."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def check_cluster(rest: FlinkRest, options: PipelineOptions, beam_args: Sequence[str]) -> None:
    """No such job yet; job server, its version, slots, checkpoints, workers.

    Raises FlinkError, UsageError.
    """
    _check_not_running(rest, value(options, "job_name"))
    server_options = job_server_options(value(options, "job_endpoint"))
    check_known(beam_args, server_options)
    _check_slots(rest, int(value(options, "parallelism")))
    local = rest.hosts() <= _LOOPBACK
    _check_checkpoints(rest, local)
    if local and (restore := value(options, "savepoint_path")):
        _check_restore(restore)
    if value(options, "environment_type") == "EXTERNAL" and local:
        _check_pool(value(options, "environment_config"))


def job_server_options(endpoint: str) -> frozenset[str]:
    """Names of the pipeline options that the job server at ``endpoint`` knows. Raises FlinkError."""

    def ask(channel: grpc.Channel) -> Any:
        jobs = beam_job_api_pb2_grpc.JobServiceStub(channel)
        return jobs.DescribePipelineOptions(
            beam_job_api_pb2.DescribePipelineOptionsRequest(), timeout=CONTACT_TIMEOUT_S
        )

    told = _answer("--job_endpoint: expected a Beam job server", endpoint, ask)
    names = frozenset(option.name for option in told.options)
    if missing := sorted(NEEDED - names):
        raise FlinkError(
            f"--job_endpoint: expected a Flink job server that knows --{missing[0]}, got one at {endpoint} "
            "that does not: it is too old, or of another runner; use the one of this Beam version "
            "(infra/flink/README.md)"
        )
    return names


def _check_not_running(rest: FlinkRest, name: str) -> None:
    for job in rest.jobs():
        if job["name"] == name and job["state"] not in ENDED:
            raise FlinkError(
                f"flink: expected no running job {name}, got {job['jid']}: both would read every record; "
                f"portrait stop {job['jid']} --savepoint first, or give another --job_name"
            )


def _check_slots(rest: FlinkRest, parallelism: int) -> None:
    slots = rest.slots()
    if slots.free < parallelism:
        raise FlinkError(
            f"flink: expected {parallelism} free slots for --parallelism={parallelism}, got {slots.free} of "
            f"{slots.total}; stop another job (portrait jobs), add TaskManagers, or lower --parallelism"
        )


def _check_checkpoints(rest: FlinkRest, local: bool) -> None:
    where = rest.settings().get("state.checkpoints.dir")
    if not where:
        raise FlinkError(
            "flink: expected state.checkpoints.dir in its configuration, got none: checkpoints would die "
            "with the JobManager; set it to a folder that all of Flink reaches"
        )
    url = urlparse(where)
    if url.scheme not in ("", "file") or not local:
        return
    folder = Path(url.path)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise FlinkError(
            f"flink: expected a writable state.checkpoints.dir, got {where}; change its rights or the setting"
        )


def _check_restore(restore: str) -> None:
    url = urlparse(restore)
    path = Path(url.path)
    if url.scheme in ("", "file") and not (path.name == _METADATA or (path / _METADATA).is_file()):
        raise UsageError(
            f"--restore: expected a savepoint or checkpoint of Flink, got {restore} without a {_METADATA}; "
            "name its folder, or: --restore last"
        )


def _check_pool(address: str) -> None:
    def ask(channel: grpc.Channel) -> Any:
        # Stopping a worker that no pool has changes nothing, and only a pool answers.
        pool = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
        return pool.StopWorker(
            beam_fn_api_pb2.StopWorkerRequest(worker_id="portrait-none"), timeout=CONTACT_TIMEOUT_S
        )

    _answer("--environment_config: expected a pool of Python workers", address, ask)


def _answer(expected: str, address: str, ask: Callable[[grpc.Channel], Any]) -> Any:
    """What the gRPC server at ``address`` tells ``ask``. Raises FlinkError."""
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(CONTACT_TIMEOUT_S)
            return ask(channel)
        except (grpc.FutureTimeoutError, grpc.RpcError) as error:
            late = f"no answer in {CONTACT_TIMEOUT_S:g} s"
            got = error.code().name.lower() if isinstance(error, grpc.Call) else late
            raise FlinkError(
                f"{expected} at {address}, got {got}; start one (make flink-up) or name its address"
            ) from error

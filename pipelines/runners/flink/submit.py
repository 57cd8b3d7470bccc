"""The graph as an endless job on a Flink cluster, submitted through Beam's job server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner

from features.errors import PortraitError
from features.online import SourcePosition, StoreError
from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.liveness import BOOK, Liveness
from pipelines.kafka.topics import topics_info
from pipelines.runners.flink.job_records import JobRecord, check_steps, resolve_restore, save_record
from pipelines.runners.flink.options import job_options, value
from pipelines.runners.flink.preflight import check_cluster
from pipelines.runners.flink.rest import ENDED, FlinkError, FlinkRest
from pipelines.runners.prepare import make_output_topics, ready_store, source_topics
from pipelines.runners.stored_positions import StoredPositions
from pipelines.runners.streaming import endless_pipeline, step_names, stored_starts
from pipelines.settings import Settings

_LOG = logging.getLogger(__name__)

SUBMIT_TIMEOUT_S: Final = 120.0
OPEN_TIMEOUT_S: Final = 120.0
WATCH_EVERY_S: Final = 5.0
AWAY_S: Final = 60.0
"""A JobManager that does not answer for so long has to be looked after."""
_NO_POOL: Final = "is a pool of Python workers beside every TaskManager, at --environment_config?"
FAILED_STARTS: Final = 2
"""A job that failed so often before it read anything will not start."""


@dataclass(frozen=True)
class JobPlan:
    """What ``portrait run --runner flink`` was asked for."""

    flink_rest: str
    beam_args: tuple[str, ...] = ()
    reader_groups: int | None = None
    restore: str | None = None
    rewind: int = 1_000


@dataclass(frozen=True)
class RunningJob:
    """A job on the cluster whose partitions are all read."""

    job: str
    partitions: int
    after_s: float


def submit(settings: Settings, plan: JobPlan) -> RunningJob:
    """Check, submit, and wait until every partition is read.

    Raises FlinkError, KafkaFailureError, StoreError or UsageError; a job that cannot start is cancelled.
    """
    rest = FlinkRest(plan.flink_rest)
    restore = resolve_restore(settings, rest, plan.restore) if plan.restore else None
    options = job_options(settings, plan.beam_args, restore)
    check_cluster(rest, options, plan.beam_args)
    store = ready_store(settings)
    make_output_topics(settings)
    starts = {} if restore else stored_starts(settings, store, plan.rewind)
    groups = plan.reader_groups or int(value(options, "parallelism"))
    runner = PortableRunner()
    pipeline = endless_pipeline(settings, options, runner, groups, starts)
    steps = step_names(runner.get_proto_pipeline(pipeline, options))
    if restore and not value(options, "allow_non_restored_state"):
        check_steps(settings, restore, steps)

    known = {job["jid"] for job in rest.jobs()}
    name = value(options, "job_name")
    began_s = time.time()
    result: Any = runner.run_pipeline(pipeline, options)
    job = _wait_for_job(result, lambda: _new_job(rest, name, known))
    checkpoints = rest.settings().get("state.checkpoints.dir", "")
    save_record(settings, JobRecord(job, name, began_s, plan.flink_rest, checkpoints, groups, tuple(steps)))
    partitions = _wait_until_open(settings, rest, job, began_s)
    return RunningJob(job, partitions, time.time() - began_s)


def _new_job(rest: FlinkRest, name: str, known: set[str]) -> str | None:
    return next((j["jid"] for j in rest.jobs() if j["name"].startswith(name) and j["jid"] not in known), None)


def _wait_for_job(result: Any, find: Callable[[], str | None]) -> str:
    """The Flink id of what was submitted. Raises FlinkError with the job server's own words."""
    deadline_s = time.monotonic() + SUBMIT_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if found := find():
            return found
        if result.state in ("FAILED", "CANCELLED", "DONE", "UNKNOWN"):
            raise FlinkError(
                f"job server: expected the job to start, got: {_last_error(result)}; its log says more (does "
                "its Flink version equal the cluster's?)"
            )
        time.sleep(0.2)
    raise FlinkError(
        f"job server: expected the job on the cluster within {SUBMIT_TIMEOUT_S:g} s, got none; see its log"
    )


def _last_error(result: Any) -> str:
    """The last error among the job's messages, as one line."""
    errors = [
        message.message_response.message_text
        for message in _messages(result)
        if message.message_response.importance == beam_job_api_pb2.JobMessage.JOB_MESSAGE_ERROR
    ]
    return (errors[-1].strip().splitlines() or ["no reason"])[0][:500] if errors else "no reason"


def _messages(result: Any) -> Iterator[Any]:
    try:
        yield from result._message_stream
    except grpc.RpcError:
        return


def _wait_until_open(settings: Settings, rest: FlinkRest, job: str, began_s: float) -> int:
    """Wait until each partition was read since ``began_s``; how many there are."""
    book = StoredPositions(settings)
    wanted = partitions_of(settings)
    deadline_s = time.monotonic() + OPEN_TIMEOUT_S
    while True:
        read_at_ms = book.read(BOOK)
        unread = [p for p in wanted if read_at_ms.get(p, 0) < began_s * 1000]
        if not unread:
            return len(wanted)
        if len(unread) == len(wanted) and (failure := _why_not_started(rest, job)):
            rest.cancel(job)
            hint = _NO_POOL if "Connection refused" in failure else "correct that and start again"
            raise FlinkError(f"job {job}: expected it to read, got: {failure}; it is cancelled: {hint}")
        if (state := rest.state(job)) in ENDED:
            raise FlinkError(
                f"job {job}: expected it to read, got the state {state}: {rest.failure(job)}; correct that "
                "and start again"
            )
        if time.monotonic() > deadline_s:
            raise FlinkError(
                f"job {job}: expected all {len(wanted)} partitions to be read within {OPEN_TIMEOUT_S:g} s, "
                f"got {len(wanted) - len(unread)}; it still runs: look at its log, or portrait stop {job}"
            )
        time.sleep(0.5)


def _why_not_started(rest: FlinkRest, job: str) -> str | None:
    """Why a job that has read nothing will not: a refusal of ours, or a failure that came again."""
    failure = rest.failure(job)
    refused = failure is not None and failure.startswith(f"{PortraitError.__module__}.PortraitError")
    return failure if refused or rest.failures(job) >= FAILED_STARTS else None


def partitions_of(settings: Settings) -> list[SourcePosition]:
    """Every partition of the source topics, as the brokers say now."""
    infos = topics_info(settings.kafka, source_topics(settings))
    return [SourcePosition(info.topic_id, topic, n) for topic, info in infos.items() for n in info.partitions]


def watch(settings: Settings, rest: FlinkRest, job: str, stopped: Callable[[float], bool]) -> str:
    """Follow a job until it ends or ``stopped(seconds)`` is true: failures and silent partitions are logged.

    Returns the last state seen.
    """
    liveness = Liveness(StoredPositions(settings))
    failures, state = 0, "RUNNING"
    away_since_s: float | None = None
    while state not in ENDED:
        try:
            state = rest.state(job)
            if (count := rest.failures(job)) > failures:
                failures = count
                _LOG.warning("flink: job %s failed (%s) and begins again", job, rest.failure(job))
            away_since_s = None
        except FlinkError as error:
            away_since_s = away_since_s or time.monotonic()
            if time.monotonic() - away_since_s > AWAY_S:
                raise
            _LOG.warning("%s; asking again", error)
        try:
            liveness.silent(partitions_of(settings))
        except (KafkaFailureError, StoreError) as error:  # the job repeats what fails; so do we
            _LOG.warning("%s; looking again", error)
        if stopped(WATCH_EVERY_S):
            break
    return state

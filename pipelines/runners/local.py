"""Local rounds: take the records that are there, run the graph over them, move the resume positions.

One process, Beam's FnApiRunner in memory, the graph built once. The store is written every round;
parquet every few seconds or megabytes; positions only after the parquet. A round that fails is run
again with the same records; what it had stored already changes nothing.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from types import FrameType
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from apache_beam.runners.worker import statesampler
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

from features.errors import PortraitError
from features.online import SourcePosition, StatelessUsersError, StoreError
from pipelines import metrics
from pipelines.graph import build
from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.safe_offsets import POSITIONS
from pipelines.messages.record import Record
from pipelines.runners.local_workers import when_orphaned
from pipelines.runners.prepare import make_output_topics, open_reader, ready_store
from pipelines.runners.progress import Progress, figures
from pipelines.runners.reject_alarm import RejectAlarm
from pipelines.settings import Settings
from pipelines.steps.encode import EncoderFailedError
from pipelines.steps.write import close_sender, history_writer

_LOG = logging.getLogger(__name__)

_SAY_EVERY_S: Final = 5.0
SETTLE_WITHIN_S: Final = 60.0
"""How long an outage of the store or the brokers may keep positions from being settled."""
SAMPLING_PERIOD_MS: Final = 5
_round: list[Record] = []
"""Records of the round that runs now: the source reads them from here, so one graph serves all rounds."""


class ReadRound(beam.PTransform[Any, Any]):
    """The records of the current round of this process."""

    def expand(self, begin: Any) -> Any:
        return begin | beam.Impulse() | "Take" >> beam.FlatMap(_take)


def _take(_impulse: bytes) -> Iterator[Record]:
    yield from _round


class RoundRunner:
    """The graph, built once and run over one list of records after another."""

    def __init__(self, settings: Settings) -> None:
        shorten_state_sampling()
        self._options = PipelineOptions([], direct_running_mode="in_memory")
        self._runner = FnApiRunner()
        pipeline = beam.Pipeline(runner=self._runner, options=self._options)
        build(pipeline, ReadRound(), settings)
        # Pipeline.run translates the graph anew each time, which takes half of an empty round.
        self._graph = pipeline.to_runner_api(default_environment=EmbeddedPythonEnvironment.default())

    def run(self, records: Sequence[Record]) -> None:
        """Run the graph over ``records``; when this returns, the store holds what they say."""
        _round[:] = records
        try:
            self._runner.run_via_runner_api(deepcopy(self._graph), self._options).wait_until_finish()
        finally:
            _round.clear()


class LocalRun:
    """One process's loop of rounds over the partitions it owns.

    Lifecycle: made, :meth:`run` once. :meth:`stop` may be called from a signal handler or another
    thread: the round in progress ends, everything is flushed, positions are committed.
    """

    def __init__(self, settings: Settings, worker_of: tuple[int, int] = (0, 1)) -> None:
        self._settings = settings
        self._store = ready_store(settings)
        self._reader = open_reader(settings, self._store, worker_of)
        make_output_topics(settings)
        self._runner = RoundRunner(settings)
        self._history = history_writer(settings)
        self._stop = threading.Event()
        self.progress = Progress()
        self._alarm = RejectAlarm(settings, worker_of)
        self.on_round: Callable[[Progress], None] = lambda progress: None
        self._done: dict[SourcePosition, int] = {}
        self._unsettled_s: float | None = None
        self._flushed_s, self._flushed_records = time.monotonic(), 0

    def stop(self) -> None:
        """Ask the loop to end after the round in progress."""
        self._stop.set()

    def run(self, until_caught_up: bool = False) -> Progress:
        """Rounds until stopped, or until what the topics held at the start is done and flushed."""
        rounds = self._settings.rounds
        ends = self._reader.end_offsets() if until_caught_up else None
        began_s = said_s = time.monotonic()
        try:
            while not self._stop.is_set():
                records = self._reader.poll(rounds.max_records, rounds.max_bytes, rounds.poll_ms)
                if records:
                    self._run_round(records)
                if self._history.due() or self._positions_due():
                    self._flush()
                if time.monotonic() - said_s >= _SAY_EVERY_S:
                    said_s = time.monotonic()
                    self._say()
                if ends is not None and self._reader.reached(ends):
                    break
            self._flush(last=True)
            self._say()
            self.progress.seconds = time.monotonic() - began_s
            return self.progress
        finally:
            self._reader.close()
            with suppress(KafkaFailureError):  # what was not acknowledged has failed its round already
                close_sender(self._settings)

    def _run_round(self, records: Sequence[Record]) -> None:
        started_s = time.perf_counter()
        for attempt in range(self._settings.rounds.retries + 1):
            before = figures()
            try:
                self._runner.run(records)
                break
            except Exception as error:
                if attempt == self._settings.rounds.retries or not _may_pass(error):
                    raise
                metrics.ROUNDS_REPEATED.inc()
                told = error if isinstance(error, PortraitError) else type(error).__name__
                _LOG.warning("run: a round of %d records failed (%s); again", len(records), told)
                self._stop.wait(random.uniform(0, min(10.0, 0.2 * 2**attempt)))  # noqa: S311 - jitter
        metrics.ROUND_SECONDS.observe(time.perf_counter() - started_s)
        rejects = self.progress.add_round(len(records), before)
        self._alarm.look(len(records), rejects)
        self.on_round(self.progress)
        for topic, count in Counter(record.topic for record in records).items():
            metrics.RECORDS.labels(topic=topic).inc(count)

    def _positions_due(self) -> bool:
        """Whether records that gave no row (controls, rejects), or an outage, have waited long enough."""
        waiting = self.progress.records > self._flushed_records or self._unsettled_s is not None
        return waiting and time.monotonic() - self._flushed_s >= self._settings.history.flush_s

    def _flush(self, last: bool = False) -> None:
        """Parquet first, then the positions."""
        try:
            self.progress.files += len(self._history.flush())
        except OSError as error:
            raise PortraitError(
                f"history.dir: expected to write {self._settings.history.dir}, got {error.strerror}; "
                "make room or change the folder, then start again: nothing unwritten counts as done"
            ) from error
        positions = self._reader.positions()
        while positions != self._done and not self._settle(positions) and last:
            time.sleep(random.uniform(0, 1))  # noqa: S311 - jitter
        self._flushed_s, self._flushed_records = time.monotonic(), self.progress.records

    def _settle(self, positions: dict[SourcePosition, int]) -> bool:
        """Mirror positions in the store, then commit them to the group; whether both took them.

        In an outage a later flush tries again: what is not settled is only read twice. Raises StoreError
        or KafkaFailureError once it has lasted SETTLE_WITHIN_S.
        """
        try:
            self._store.write_positions(POSITIONS, positions)
            self._reader.commit(positions)
        except (StoreError, KafkaFailureError) as error:
            self._unsettled_s = self._unsettled_s or time.monotonic()
            if time.monotonic() - self._unsettled_s > SETTLE_WITHIN_S:
                raise
            _LOG.warning("run: the positions could not be settled (%s); again", error)
            return False
        self._done, self._unsettled_s = dict(positions), None
        return True

    def _say(self) -> None:
        lag = self._reader.lag()
        for position, records in lag.items():
            metrics.LAG.labels(topic=position.topic, partition=str(position.partition)).set(records)
        _LOG.info(
            "run: %d records in %d rounds, %d parquet files, %d records to go",
            self.progress.records, self.progress.rounds, self.progress.files, sum(lag.values()),
        )  # fmt: skip


def _may_pass(error: Exception) -> bool:
    """Whether the same round may succeed later: outages may pass, refusals that name a remedy do not."""
    if isinstance(error, StatelessUsersError):
        return False
    outages = StoreError | KafkaFailureError | EncoderFailedError
    return isinstance(error, outages) or not isinstance(error, PortraitError)


def run_rounds(
    settings: Settings,
    *,
    until_caught_up: bool,
    worker: tuple[int, int],
    parent: int | None,
    metrics_port: int | None,
) -> Progress:
    """``portrait run``: set up metrics and signals, then loop. A worker ends when its ``parent`` is gone."""
    if metrics_port:
        metrics.serve(metrics_port)
    run = LocalRun(settings, worker)

    def stop(_signum: int, _frame: FrameType | None) -> None:
        run.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if parent:
        when_orphaned(run.stop, parent)
    return run.run(until_caught_up)


def shorten_state_sampling() -> None:
    """Let Beam's state sampler look every SAMPLING_PERIOD_MS in this process. Idempotent.

    A thread samples which step runs, and sleeps up to 200 ms between samples; the end of a bundle joins it,
    so a stage waits for the rest of the sleep (apache_beam/runners/worker/statesampler_fast.pyx, ``stop``). A
    round is four bundles, and nothing reads the samples but Beam's own metrics of time by step. Beam has no
    option for it.
    """
    constructor: Any = statesampler.StateSampler.__init__
    constructor.__defaults__ = (SAMPLING_PERIOD_MS,)

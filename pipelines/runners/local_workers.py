"""``portrait run --workers N``: N processes that own disjoint partitions, watched by one parent."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import IO

from pipelines.runners.progress import Progress

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.2
_INTERRUPTED = {-signal.SIGTERM, -signal.SIGINT, 130}
"""How a worker ends that is told to while it still starts and cannot end well: it has done nothing yet."""


def run_workers(
    workers: int,
    config: Path | None,
    overrides: Sequence[str],
    until_caught_up: bool,
    metrics_port: int | None,
) -> tuple[int, list[Progress]]:
    """Start the workers and wait. Worker i owns ``partition % workers == i`` of every topic, so that a
    user's topics meet in one worker. A worker that fails ends the others; SIGTERM and SIGINT are passed on;
    workers whose parent is gone finish their round and end.

    Returns 0 when all ended with 0 or were interrupted on request, else the first failing code; and what each
    worker did, as it told at its end. None of them judges its rejects: that is for whoever sees all.
    """
    # -P: packages of the current folder must not shadow ours
    command = [sys.executable, "-P", "-m", "pipelines.cli.main", "run", "--workers", str(workers)]
    command += ["--worker-parent", str(os.getpid())]
    command += ["-c", str(config)] if config else []
    command += [part for override in overrides for part in ("--set", override)]
    command += ["--until-caught-up"] if until_caught_up else []
    processes: list[subprocess.Popen[bytes]] = []
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    with ExitStack() as files:
        # not pipes: nobody reads them before the end
        told = [files.enter_context(tempfile.TemporaryFile()) for _ in range(workers)]
        for i in range(workers):
            if stopping:
                break
            port = ["--metrics-port", str(metrics_port + i)] if metrics_port else []
            own = [*command, "--worker-index", str(i), *port]
            processes.append(subprocess.Popen(own, stdout=told[i]))  # noqa: S603 - our own
        failed, running = 0, True
        while running:
            codes = [process.poll() for process in processes]
            running = None in codes
            for i, code in enumerate(codes):
                if code and not failed and not (stopping and code in _INTERRUPTED):
                    failed = code if code > 0 else 128 - code
                    _LOG.error("workers: worker %d ended with %d; stopping the others", i, code)
                    stop(signal.SIGTERM, None)
            time.sleep(_LOOK_EVERY_S if running else 0)
        return failed, [_end_of(process, output) for process, output in zip(processes, told, strict=False)]


def _end_of(process: subprocess.Popen[bytes], output: IO[bytes]) -> Progress:
    """What a worker did: the last line that it wrote. One that did not end well tells nothing."""
    output.seek(0)
    lines = output.read().splitlines()
    return Progress.of(json.loads(lines[-1])) if lines and process.returncode == 0 else Progress()


def when_orphaned(stop: Callable[[], None], parent: int) -> None:
    """Call ``stop`` once this process's parent is no longer ``parent``: nobody watches it any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        _LOG.error("workers: expected the parent %d, got none; stopping after this round", parent)
        stop()

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()

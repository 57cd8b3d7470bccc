"""``portrait run --workers N``: N processes that own disjoint partitions, watched by one parent."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

_LOG = logging.getLogger(__name__)
_LOOK_EVERY_S = 0.2


def run_workers(
    workers: int,
    config: Path | None,
    overrides: Sequence[str],
    until_caught_up: bool,
    metrics_port: int | None,
) -> int:
    """Start the workers and wait. Worker i owns ``partition % workers == i`` of every topic, so that a
    user's topics meet in one worker. A worker that fails ends the others; SIGTERM and SIGINT are passed on;
    workers whose parent is gone finish their round and end.

    Returns 0 when all ended with 0, else the first failing code.
    """
    # -P: packages of the current folder must not shadow ours
    command = [sys.executable, "-P", "-m", "pipelines.cli", "run", "--workers", str(workers)]
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
    for i in range(workers):
        if stopping:
            break
        port = ["--metrics-port", str(metrics_port + i)] if metrics_port else []
        processes.append(subprocess.Popen([*command, "--worker-index", str(i), *port]))  # noqa: S603 - our own
    failed = 0
    while any(process.poll() is None for process in processes):
        for i, process in enumerate(processes):
            if process.poll() and not failed:
                failed = process.returncode if process.returncode > 0 else 128 - process.returncode
                _LOG.error("workers: worker %d ended with %d; stopping the others", i, process.returncode)
                stop(signal.SIGTERM, None)
        time.sleep(_LOOK_EVERY_S)
    return failed or next((abs(p.returncode) for p in processes if p.returncode), 0)


def when_orphaned(stop: Callable[[], None], parent: int) -> None:
    """Call ``stop`` once this process's parent is no longer ``parent``: nobody watches it any more."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_EVERY_S)
        _LOG.error("workers: expected the parent %d, got none; stopping after this round", parent)
        stop()

    threading.Thread(target=watch, name="orphan-watch", daemon=True).start()

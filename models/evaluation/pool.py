"""Processes that compute the report's steps, several at once, each with one thread of torch."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.queues import Queue
from typing import Any

import torch

from models.evaluation.step import Progress

_lines: Queue[str | None] | None = None
"""Of a process of the pool: what its steps tell."""


@contextmanager
def processes(jobs: int, progress: Progress) -> Iterator[Executor]:
    """A pool whose processes hand what steps and trainings tell to ``progress``; interrupted, they end."""
    spawn = multiprocessing.get_context("spawn")
    lines: Queue[str | None] = spawn.Queue()
    relay = threading.Thread(target=_relay, args=(lines, progress), daemon=True)
    relay.start()
    with ProcessPoolExecutor(jobs, spawn, _begin, (lines,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    lines.put(None)
    relay.join()


def tell(line: str) -> None:
    """Progress of a step, from the process that computes it."""
    if _lines is not None:
        _lines.put(line)


def _relay(lines: Queue[str | None], progress: Progress) -> None:
    while (line := lines.get()) is not None:
        progress(line)


def _begin(lines: Queue[str | None]) -> None:
    """In each process: one thread, the parent decides when to end, trainings log into the queue."""
    global _lines
    _lines = lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    torch.set_num_threads(1)
    logger = logging.getLogger("models")
    logger.addHandler(_Told(logging.INFO))
    logger.setLevel(logging.INFO)


def _end_with(parent: Any) -> None:
    """A pool whose parent was killed would wait for work for ever."""
    parent.join()
    os._exit(1)


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())

"""Keeps C libraries from writing to stderr: libmpg123 comments on damage there, and cannot be told not to."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_lock: Final = threading.Lock()
_inside = 0
_kept: int | None = None


def _stderr_of_c() -> tuple[ctypes.c_void_p, int] | None:
    """The C variable ``stderr`` and a stream to nowhere; None where the C library is not glibc.

    Elsewhere that variable may lie in memory that cannot be written.
    """
    try:
        if not str(os.confstr("CS_GNU_LIBC_VERSION")).startswith("glibc"):
            return None
        library = ctypes.CDLL(None)
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(os.devnull.encode(), b"w")
        return (ctypes.c_void_p.in_dll(library, "stderr"), nowhere) if nowhere else None
    except (ValueError, OSError, AttributeError):
        return None


_target: Final = _stderr_of_c()


@contextmanager
def hushed() -> Iterator[None]:
    """What C code prints to its ``stderr`` within goes nowhere, on every thread.

    File descriptor 2 stays as it is: log lines of Python, whose threads run on meanwhile, are kept.
    """
    global _inside, _kept
    if _target is None:
        yield
        return
    stream, nowhere = _target
    with _lock:
        if _inside == 0:
            _kept, stream.value = stream.value, nowhere
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                stream.value = _kept

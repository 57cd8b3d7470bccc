"""One SQLite file, shared by threads and processes: durable, and loud where it is not.

A connection per thread (sqlite3 objects used by several threads at once lose rows), write-ahead log,
``synchronous=FULL``, and write transactions that take their lock at the start (``BEGIN IMMEDIATE``),
so that a waiting writer waits instead of failing half way.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from features.online import StoreError

BUSY_TIMEOUT_S: Final = 60.0
"""How long a writer waits for the others; a batch of 1,000 users takes about 0.2 s."""


class _Connection(sqlite3.Connection):
    """Can be referred to weakly, so that the connection of a thread that ended is closed."""


class SqliteFile:
    """Connections to one file. Safe to share between threads, and usable after a fork.

    ``prepare`` is called once a process, with a connection, to create what is missing;
    ``detect_types`` is that of :func:`sqlite3.connect`.
    """

    def __init__(
        self, path: Path, prepare: Callable[[sqlite3.Connection], None], detect_types: int = 0
    ) -> None:
        self.path = path
        self.where = f"sqlite file {path.name}"
        self._prepare = prepare
        self._detect_types = detect_types
        self._before_fork: list[object] = []
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._opened: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._identity: tuple[int, int] | None = None

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode.

        Raises StoreError if the file was removed or replaced since it was opened: whatever was
        written to it then would be lost without a word.
        """
        if self._pid != os.getpid():
            # A connection must not be used after a fork, nor closed: both would touch the parent's locks.
            self._before_fork += self._opened
            self._forget()
        connection: _Connection | None = getattr(self._local, "connection", None)
        if self._identity is not None and self._identity != _identity(self.path):
            raise StoreError(
                f"{self.where}: expected the file that was opened, got another one or none; "
                "start again after a file was removed or restored"
            )
        if connection is None:
            connection = self._local.connection = self._open()
        return connection

    def transaction(self, what: str) -> AbstractContextManager[sqlite3.Connection]:
        """Everything inside is stored when it ends, or nothing of it."""
        return self._between("BEGIN IMMEDIATE", what)

    def snapshot(self, what: str) -> AbstractContextManager[sqlite3.Connection]:
        """All reads inside see the same instant."""
        return self._between("BEGIN", what)

    @contextmanager
    def _between(self, begin: str, what: str) -> Iterator[sqlite3.Connection]:
        with self.errors(what):
            connection = self.connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Errors of SQLite and of the file system as StoreError."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{self.where}: expected to {what}, got {type(error).__name__}: {error}; "
                "check its folder, its rights and the space left"
            ) from error

    def close(self) -> None:
        """Let go of all connections: idle ones close now, one that a thread is using when it is done.

        (Closing a connection while another thread uses it crashes the interpreter.)
        """
        self._forget()

    def _open(self) -> _Connection:
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path,
                timeout=BUSY_TIMEOUT_S,
                detect_types=self._detect_types,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )
            try:
                _use_wal(connection)
                connection.execute("PRAGMA synchronous=FULL")
                if self._identity is None:
                    self._prepare(connection)
                    self._identity = _identity(self.path)
            except BaseException:
                connection.close()
                raise
            self._opened.add(connection)
            return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. Two processes that do so at once may be told that the file is
    locked although a time limit is set: the one that is late finds it switched."""
    for _ in range(100):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            threading.Event().wait(0.02)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 (called for every batch)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino

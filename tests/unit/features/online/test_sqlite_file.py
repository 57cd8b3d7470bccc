"""One SQLite file among threads, forks and people who remove it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from features.online import StoreError
from features.online.sqlite_file import SqliteFile
from features.online.sqlite_profiles import SqliteProfiles
from tests.support.profiles import record_of, write_of


def make_table(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS t (x INTEGER PRIMARY KEY)")


def open_file(folder: Path) -> SqliteFile:
    return SqliteFile(folder / "some.db", make_table)


def insert_twice(file: SqliteFile) -> None:
    with file.transaction("insert") as db:
        db.execute("INSERT INTO t VALUES (1)")
        db.execute("INSERT INTO t VALUES (1)")


def test_every_thread_has_a_connection_of_its_own(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    seen = [file.connection(), file.connection()]
    thread = threading.Thread(target=lambda: seen.append(file.connection()))
    thread.start()
    thread.join()
    assert seen[0] is seen[1]
    assert seen[2] is not seen[0]
    file.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    file = open_file(tmp_path)
    with pytest.raises(StoreError, match="expected to insert, got IntegrityError"):
        insert_twice(file)
    assert file.connection().execute("SELECT count(*) FROM t").fetchone() == (0,)
    with file.transaction("insert") as db:
        db.execute("INSERT INTO t VALUES (1)")
    file.close()


def test_a_file_that_was_removed_while_open_is_an_error_not_a_loss(tmp_path: Path) -> None:
    store = SqliteProfiles("shop", tmp_path / "online.db")
    store.compare_and_set([write_of("ann", 0)])
    (tmp_path / "online.db").unlink()
    with pytest.raises(StoreError, match="expected the file that was opened, got another one or none"):
        store.compare_and_set([write_of("ann", 1)])
    (refused,) = ThreadPoolExecutor(1).map(refusal, [store])
    assert "expected the file that was opened" in refused
    assert not (tmp_path / "online.db").exists()
    store.close()


def refusal(store: SqliteProfiles) -> str:
    with pytest.raises(StoreError) as raised:
        store.read_states(["ann"])
    return str(raised.value)


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert "FileExistsError" in refusal(SqliteProfiles("shop", tmp_path / "data" / "online.db"))


def test_a_file_that_is_no_database_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "online.db").write_bytes(b"no database" * 100)
    store = SqliteProfiles("shop", tmp_path / "online.db")
    with pytest.raises(StoreError, match=r"online\.db: expected to read states, got DatabaseError"):
        store.read_states(["ann"])


def test_a_store_that_was_opened_before_a_fork_serves_both_sides(tmp_path: Path) -> None:
    store = SqliteProfiles("shop", tmp_path / "online.db")
    store.compare_and_set([write_of("ann", 0)])
    child = multiprocessing.get_context("fork").Process(
        target=lambda: store.compare_and_set([write_of("ann", 1)])
    )
    child.start()
    child.join()
    assert child.exitcode == 0
    assert store.read_states(["ann"]) == [record_of(2)]
    assert store.compare_and_set([write_of("ann", 2)]) == [True]
    store.close()


def test_a_journal_or_sync_mode_that_loses_writes_is_a_problem(tmp_path: Path) -> None:
    store = SqliteProfiles("shop", tmp_path / "online.db")
    connection = store._file.connection()
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA journal_mode=DELETE")
    first, second = store.durability_problems()
    assert "expected journal_mode wal, got delete; set online_store.path" in first
    assert "expected synchronous 2 (FULL) or more, got 1" in second
    store.close()


def test_the_file_stays_readable_by_others(tmp_path: Path) -> None:
    store = SqliteProfiles("shop", tmp_path / "online.db")
    store.compare_and_set([write_of("ann", 0)])
    with closing(sqlite3.connect(tmp_path / "online.db")) as db:
        assert db.execute("SELECT user_id, revision FROM shop_portrait_state").fetchall() == [("ann", 1)]
    store.close()


def test_a_store_may_be_closed_while_threads_use_it(tmp_path: Path) -> None:
    store = SqliteProfiles("shop", tmp_path / "online.db")
    users = [f"user{i}" for i in range(100)]
    writer = threading.Thread(target=lambda: [store.compare_and_set([write_of(user, 0)]) for user in users])
    writer.start()
    while writer.is_alive():
        store.close()
    writer.join()
    assert store.read_states(users) == [record_of(1)] * 100
    store.close()

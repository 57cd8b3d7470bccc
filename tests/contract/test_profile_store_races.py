"""Writers that race, and writers that die: nothing is lost, nothing is half there."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from features.online import ProfileStore
from features.schema import PROFILE_FIELDS
from tests.support.folders import ROOT
from tests.support.online_repo import Repo, Stored
from tests.support.profiles import record_of, revision_in, views_of, write_of
from tests.support.store_writer import increment

pytestmark = pytest.mark.integration

USERS = tuple(f"user{i}" for i in range(5))


def start_writer(repo: Repo, task: str, times: int, users: tuple[str, ...] = USERS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.store_writer", str(repo.path), task, str(times), *users],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_eight_threads_none_loses_a_write(store: ProfileStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        stored = sum(pool.map(lambda _: increment(store, USERS, 20), range(8)))
    assert stored == 8 * 20 * len(USERS)
    assert store.read_states(USERS) == [record_of(8 * 20)] * len(USERS)


def test_of_eight_processes_none_loses_a_write(store: ProfileStore, repo: Repo) -> None:
    writers = [start_writer(repo, "increment", 10) for _ in range(8)]
    stored = sum(int(writer.communicate(timeout=120)[0]) for writer in writers)
    assert stored == 8 * 10 * len(USERS)
    assert store.read_states(USERS) == [record_of(8 * 10)] * len(USERS)


def test_processes_that_open_an_empty_store_at_once_all_succeed(repo: Repo) -> None:
    writers = [start_writer(repo, "increment", 1, (f"user{i}",)) for i in range(8)]
    assert [writer.communicate(timeout=120)[0].strip() for writer in writers] == ["1"] * 8


def test_a_reader_never_sees_the_views_of_another_revision(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    done = threading.Event()

    def write_on() -> None:
        try:
            for revision in range(1, 300):
                store.compare_and_set([write_of("ann", revision, erased=revision % 5 == 4)])
        finally:
            done.set()

    writer = threading.Thread(target=write_on)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(check_whole(repo.stored("ann")))
    writer.join()
    assert check_whole(repo.stored("ann")) == 300
    assert len(seen) > 1


def test_users_who_appear_while_they_are_read_are_whole_or_absent(store: ProfileStore) -> None:
    users = [f"new{i}" for i in range(300)]
    writer = threading.Thread(target=lambda: [store.compare_and_set([write_of(user, 0)]) for user in users])
    writer.start()
    while writer.is_alive():
        assert set(store.read_states(users)) <= {None, record_of(1)}
    writer.join()
    assert store.read_states(users) == [record_of(1)] * len(users)


@pytest.mark.faults
def test_a_writer_killed_at_any_moment_leaves_every_user_whole(store: ProfileStore, repo: Repo) -> None:
    users = tuple(f"user{i}" for i in range(60))
    before = [revision_in(record) for record in store.read_states(users)]
    for batches in (1, 2, 3, 5, 8, 13):
        writer = start_writer(repo, "churn", 0, users)
        if writer.stdout is None:
            pytest.fail("the writer has no stdout")
        for _ in range(batches):
            writer.stdout.readline()
        for _ in range(batches):
            store.read_states(users)  # takes some time: the blow falls on another step every time
        writer.kill()
        writer.wait()
        writer.stdout.close()
        after = [check_whole(repo.stored(user)) for user in users]
        assert all(new >= old for new, old in zip(after, before, strict=True))
        assert [revision_in(record) for record in store.read_states(users)] == after
        before = after
    assert max(before) > 0


def check_whole(stored: Stored) -> int:
    """The revision that record and all features agree on."""
    revision = revision_in(stored.record)
    if not stored.features:
        return revision  # erased, or never written
    expected = {f.name: views_of(revision)[f.view][f.name] for f in PROFILE_FIELDS}
    assert stored.features == expected
    return revision

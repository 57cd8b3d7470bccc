"""What every ProfileStore serves in one read, on Redis, Redis Cluster and SQLite."""

from __future__ import annotations

import threading

import pytest

from features.online import ProfileStore, ServedUser
from features.online.decode import whole
from features.schema import PROFILE_FIELDS
from tests.support.online_repo import Repo
from tests.support.profiles import record_of, views_of, write_of

pytestmark = pytest.mark.integration

REVISION = [field.name for field in PROFILE_FIELDS].index("revision")


def values_of(revision: int) -> list[bytes]:
    views = views_of(revision)
    return [views[field.view][field.name] for field in PROFILE_FIELDS]


def test_views_come_back_as_they_were_written_in_the_order_of_the_schema(store: ProfileStore) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0, 7)])
    bob, nobody, ann, again = store.read_views(["bob", "nobody", "ann", "ann"])
    assert (list(bob.values or ()), bob.record) == (values_of(7), None)
    assert nobody == ServedUser(None, None)
    assert list(ann.values or ()) == list(again.values or ()) == values_of(1)


def test_no_users_are_no_read(store: ProfileStore) -> None:
    assert store.read_views([]) == []


def test_a_tombstone_comes_with_its_state_and_nothing_else(store: ProfileStore) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0, erased=True)])
    store.compare_and_set([write_of("ann", 1, erased=True)])
    assert store.read_views(["ann", "bob"]) == [
        ServedUser(None, record_of(2)),
        ServedUser(None, record_of(1)),
    ]


def test_states_come_along_when_asked_for(store: ProfileStore) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0, erased=True)])
    ann, bob, nobody = store.read_views(["ann", "bob", "nobody"], records=True)
    assert (list(ann.values or ()), ann.record) == (values_of(1), record_of(1))
    assert bob == ServedUser(None, record_of(1))
    assert nobody == ServedUser(None, None)


def test_views_without_a_state_are_served_with_gaps_for_what_is_absent(
    store: ProfileStore, repo: Repo
) -> None:
    store.compare_and_set([write_of("ann", 0)])
    repo.load_views_alone("bob")
    for records in (False, True):
        (bob,) = store.read_views(["bob"], records=records)
        assert bob.record is None
        if repo.server is None:  # in Redis the loaded row holds no feature, only its time
            assert bob.values is not None
            assert whole(bob.values[REVISION]) == 1
            assert list(bob.values).count(None) == len(PROFILE_FIELDS) - 1


@pytest.mark.parametrize("n_users", [500, 501, 1001])
def test_many_users_come_back_in_the_order_asked(store: ProfileStore, n_users: int) -> None:
    users = [f"user{i}" for i in range(n_users)]
    store.compare_and_set([write_of(user, 0, i % 50 + 1) for i, user in enumerate(users)])
    served = store.read_views(users[::-1])
    assert [whole((user.values or ())[REVISION]) for user in served] == [
        i % 50 + 1 for i in reversed(range(n_users))
    ]


def test_a_reader_beside_a_writer_sees_one_revision_at_a_time(store: ProfileStore) -> None:
    """Values of two revisions are never mixed, and a user who is being erased is served or erased."""
    done = threading.Event()

    def write() -> None:
        for revision in range(60):
            store.compare_and_set([write_of("ann", revision, erased=revision % 3 == 2)])
        done.set()

    store.compare_and_set([write_of("bob", 0)])
    writer = threading.Thread(target=write)
    writer.start()
    torn = []
    while not done.is_set():
        (ann, bob) = store.read_views(["ann", "bob"])
        if bob.values is None or bob.record is not None:
            torn.append(bob)
        if ann.values is None:
            if ann.record is not None and int(ann.record.split()[1]) % 3:
                torn.append(ann)
        elif list(ann.values) != values_of(whole(ann.values[REVISION]) or 0):
            torn.append(ann)
    writer.join()
    assert torn == []

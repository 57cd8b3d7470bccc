"""What every ProfileStore keeps, on Redis, Redis Cluster and SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from features.online import ProfileStore, ProfileWrite, SourcePosition
from tests.online_repo import STORES, Repo, make_repo
from tests.profiles import NOW_US, views_of
from tests.redis_server import redis_cluster_server, redis_server  # noqa: F401 (fixtures, found by name)

pytestmark = pytest.mark.integration


@pytest.fixture(params=STORES)
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Repo:
    """A Feast repo of its own for every test; servers are shared."""
    return make_repo(request, tmp_path, request.param, project=f"p{uuid4().hex[:8]}")


@pytest.fixture
def store(repo: Repo) -> Iterator[ProfileStore]:
    store = repo.open()
    yield store
    store.close()


def write_of(
    user_id: str, expected: int, revision: int | None = None, *, erased: bool = False
) -> ProfileWrite:
    """A write whose record and views both say its revision."""
    revision = expected + 1 if revision is None else revision
    return ProfileWrite(
        user_id=user_id,
        expected_revision=expected,
        revision=revision,
        record=record_of(revision),
        views=None if erased else views_of(revision),
        event_timestamp_us=NOW_US + revision,
        created_us=NOW_US + revision,
    )


def record_of(revision: int) -> bytes:
    return b"record %d" % revision


def test_an_absent_user_has_no_state(store: ProfileStore) -> None:
    assert store.read_states(["nobody"]) == [None]


def test_no_users_are_no_work(store: ProfileStore) -> None:
    assert store.read_states([]) == []
    assert store.compare_and_set([]) == []


def test_a_state_is_read_as_it_was_written(store: ProfileStore) -> None:
    assert store.compare_and_set([write_of("ann", 0)]) == [True]
    assert store.read_states(["bob", "ann"]) == [None, record_of(1)]


def test_a_write_that_expects_another_revision_changes_nothing(store: ProfileStore) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0)])
    assert store.compare_and_set([write_of("ann", 1), write_of("bob", 7, 9)]) == [True, False]
    assert store.read_states(["ann", "bob"]) == [record_of(2), record_of(1)]


def test_a_new_user_is_written_once(store: ProfileStore) -> None:
    assert store.compare_and_set([write_of("ann", 0, 1)]) == [True]
    assert store.compare_and_set([write_of("ann", 0, 2)]) == [False]


def test_positions_come_back_by_namespace(store: ProfileStore) -> None:
    first = {SourcePosition("id1", "reviews", 0): 5, SourcePosition("cluster/reviews", "reviews", 11): 2**40}
    store.write_positions("group", first)
    store.write_positions("other", {SourcePosition("id1", "reviews", 0): 1})
    store.write_positions("group", {SourcePosition("id1", "reviews", 0): 6})
    store.write_positions("group", {})
    assert store.read_positions("group") == first | {SourcePosition("id1", "reviews", 0): 6}
    assert store.read_positions("unknown") == {}


def test_the_first_claim_of_the_space_stands(store: ProfileStore) -> None:
    assert store.read_space() is None
    assert store.claim_space("events a", "profiles a") == ("events a", "profiles a")
    assert store.claim_space("events b", "profiles b") == ("events a", "profiles a")
    assert store.read_space() == ("events a", "profiles a")


def test_a_durable_store_has_no_problems(store: ProfileStore) -> None:
    assert store.durability_problems() == []

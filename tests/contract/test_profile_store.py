"""What every ProfileStore keeps, on Redis, Redis Cluster and SQLite."""

from __future__ import annotations

import pytest

from features.online import ProfileStore, ProfileWrite, SourcePosition, StatelessUsersError
from tests.support.online_repo import Repo, Stored
from tests.support.profiles import NOW_US, record_of, views_of, write_of

pytestmark = pytest.mark.integration


def features_of(revision: int) -> dict[str, bytes]:
    return {name: value for view in views_of(revision).values() for name, value in view.items()}


def test_an_absent_user_has_no_state(store: ProfileStore) -> None:
    assert store.read_states(["nobody"]) == [None]


def test_no_users_are_no_work(store: ProfileStore) -> None:
    assert store.read_states([]) == []
    assert store.compare_and_set([]) == []


def test_a_state_is_read_as_it_was_written(store: ProfileStore) -> None:
    assert store.compare_and_set([write_of("ann", 0)]) == [True]
    assert store.read_states(["bob", "ann", "ann"]) == [None, record_of(1), record_of(1)]


def test_record_and_views_are_stored_together(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    assert repo.stored("ann") == Stored(record_of(1), features_of(1))
    store.compare_and_set([write_of("ann", 1)])
    assert repo.stored("ann") == Stored(record_of(2), features_of(2))


def test_a_write_that_expects_another_revision_changes_nothing(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0)])
    assert store.compare_and_set([write_of("ann", 1), write_of("bob", 7, 9)]) == [True, False]
    assert store.read_states(["ann", "bob"]) == [record_of(2), record_of(1)]
    assert repo.stored("bob") == Stored(record_of(1), features_of(1))


def test_a_new_user_is_written_once(store: ProfileStore) -> None:
    assert store.compare_and_set([write_of("ann", 0, 1)]) == [True]
    assert store.compare_and_set([write_of("ann", 0, 2)]) == [False]


def test_a_write_that_expects_a_user_who_is_absent_changes_nothing(store: ProfileStore) -> None:
    assert store.compare_and_set([write_of("ann", 3)]) == [False]
    assert store.read_states(["ann"]) == [None]


def test_writes_of_one_user_in_one_batch_follow_each_other(store: ProfileStore, repo: Repo) -> None:
    assert store.compare_and_set([write_of("ann", 0), write_of("ann", 0), write_of("ann", 1)]) == [
        True,
        False,
        True,
    ]
    assert repo.stored("ann") == Stored(record_of(2), features_of(2))


def test_a_tombstone_removes_the_views_and_keeps_the_record(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0)])
    assert store.compare_and_set([write_of("ann", 1, erased=True)]) == [True]
    assert repo.stored("ann") == Stored(record_of(2), {})
    assert store.read_states(["ann"]) == [record_of(2)]
    assert repo.stored("bob") == Stored(record_of(1), features_of(1))


def test_a_tombstone_of_a_user_never_seen_is_stored(store: ProfileStore, repo: Repo) -> None:
    assert store.compare_and_set([write_of("ann", 0, erased=True)]) == [True]
    assert repo.stored("ann") == Stored(record_of(1), {})


def test_a_writer_from_before_an_erasure_cannot_bring_a_user_back(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    late = write_of("ann", 1)
    store.compare_and_set([write_of("ann", 1, erased=True)])
    assert store.compare_and_set([late]) == [False]
    store.compare_and_set([write_of("ann", 2)])  # re-admitted
    assert store.compare_and_set([late]) == [False]
    assert repo.stored("ann") == Stored(record_of(3), features_of(3))


def test_a_revision_that_does_not_grow_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 <= expected_revision < revision"):
        write_of("ann", 3, 3)


def test_the_greatest_revision_fits(store: ProfileStore) -> None:
    last = 2**63 - 1
    assert store.compare_and_set([write_of("ann", 0, last - 1)]) == [True]
    assert store.compare_and_set([write_of("ann", last - 2, last)]) == [False]
    assert store.compare_and_set([write_of("ann", last - 1, last)]) == [True]


@pytest.mark.parametrize("n_users", [1, 500, 501, 1000])
def test_many_users_come_back_in_the_order_asked(store: ProfileStore, n_users: int) -> None:
    users = [f"user-{i}@example.com" for i in range(n_users)]
    writes = [write_of(user, 0, i + 1) for i, user in enumerate(users)]
    assert store.compare_and_set(writes) == [True] * n_users
    asked = list(reversed(users))
    assert store.read_states(asked) == [record_of(i + 1) for i in reversed(range(n_users))]


def test_big_records_are_stored_whole(store: ProfileStore) -> None:
    records = [bytes([i]) * 3_000_000 for i in range(4)]
    writes = [
        ProfileWrite(f"user{i}", 0, 1, record, views_of(1), NOW_US, NOW_US)
        for i, record in enumerate(records)
    ]
    assert store.compare_and_set(writes) == [True] * 4
    assert store.read_states([write.user_id for write in writes]) == records


def test_users_with_views_but_no_state_are_refused(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    repo.load_views_alone("bob")
    with pytest.raises(StatelessUsersError, match="1 of 3 users with views alone"):
        store.read_states(["ann", "bob", "carol"])
    assert store.compare_and_set([write_of("bob", 0), write_of("carol", 0)]) == [False, True]
    assert repo.stored("bob").record is None


def test_two_projects_share_a_store_without_meeting(store: ProfileStore, repo: Repo) -> None:
    file = repo.path / "feature_store.yaml"
    file.write_text(file.read_text().replace(repo.project, f"other{repo.project}"))
    other = repo.open()
    store.compare_and_set([write_of("ann", 0)])
    store.claim_space("a", "b")
    store.write_positions("group", {SourcePosition("id", "reviews", 0): 5})
    assert other.read_states(["ann"]) == [None]
    assert other.read_space() is None
    assert other.read_positions("group") == {}
    other.close()


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


def test_what_was_written_is_there_after_reopening(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    again = repo.open()
    assert again.read_states(["ann"]) == [record_of(1)]
    again.close()

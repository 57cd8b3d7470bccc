"""Whom a store names as erased, and what is left of a user who is removed; on every store."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from features.online import ProfileStore, ProfileWrite
from features.online.encode import int64
from tests.support.online_repo import Repo, Stored
from tests.support.profiles import record_of, views_of, write_of

pytestmark = pytest.mark.integration


def _served(user_id: str, expected: int, incarnation: int) -> ProfileWrite:
    views: dict[str, Mapping[str, bytes]] = dict(views_of(expected + 1))
    views["user_profile"] = {**views["user_profile"], "incarnation": int64(incarnation)}
    return dataclasses.replace(write_of(user_id, expected), views=views)


def test_the_erased_and_the_readmitted_are_named_once_with_their_states(store: ProfileStore) -> None:
    writes = [
        _served("live", 0, 0),
        write_of("gone", 0, erased=True),
        _served("back", 0, 3),
        write_of("never-seen@example.com", 0, erased=True),
    ]
    assert store.compare_and_set(writes) == [True] * 4
    found = sorted(store.erased_users())
    assert found == [(user, record_of(1)) for user in ("back", "gone", "never-seen@example.com")]


def test_a_store_without_erased_users_names_none(store: ProfileStore) -> None:
    store.compare_and_set([_served("live", 0, 0)])
    assert list(store.erased_users()) == []


def test_many_erased_users_are_all_named(store: ProfileStore) -> None:
    users = [f"u{i:04d}" for i in range(1_203)]
    store.compare_and_set([write_of(user, 0, erased=True) for user in users])
    assert sorted(user for user, _ in store.erased_users()) == users


def test_users_that_were_loaded_without_a_state_are_not_erased(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([_served("ann", 0, 0)])
    repo.load_views_alone("bob")
    assert list(store.erased_users()) == []


def test_erased_users_of_another_project_are_not_named(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0, erased=True)])
    file = repo.path / "feature_store.yaml"
    file.write_text(file.read_text().replace(repo.project, f"x{repo.project}"))
    other = repo.open()
    other.compare_and_set([write_of("bob", 0, erased=True)])
    assert [user for user, _ in other.erased_users()] == ["bob"]
    assert [user for user, _ in store.erased_users()] == ["ann"]
    other.close()


def test_a_removed_user_is_unknown_and_may_be_written_anew(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0), write_of("bob", 0)])
    repo.load_views_alone("carol")
    store.remove(["ann", "carol", "nobody"])
    assert repo.stored("ann") == repo.stored("carol") == Stored(None, {})
    assert store.read_states(["ann", "bob", "carol"]) == [None, record_of(1), None]
    assert store.compare_and_set([write_of("ann", 0, 9), write_of("carol", 0, 9)]) == [True, True]

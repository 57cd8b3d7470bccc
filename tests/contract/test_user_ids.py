"""Any text may be a user id: every store keeps each apart, byte for byte."""

from __future__ import annotations

from collections import Counter

import pytest

from features.fold.packed_state import pack
from features.online import ProfileStore, ProfileWrite
from features.online.lookup import lookup
from features.schema import Kind
from tests.support.online_repo import Repo
from tests.support.profiles import NOW_US, record_of, write_of
from tests.support.user_ids import HOSTILE
from tests.unit.features.builders import CONTROLS, At, folded, nobody

pytestmark = pytest.mark.integration

PLACES = {user: place for place, user in enumerate(HOSTILE, start=1)}


@pytest.fixture
def full(store: ProfileStore) -> ProfileStore:
    """The store with a profile of each, whose revision is the place of its user."""
    assert all(store.compare_and_set([write_of(user, 0, place) for user, place in PLACES.items()]))
    return store


def tombstone(user: str, expected: int) -> ProfileWrite:
    (record,) = pack(folded(nobody(1), [At(0, CONTROLS, 0, 1, 2, Kind.ERASE)]))
    return ProfileWrite(user, expected, expected + 1, record, None, NOW_US, NOW_US)


def test_each_has_a_state_of_its_own(full: ProfileStore, repo: Repo) -> None:
    asked = HOSTILE[::-1]
    assert full.read_states(asked) == [record_of(PLACES[user]) for user in asked]
    for user in HOSTILE[::7]:
        assert repo.stored(user).record == record_of(PLACES[user])


def test_each_is_looked_up_as_it_was_asked_for(full: ProfileStore) -> None:
    found = lookup(full, HOSTILE)
    assert [(p.user_id, p.status, p.revision) for p in found] == [(u, "fresh", n) for u, n in PLACES.items()]


def test_each_is_erased_alone_and_named_as_erased(full: ProfileStore) -> None:
    gone = HOSTILE[::2]
    assert all(full.compare_and_set([tombstone(user, PLACES[user]) for user in gone]))
    assert {user for user, _ in full.erased_users() if user in PLACES} >= set(gone)
    statuses = {profile.user_id: profile.status for profile in lookup(full, HOSTILE)}
    assert statuses == {user: "erased" if user in gone else "fresh" for user in HOSTILE}


def test_each_is_removed_alone(full: ProfileStore) -> None:
    full.remove(HOSTILE[1::2])
    held = Counter(state is not None for state in full.read_states(HOSTILE))
    assert full.read_states(HOSTILE[1::2]) == [None] * held[False]
    assert held[True] == len(HOSTILE[::2])

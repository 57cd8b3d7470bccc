"""Looking many users up at once, over every store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from features.fold.packed_state import pack
from features.online import ProfileStore, ProfileWrite
from features.online.lookup import Profile, lookup
from features.schema import Kind
from tests.support.online_repo import Repo
from tests.support.profiles import NOW_US, columns_of, write_of
from tests.unit.features.builders import CONTROLS, At, folded, nobody

pytestmark = pytest.mark.integration

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
USERS = [f"user{i}" for i in range(100)]


def tombstone(user_id: str) -> ProfileWrite:
    events = [At(0, 1, 0, 5, 1), At(0, CONTROLS, 0, 1, 2, Kind.ERASE)]
    return ProfileWrite(user_id, 0, 1, pack(folded(nobody(1), events))[0], None, NOW_US, NOW_US)


def test_a_hundred_users_come_in_one_call_in_order_with_their_statuses(
    store: ProfileStore,
) -> None:
    """Of four users one is erased, one unknown, and the newest event of one is old."""
    kinds = ["fresh", "stale", "erased", "unknown"]
    hour = 3600
    writes = {
        "fresh": lambda user: write_of(user, 0, 5 * hour),
        "stale": lambda user: write_of(user, 0, 7),
        "erased": tombstone,
    }
    wanted = [kinds[i % 4] for i in range(100)]
    assert all(
        store.compare_and_set([writes[k](u) for u, k in zip(USERS, wanted, strict=True) if k in writes])
    )
    now = NOW + timedelta(seconds=6 * hour)
    profiles = lookup(store, USERS, timedelta(hours=2), now=now)
    assert [(p.user_id, p.status) for p in profiles] == list(zip(USERS, wanted, strict=True))
    for profile, kind in zip(profiles, wanted, strict=True):
        check_fields(profile, {"fresh": 5 * hour, "stale": 7}.get(kind))


def check_fields(profile: Profile, revision: int | None) -> None:
    if revision is None:
        assert (profile.embedding, profile.tags, profile.last_event) == (None, None, None)
        return
    made = columns_of([revision])
    assert profile.embedding is not None
    assert np.array_equal(profile.embedding, made["embedding"][0])
    assert (profile.revision, profile.sentiment) == (revision, made["sentiment"][0])
    assert profile.tags == [{"id": f"r{revision}"}]


def test_the_folder_of_a_repo_will_do_as_well(store: ProfileStore, repo: Repo) -> None:
    store.compare_and_set([write_of("ann", 0)])
    (ann,) = lookup(Path(repo.path), ["ann"])
    assert (ann.status, ann.revision) == ("fresh", 1)

"""The read, fold and compare-and-set loop over every store: many writers, failures in between, replays."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold
from features.fold.outcome import Outcome
from features.fold.packed_state import Spaces, unpack
from features.online import ProfileStore, ProfileWrite, StatelessUsersError, StoreError
from features.schema import ASPECTS, EVENT_DTYPE, NO_TAG, EncodedEvent, Kind
from features.tables.rows import event_batch
from features.taxonomy import load_taxonomy
from pipelines.steps.fold import USERS_AT_ONCE, FoldContext, Folded, chunks, fold_events
from tests.support.online_repo import Repo
from tests.unit.features.builders import CONTROLS, At, assert_same, event

T = TypeVar("T")
TAXONOMY = load_taxonomy()
NAMES = ("a" * 64, "b" * 64)
SPACES = Spaces.of(*NAMES, TAXONOMY)


class MeanFusion:
    """The plain mean of what is there: enough for a test of the loop."""

    fingerprint = "00" * 32

    def fuse(self, features: np.ndarray, mask: np.ndarray) -> np.ndarray:
        total = features.sum(axis=(1, 2))
        return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9), np.float32)


def _context(store: ProfileStore, **changes: Any) -> FoldContext:
    parts = {"store": store, "fusion": MeanFusion(), "taxonomy": TAXONOMY, "spaces": SPACES, "names": NAMES}
    return FoldContext(**{**parts, "policy": FoldPolicy(), "sleep": lambda _: None, **changes})


def _numbers(record: At) -> Any:
    """The record's event as an encoder gives it: tags first, nothing where nothing is said."""
    item = event(record)
    used = np.unique(item["tag"][item["tag"] != NO_TAG])
    item["tag"], item["tag_score"] = NO_TAG, 0
    item["tag"][: len(used)], item["tag_score"][: len(used)] = used, 0.5
    mentioned = item["aspect_mask"] >> np.arange(len(ASPECTS)) & 1
    item["aspect_sentiment"] *= mentioned.astype(np.int8)
    return item


def _encoded(records: Sequence[At]) -> list[EncodedEvent]:
    return [
        EncodedEvent(f"user{r.user}", "test", str(r.key), f"topic{r.topic}", "{}", _numbers(r).tobytes())
        for r in records
    ]


def _records(users: int, each: int) -> list[At]:
    return [At(u, 1, u % 3, 100 * u + i, 1000 * u + i + 1) for u in range(users) for i in range(each)]


def _stored(store: ProfileStore, users: int) -> Any:
    return unpack(store.read_states([f"user{u}" for u in range(users)]), SPACES)


def _folded_at_once(records: Sequence[At], users: int) -> Any:
    numbers = np.array([_numbers(r) for r in records], EVENT_DTYPE)
    index = np.array([r.user for r in records], np.int64)
    return fold(unpack([None] * users, SPACES), index, numbers, FoldPolicy(), 1).states


def test_a_fold_gives_profiles_and_a_row_for_every_event(store: ProfileStore) -> None:
    records = _records(users=5, each=4)
    folded = fold_events(_encoded(records), _context(store))
    assert_same(_stored(store, 5), _folded_at_once(records, 5))
    assert (folded.outcomes == Outcome.APPLIED).all()
    assert folded.events is not None
    assert folded.events.num_rows == 20
    assert sorted(folded.profiles[0]["user_id"].to_pylist()) == [f"user{u}" for u in range(5)]


def test_a_repeated_bundle_changes_nothing_and_repeats_its_rows(store: ProfileStore) -> None:
    events = _encoded(_records(users=3, each=3))
    first = fold_events(events, _context(store))
    before = store.read_states(["user0", "user1", "user2"])
    again = fold_events(events, _context(store))
    assert store.read_states(["user0", "user1", "user2"]) == before
    assert (again.outcomes == Outcome.SEEN).all()
    assert again.events == first.events
    assert again.profiles == first.profiles


@pytest.mark.parametrize("writers", [4])
def test_concurrent_writers_of_the_same_users_lose_and_double_nothing(repo: Repo, writers: int) -> None:
    records = _records(users=6, each=12)
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        own = records.copy()
        random.Random(seed).shuffle(own)  # each writer folds everything, in an order of its own
        store = repo.open()
        try:
            for start in range(0, len(own), 9):
                fold_events(_encoded(own[start : start + 9]), _context(store, attempts=200))
        except BaseException as error:
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    store = repo.open()
    assert_same(_stored(store, 6), _folded_at_once(records, 6))
    store.close()


class FailingStore:
    """A store that fails where a test says, before or after it has done what it was asked."""

    def __init__(self, store: ProfileStore, failures: Sequence[str]) -> None:
        self._store = store
        self._failures = list(failures)

    def _call(self, call: Callable[[], T]) -> T:
        failure = self._failures.pop(0) if self._failures else "none"
        if failure == "before":
            raise StoreError("away")
        result = call()
        if failure == "after":
            raise StoreError("the answer was lost")
        return result

    def read_states(self, user_ids: Sequence[str]) -> list[bytes | None]:
        return self._call(lambda: self._store.read_states(user_ids))

    def compare_and_set(self, writes: Sequence[ProfileWrite]) -> list[bool]:
        return self._call(lambda: self._store.compare_and_set(writes))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["none", "before", "after"]), max_size=12))
def test_failures_of_the_store_at_any_step_lose_and_double_nothing(repo: Repo, failures: list[str]) -> None:
    records = _records(users=3, each=2)
    store = repo.open()
    failing: Any = FailingStore(store, failures)
    for _ in range(2):
        fold_events(_encoded(records), _context(failing, attempts=20))
    assert_same(_stored(store, 3), _folded_at_once(records, 3))
    store.close()


def test_a_store_that_stays_away_fails_the_bundle_after_the_attempts(store: ProfileStore) -> None:
    waits: list[float] = []
    failing: Any = FailingStore(store, ["before"] * 100)
    with pytest.raises(StoreError, match="away"):
        fold_events(_encoded(_records(1, 1)), _context(failing, attempts=4, sleep=waits.append))
    assert len(waits) == 3


def test_an_erased_user_leaves_no_profile_and_no_event_rows(store: ProfileStore) -> None:
    context = _context(store)
    fold_events(_encoded(_records(users=2, each=3)), context)
    erase = At(0, CONTROLS, 0, 5, 77, Kind.ERASE)
    folded = fold_events(_encoded([erase]), context)
    assert folded.erased == ["user0"]
    assert not folded.profiles
    later = fold_events(_encoded([At(0, 1, 0, 900, 4242), At(1, 1, 1, 901, 4243)]), context)
    assert later.events is not None
    assert later.events["user_id"].to_pylist() == ["user1"]
    assert [name for batch in later.profiles for name in batch["user_id"].to_pylist()] == ["user1"]


def test_a_repeated_erase_tells_of_the_deletion_again_and_changes_nothing(store: ProfileStore) -> None:
    context = _context(store)
    fold_events(_encoded(_records(users=2, each=3)), context)
    erase = _encoded([At(0, CONTROLS, 0, 5, 77, Kind.ERASE)])
    fold_events(erase, context)
    before = store.read_states(["user0"])
    assert fold_events(erase, context).erased == ["user0"]  # a crash may have come before the changelog
    assert store.read_states(["user0"]) == before


def test_users_loaded_without_a_state_are_refused_at_once(store: ProfileStore) -> None:
    class Loaded(FailingStore):
        def read_states(self, user_ids: Sequence[str]) -> list[bytes | None]:
            raise StatelessUsersError("user0 has views but no state")

    loaded: Any = Loaded(store, [])
    with pytest.raises(StatelessUsersError):
        fold_events(_encoded(_records(1, 1)), _context(loaded, sleep=lambda _: pytest.fail("waited")))


@given(st.lists(st.integers(0, 2 * USERS_AT_ONCE), max_size=3000))
@settings(max_examples=10, deadline=None)
def test_chunks_keep_every_event_and_never_split_a_user(users: list[int]) -> None:
    events = [EncodedEvent(f"user{u}", "", str(i), "", "", b"") for i, u in enumerate(users)]
    parts = list(chunks(events))
    assert sorted(e.event_id for part in parts for e in part) == sorted(e.event_id for e in events)
    names = [{e.user_id for e in part} for part in parts]
    assert sum(map(len, names)) == len({e.user_id for e in events})
    assert all(len(own) <= USERS_AT_ONCE for own in names)


def test_a_fold_of_nothing_gives_an_empty_table() -> None:
    assert event_batch([], NAMES[0], TAXONOMY).num_rows == 0
    assert Folded().profiles == []

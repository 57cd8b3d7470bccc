"""Online stores that hold a user's state and its served views in one atomic step.

:class:`ProfileStore` is the contract; Redis and SQLite keep it, and both pass
``tests/contract/test_profile_store.py``. A store is chosen by its class path in ``feature_store.yaml`` and
other readers see an ordinary Feast store.

``open``              feature_store.yaml → the :class:`ProfileStore` that it names
``lookup``            user ids → profiles with a status (fresh, stale, unknown, erased)
``encode``            columns of profiles → Feast's wire bytes, for a batch of users
``decode``            Feast's wire bytes → values
``feast_keys``        user → the keys and fields under which Feast looks for features
``feast_import``      imports Feast without its side effects
``redis``             Feast's face of the Redis store (``features.online.redis.PortraitRedisOnlineStore``)
``redis_profiles``    the Redis :class:`ProfileStore`
``redis_connection``  connection strings, time limits, errors without secrets
``sqlite``            Feast's face of the SQLite store (``features.online.sqlite.PortraitSqliteOnlineStore``)
``sqlite_profiles``   the SQLite :class:`ProfileStore`
``sqlite_file``       one durable file, shared by threads and processes
``erased_users``      a store → its erased users
``repair``            users whose state or views cannot be used, and their removal
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from features.errors import PortraitError


class SourcePosition(NamedTuple):
    """One partition of one incarnation of a topic."""

    topic_id: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class ProfileWrite:
    """A user's next state and what is served of it, to be stored in one step or not at all."""

    user_id: str
    expected_revision: int
    """Revision that the store must hold; 0 = the user must be absent."""
    revision: int
    record: bytes
    """The packed state (``features.fold.fold``); opaque here."""
    views: Mapping[str, Mapping[str, bytes]] | None
    """View → feature → serialized ``feast.types.Value``; None removes all views (a tombstone)."""
    event_timestamp_us: int
    created_us: int

    def __post_init__(self) -> None:
        if not 0 <= self.expected_revision < self.revision:
            raise ValueError(
                f"ProfileWrite: expected 0 <= expected_revision < revision, got {self.expected_revision} "
                f"and {self.revision}; every write of any kind takes a greater revision"
            )


class ServedUser(NamedTuple):
    """What a store holds of one user, as its wire bytes."""

    values: Sequence[bytes | None] | None
    """A serialized ``feast.types.Value`` for each of PROFILE_FIELDS, in their order (None: not written);
    None where no view of the user is served."""
    record: bytes | None
    """The packed state; None where ``values`` is given, unless it was asked for."""


class StoreError(PortraitError):
    """The store failed; the call may be repeated."""


class StatelessUsersError(StoreError):
    """Users whose views were loaded (``feast materialize``) without a state; rebuild them first."""


class ProfileStore(Protocol):
    """Batch access to states with compare-and-set. Safe to share between threads."""

    def read_states(self, user_ids: Sequence[str]) -> list[bytes | None]:
        """The packed state of each user, None where absent, in the order asked.

        Raises StatelessUsersError for users that have views but no state, StoreError on failure.
        """

    def read_views(self, user_ids: Sequence[str], *, records: bool = False) -> list[ServedUser]:
        """What is served of each user, in the order asked: both views of a user as of one instant.

        A user without views comes with the state, which tells a tombstone from an unknown user;
        ``records`` asks for the states of all. Users that ``feast materialize`` loaded have no state.

        Raises StoreError on failure.
        """

    def compare_and_set(self, writes: Sequence[ProfileWrite]) -> list[bool]:
        """Store each write whose ``expected_revision`` is what the store holds; True = stored.

        Record, revision and views of a user change in one atomic step; users are independent of
        each other. After StoreError any subset may have been stored: read again.
        """

    def erased_users(self) -> Iterator[tuple[str, bytes]]:
        """User and packed state, once each, of all who ever asked to be forgotten: a state without views
        (a tombstone), or with an incarnation other than 0 (erased, then readmitted).

        Walks the whole store. Whoever is written meanwhile may be left out. Raises StoreError.
        """

    def remove(self, user_ids: Sequence[str]) -> None:
        """Remove state and views of users, whatever they are; the views of other teams stay.

        For users that cannot be used as they are (views without a state, a damaged state) before they are
        rebuilt. It forgets tombstones too: the caller must have checked. Raises StoreError.
        """

    def read_positions(self, namespace: str) -> dict[SourcePosition, int]:
        """Next offsets per partition as last mirrored by :meth:`write_positions`."""

    def write_positions(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        """Mirror positions whose events are all stored (and flushed to parquet)."""

    def read_space(self) -> tuple[str, str] | None:
        """``(event_space, profile_space)`` that the store was first written with."""

    def claim_space(self, event_space: str, profile_space: str) -> tuple[str, str]:
        """Sets the spaces if none is set; returns those in force."""

    def durability_problems(self) -> list[str]:
        """What would lose acknowledged writes: one sentence each, naming the setting to change."""

    def close(self) -> None:
        """Release connections; the object must not be used after."""

"""Users of a store that the fold refuses: views without a state, and states that were cut or changed."""

from __future__ import annotations

from collections.abc import Sequence

from features.fold.packed_state import RecordError, read_mark
from features.online import ProfileStore, StatelessUsersError


def remove_unusable(store: ProfileStore, users: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove what is held of users that cannot be folded, so that they can be made anew; gives them.

    Second: users whose state is damaged and of whom nothing is served: they may be erased, and stay.
    Raises StoreError, LayoutError.
    """
    unusable: list[str] = []
    unknown: list[str] = []
    for user, held in zip(users, store.read_views(users, records=True), strict=True):
        if held.record is None:
            unusable += [] if _is_absent(store, user) else [user]
        elif not _is_whole(held.record):
            (unknown if held.values is None else unusable).append(user)
    store.remove(unusable)
    return unusable, unknown


def _is_absent(store: ProfileStore, user: str) -> bool:
    """Whether nothing at all is held of a user without a state (the time of a view counts too)."""
    try:
        store.read_states([user])
    except StatelessUsersError:
        return False
    return True


def _is_whole(record: bytes) -> bool:
    try:
        read_mark(record)
    except RecordError:
        return False
    return True

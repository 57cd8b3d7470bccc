"""Who asked to be forgotten: the tombstones of an online store are the truth of it.

Everything that copies profiles (parquet, indexes, exports) drops these users, and whoever fills a fresh
store imports what an erase leaves behind (:func:`marks`) before any event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import numpy as np

from features.fold.decayed_sums import CONTENT_FIELDS, wipe
from features.fold.packed_state import (
    RecordError,
    Spaces,
    States,
    name_spaces,
    own_spaces,
    read_mark,
    stacked,
    starts_of,
    unpack,
)
from features.online import ProfileStore
from features.schema import Kind

_USERS_AT_ONCE: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Source = tuple[int, int]
"""Topic key and partition."""


@dataclass(frozen=True, slots=True)
class Erased:
    """A user who was erased, and what of her may still lie about."""

    user_id: str
    at: datetime
    """When the state was last written: the erase took effect then or before."""
    readmitted: bool
    """Profiled again since: only what belongs to the ended incarnations must go."""
    incarnation: int
    gone: Mapping[Source, int]
    """By source partition: contents up to this offset belong to an ended incarnation."""
    erase: tuple[int, int, int] | None
    """Topic key, partition and offset of the newest erase that the state remembers."""


def erased_users(store: ProfileStore) -> Iterator[Erased]:
    """Every erased user of a store, whatever its spaces; the readmitted too.

    Raises StoreError, LayoutError or RecordError for a state that cannot be read.
    """
    for user_id, record in store.erased_users():
        yield read_erased(user_id, record)


def tombstones(store: ProfileStore) -> set[str]:
    """Users who are erased now: what an index or an export must not hold."""
    return {user.user_id for user in erased_users(store) if not user.readmitted}


def erased_among(store: ProfileStore, user_ids: Sequence[str]) -> dict[str, Erased]:
    """Those of the users who are erased now. One whose state is damaged is not: nothing says so.

    Raises StoreError, LayoutError.
    """
    found: dict[str, Erased] = {}
    for start in range(0, len(user_ids), _USERS_AT_ONCE):
        some = user_ids[start : start + _USERS_AT_ONCE]
        for user, held in zip(some, store.read_views(some), strict=True):
            if held.values is None and held.record is not None:
                with suppress(RecordError):
                    if read_mark(held.record)[0]:
                        found[user] = read_erased(user, held.record)
    return found


def read_erased(user_id: str, record: bytes) -> Erased:
    """What the state of an erased user says."""
    states = unpack([record], own_spaces(record))
    head, sources, window = states.head[0], states.sources, states.window
    erases = window[window["kind"] == Kind.ERASE]
    newest = None
    if len(erases):
        last = erases[erases["offset"].argmax()]
        row = sources[last["source"]]
        newest = (int(row["topic_key"]), int(row["partition"]), int(last["offset"]))
    gone = {(int(s["topic_key"]), int(s["partition"])): int(s["gone"]) for s in sources if s["gone"] >= 0}
    return Erased(
        user_id=user_id,
        at=_EPOCH + timedelta(microseconds=int(head["created_us"])),
        readmitted=not states.erased[0],
        incarnation=int(head["incarnation"]),
        gone=gone,
        erase=newest,
    )


def marks(states: States) -> States:
    """What an erase leaves of states: flags, incarnation, controls, which offsets are gone; no content.

    Events folded into it give the state again: those of ended incarnations are absorbed, the others are
    new. ``version`` is the number of events applied in ended incarnations. A state never erased becomes an
    empty one of the same revision.
    """
    head = stacked(states.head)
    applied = head["modality"]["count"].sum(axis=1, dtype=np.uint64)
    wipe(head, np.ones(len(head), bool))
    head["version"] -= np.minimum(applied, head["version"])
    head["half_life_s"] = 0
    sources, window = stacked(states.sources), states.window
    owner = np.repeat(np.arange(len(states)), np.diff(states.window_start))
    control = window["kind"] != Kind.CONTENT
    row = (states.source_start[owner] + window["source"])[control]
    reached = np.full(len(sources), -1, np.int64)
    np.maximum.at(reached, row, window["offset"][control])
    controls = np.zeros(len(sources), bool)
    controls[row] = True
    # Floors of controls stay: an old erase that is read again must stay without effect.
    sources["floor"] = np.where(controls, sources["floor"], sources["gone"])
    sources["top"] = np.maximum.reduce([reached, sources["gone"], sources["floor"]])
    counts = np.bincount(owner[control], minlength=len(states))
    return States(
        head, sources, states.source_start, window.compress(control), starts_of(counts), states.spaces
    )


def renamed(states: States, spaces: Spaces) -> States:
    """States without content, as states of another space. Raises ValueError where there is content."""
    if any(states.head[name].tobytes().strip(b"\0") for name in CONTENT_FIELDS):
        raise ValueError("renamed: expected states without content, got vectors of another space")
    head = stacked(states.head)
    name_spaces(head, np.arange(len(head)), spaces)
    return States(head, states.sources, states.source_start, states.window, states.window_start, spaces)


def read_marks(records: Iterable[tuple[str, bytes]], spaces: Spaces) -> Iterator[tuple[list[str], States]]:
    """Users and their :func:`marks`, renamed to ``spaces``, a run of records of one space at a time."""
    for found, run in groupby(records, key=lambda record: own_spaces(record[1])):
        users, blobs = zip(*run, strict=True)
        yield list(users), renamed(marks(unpack(list(blobs), found)), spaces)


def ended(erased: Iterable[Erased]) -> tuple[frozenset[str], dict[str, Erased]]:
    """Users of whom everything must go, and those of whom ended incarnations must."""
    everything, some = set(), {}
    for user in erased:
        if user.readmitted:
            some[user.user_id] = user
        else:
            everything.add(user.user_id)
    return frozenset(everything), some

"""The anti-replay window: which records of each source partition a user has met.

After RFC 4303 §3.4.3: exact memory of the last ``window_offsets`` offsets, and a floor below which
everything counts as met. A source is (topic key, partition), so a recreated topic starts anew. Event
keys in the window also unmask an event that its producer sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from features.fold.outcome import Outcome
from features.fold.packed_state import Array, StateError, States, stacked, starts_of
from features.schema import SOURCE_DTYPE, WINDOW_DTYPE, Kind

SPAN: Final = 1 << 36
"""Offsets below and above a source's top that :meth:`Windows._codes` tells apart."""
_OFFSETS: Final = ("floor", "top", "gone")
MAX_SOURCES: Final = 1 << 16
_HASH_BITS: Final = 0xFFFF


@dataclass
class Windows:
    """The windows of a batch of users, open for change. A source is named by its row (``at``)."""

    user: Array  # int64 [rows], sorted
    rows: Array  # SOURCE_DTYPE [rows], sorted by (user, topic_key, partition)
    at: Array  # int64 [entries], sorted: row of each entry
    entries: Array  # WINDOW_DTYPE [entries], sorted by (at, offset)

    def add_rows(self, user: Array, rows: Array) -> Array:
        """Take in sources of users; int64: the row that each has become."""
        user, rows = np.concatenate([self.user, user]), stacked(self.rows, rows)
        order = np.lexsort((rows["partition"], rows["topic_key"], user))
        user, rows = user[order], rows.take(order)
        first = group_starts(user, rows["topic_key"], rows["partition"])
        becomes = np.empty(len(order), np.int64)
        becomes[order] = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
        highest = {name: np.maximum.reduceat(rows[name], first) for name in _OFFSETS if len(first)}
        old = len(self.user)
        self.user, self.rows, self.at = user[first], rows.take(first), becomes[:old][self.at]
        for name, offset in highest.items():
            self.rows[name] = offset
        return becomes[old:]

    def judge(self, at: Array, events: Array) -> Array:
        """uint8: what each event is to the window, the events being sorted by (at, offset, keys).

        APPLIED (new), ABSORBED, SEEN, BELOW_FLOOR, DUPLICATE or CONFLICT; nothing is recorded yet.
        """
        outcome = np.zeros(len(events), np.uint8)
        offset, rows = events["offset"], self.rows.take(at)
        outcome[offset <= rows["floor"]] = Outcome.BELOW_FLOOR
        again = np.zeros(len(events), bool)
        again[1:] = (at[1:] == at[:-1]) & (offset[1:] == offset[:-1]) & (outcome[1:] == 0)
        outcome[again | self._holds(at, offset)] = Outcome.SEEN
        outcome[(offset <= rows["gone"]) & (events["kind"] == Kind.CONTENT)] = Outcome.ABSORBED
        fresh = np.flatnonzero(outcome == Outcome.APPLIED)
        outcome[fresh] = self._judge_keys(self.user[at[fresh]], events.take(fresh))
        return outcome

    def _codes(self, at: Array, offset: Array) -> Array:
        """One int64 for (row, offset) that sorts alike, while the offset is within SPAN of the row's top."""
        near = offset - np.maximum(self.rows["top"], 0)[at]
        code: Array = at * (2 * SPAN) + np.clip(near, -SPAN, SPAN - 1) + SPAN
        return code

    def _holds(self, at: Array, offset: Array) -> Array:
        if not len(self.entries):
            return np.zeros(len(at), bool)
        place = np.searchsorted(self._codes(self.at, self.entries["offset"]), self._codes(at, offset))
        place = np.minimum(place, len(self.entries) - 1)
        held: Array = (self.at[place] == at) & (self.entries["offset"][place] == offset)
        return held

    def _judge_keys(self, user: Array, events: Array) -> Array:
        """APPLIED, DUPLICATE or CONFLICT, by the keys in the windows and by those of earlier events."""
        wanted = np.zeros(_HASH_BITS + 1, bool)
        wanted[events["event_key"] & _HASH_BITS] = True
        similar = np.flatnonzero(wanted[self.entries["event_key"] & _HASH_BITS])
        user = np.concatenate([self.user[self.at[similar]], user])
        key = np.concatenate([self.entries["event_key"][similar], events["event_key"]])
        content = np.concatenate([self.entries["content_key"][similar], _low(events["content_key"])])
        order = np.lexsort((key, user))  # stable: window first, then the events in their order
        first = group_starts(user[order], key[order])
        outcome = np.full(len(order), Outcome.DUPLICATE, np.uint8)
        leader = np.repeat(order[first], np.diff(first, append=len(order)))
        outcome[order[content[order] != content[leader]]] = Outcome.CONFLICT
        outcome[order[first]] = Outcome.APPLIED
        return outcome[len(similar) :]

    def record(self, at: Array, events: Array) -> None:
        """Enter records that the window does not hold, sorted by (at, offset)."""
        new = np.zeros(len(events), WINDOW_DTYPE)
        new["offset"], new["event_key"], new["kind"] = events["offset"], events["event_key"], events["kind"]
        new["content_key"] = _low(events["content_key"])
        place = np.searchsorted(
            self._codes(self.at, self.entries["offset"]), self._codes(at, events["offset"])
        )
        source = np.insert(np.arange(len(self.at)), place, np.arange(len(new)) + len(self.at))
        self.at = np.concatenate([self.at, at])[source]
        np.maximum.at(self.rows["top"], at, events["offset"])
        self.entries = stacked(self.entries, new).take(source)

    def absorb(self, at: Array, offset: Array) -> None:
        """Count these and all earlier records of their rows as those of an erased incarnation."""
        for name in _OFFSETS:
            np.maximum.at(self.rows[name], at, offset)

    def forget(self, rows: Array) -> None:
        """Drop the ids of contents (those of controls stay) of these rows (bool); they count as seen."""
        for name in ("floor", "gone"):
            self.rows[name][rows] = self.rows["top"][rows]
        self._keep(~rows[self.at] | (self.entries["kind"] != Kind.CONTENT))

    def _keep(self, kept: Array) -> None:
        if not kept.all():
            self.at, self.entries = self.at[kept], self.entries.compress(kept)

    def close(self, n_users: int, window_offsets: int, window_entries: int) -> tuple[Closed, int]:
        """Raise the floors, forget what lies below, and give the parts of a state; second: entries capped."""
        oldest = self.rows["top"] - window_offsets
        np.maximum(self.rows["floor"], oldest, out=self.rows["floor"])
        offset = self.entries["offset"]
        control = (self.entries["kind"] != Kind.CONTENT) & (offset > oldest[self.at])
        self._keep((offset > self.rows["floor"][self.at]) | control)
        shortened = self._shorten(n_users, window_entries)
        source_start = starts_of(np.bincount(self.user, minlength=n_users))
        if (most := np.diff(source_start).max(initial=0)) > MAX_SOURCES:
            raise StateError(
                f"window: expected at most {MAX_SOURCES} partitions a user, got {most}; "
                "fill a fresh store with `portrait backfill`"
            )
        owner = self.user[self.at]
        self.entries["source"] = self.at - source_start[owner]
        window_start = starts_of(np.bincount(owner, minlength=n_users))
        return Closed(self.rows, source_start, self.entries, window_start), shortened

    def _shorten(self, n_users: int, cap: int) -> int:
        """Give up the lowest offsets of users above the cap, row by row in turn; how many.

        What stays is a function of all that was met, whatever the batches: an entry's place from the top of
        its row only grows, and so does the number of entries before it.
        """
        owner = self.user[self.at]
        held = np.bincount(owner, minlength=n_users)
        crowded = np.flatnonzero(held[owner] > cap)
        if not len(crowded):
            return 0
        at, owner = self.at[crowded], owner[crowded]
        from_top = np.searchsorted(at, at, side="right") - np.arange(len(at))
        order = np.lexsort((at, from_top, owner))
        before = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
        given_up = crowded[order[before >= cap]]
        np.maximum.at(self.rows["floor"], self.at[given_up], self.entries["offset"][given_up])
        kept = np.ones(len(self.entries), bool)
        kept[given_up] = False
        self._keep(kept)
        return len(given_up)


class Closed(NamedTuple):
    """Sources and window as a state holds them."""

    sources: Array
    source_start: Array
    window: Array
    window_start: Array


def windows_of(states: States) -> Windows:
    """The windows of states, copied."""
    n = np.arange(len(states))
    owner = np.repeat(n, np.diff(states.window_start))
    at = states.source_start[owner] + states.window["source"]
    user = np.repeat(n, np.diff(states.source_start))
    return Windows(user, stacked(states.sources), at, stacked(states.window))


def open_windows(states: States, user: Array, events: Array) -> tuple[Windows, Array]:
    """The windows of states, with room for the sources of events, and the row of each event."""
    bare = np.zeros(len(events), SOURCE_DTYPE)
    bare["topic_key"], bare["partition"] = events["topic_key"], events["partition"]
    for name in _OFFSETS:
        bare[name] = -1
    windows = windows_of(states)
    at = windows.add_rows(user, bare)
    return windows, at


def group_starts(*sorted_keys: Array) -> Array:
    """Places where a new group of equal keys begins.

    >>> group_starts(np.array([1, 1, 4]), np.array([0, 2, 2])).tolist()
    [0, 1, 2]
    """
    changes = np.ones(len(sorted_keys[0]), bool)
    changes[1:] = False
    for key in sorted_keys:
        changes[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changes)


def _low(content_key: Array) -> Array:
    return (content_key & 0xFFFF_FFFF).astype(np.uint32)

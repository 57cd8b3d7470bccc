"""The fold: states and events → states, over many users at once, in pure numpy.

A user's state is a commutative summary of the events met. Any order that keeps each source partition's
records within the window, any duplication, any split into batches and any replay gives the same state:
exactly for counts, times, newest events, evidence and windows, within 1e-5 of its weight for a decayed
sum. Identical ids must carry identical content. Revision and creation time count writes, not events.

Controls (erase, re-admission) are applied before the contents of their batch. A user's controls must come
from one partition in its order, as a topic keyed by user gives them; replays of them change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features.outcome import Outcome, foldable
from features.record import (
    ERASED,
    Array,
    LayoutError,
    RecordError,
    SpaceMismatchError,
    Spaces,
    StateError,
    States,
    empty_states,
    name_spaces,
    pack,
    stacked,
    unpack,
)
from features.schema import EVENT_DTYPE, HALF_LIVES_S, Kind
from features.sums import add_events, add_heads, parts_of_users, wipe
from features.window import SPAN, Windows, join, open_windows, windows_of

__all__ = [
    "FoldPolicy",
    "FoldResult",
    "LayoutError",
    "Outcome",
    "RecordError",
    "SpaceMismatchError",
    "Spaces",
    "StateError",
    "States",
    "empty_states",
    "fold",
    "fusion_inputs",
    "merge",
    "pack",
    "unpack",
]


@dataclass(frozen=True, slots=True)
class FoldPolicy:
    """How fast sums decay, and how far back replays are recognised."""

    half_lives_s: tuple[int, int] = HALF_LIVES_S
    window_offsets: int = 1_000_000
    """Offsets below a partition's greatest that a user's window remembers exactly."""
    window_entries: int = 4096
    """Most records that a user's window holds, over all partitions."""

    def __post_init__(self) -> None:
        if len(self.half_lives_s) != 2 or not all(0 < h < 1 << 32 for h in self.half_lives_s):
            raise ValueError(f"half_lives_s: expected two of 1 to 2^32 - 1, got {self.half_lives_s}")
        if not 0 < self.window_offsets < SPAN:
            raise ValueError(f"window_offsets: expected 1 to {SPAN - 1}, got {self.window_offsets}")
        if self.window_entries < 1:
            raise ValueError(f"window_entries: expected at least 1, got {self.window_entries}")


@dataclass(frozen=True, slots=True)
class FoldResult:
    """States after a fold, and what happened."""

    states: States
    outcome: npt.NDArray[np.uint8]
    """Outcome of each event, in the order given."""
    unchanged: npt.NDArray[np.bool_]
    """bool [users]: nothing new; same revision, need not be written (but its profile may have to be)."""
    space_moved: npt.NDArray[np.bool_]
    """bool [users]: was fused in another profile_space; such a user with events is never ``unchanged``."""
    counts: dict[str, int]
    """Events by outcome (lower case), and ``shortened``: window entries given up to the cap."""


def fold(states: States, user_index: Array, events: Array, policy: FoldPolicy, now_us: int) -> FoldResult:
    """Fold events (EVENT_DTYPE [e]) of users ``user_index`` (int [e]) into their states.

    Pure: the input is untouched. Users with news get revision + 1 and
    created = max(previous + 1, ``now_us``). An event that no state can take (see
    :func:`features.outcome.foldable`) is INVALID and changes nothing.

    Raises:
        SpaceMismatchError: a state decays by other half-lives than the policy's.
        ValueError: arrays that do not fit each other.
    """
    _check_arrays(states, user_index, events)
    _check_half_lives(states.head, policy)
    head = stacked(states.head)
    outcome = np.full(len(events), Outcome.INVALID, np.uint8)
    news = np.zeros(len(events), bool)
    place = np.flatnonzero(foldable(events))
    batch = events.take(place)
    windows, at = open_windows(states, user_index[place], batch)
    order = np.lexsort((batch["content_key"], batch["event_key"], batch["offset"], at))
    place, at, batch = place[order], at[order], batch.take(order)
    content = batch["kind"] == Kind.CONTENT
    if not content.all():
        part = place[~content]
        outcome[part], news[part] = _fold_controls(head, windows, at[~content], batch.compress(~content))
        place, at, batch = place[content], at[content], batch.compress(content)
    outcome[place], news[place] = _fold_contents(head, windows, at, batch, policy)

    closed, shortened = windows.close(len(states), policy.window_offsets, policy.window_entries)
    touched, changed = np.zeros((2, len(states)), bool)
    touched[user_index] = True
    changed[user_index[news]] = True
    space_moved = head["profile_space"] != np.uint64(states.spaces.profile)
    changed |= touched & space_moved
    _sign(head, changed, states.spaces, policy, now_us)
    counts = np.bincount(outcome, minlength=len(Outcome)).tolist()
    return FoldResult(
        States(head, *closed, states.spaces),
        outcome,
        ~changed,
        space_moved,
        {o.name.lower(): counts[o] for o in Outcome} | {"shortened": shortened},
    )


def _check_arrays(states: States, user_index: Array, events: Array) -> None:
    if events.dtype != EVENT_DTYPE or len(user_index) != len(events):
        raise ValueError(
            f"fold: expected one user index for each of n events of EVENT_DTYPE, "
            f"got {len(user_index)} for {len(events)} of itemsize {events.dtype.itemsize}"
        )
    if len(events) and not 0 <= user_index.min() <= user_index.max() < len(states):
        raise ValueError(
            f"fold: expected user indices 0 to {len(states) - 1}, "
            f"got {user_index.min()} to {user_index.max()}"
        )


def _check_half_lives(head: Array, policy: FoldPolicy) -> None:
    had = head["half_life_s"]
    strange = ((had != 0) & (had != np.array(policy.half_lives_s, np.uint32))).any(axis=1)
    if strange.any():
        raise SpaceMismatchError(
            f"states: expected half-lives {policy.half_lives_s} s, got {tuple(had[strange][0].tolist())} "
            f"in {strange.sum()} states; set them back, or fill a fresh store with `portrait backfill`"
        )


def _fold_controls(head: Array, windows: Windows, at: Array, events: Array) -> tuple[Array, Array]:
    """Apply erasures and re-admissions, each after what the one before it left; outcome and bool news."""
    outcome = np.empty(len(events), np.uint8)
    for i in range(len(events)):
        row, event = at[i : i + 1], events[i : i + 1]
        outcome[i : i + 1] = windows.judge(row, event)
        if not _is_record(outcome[i]):
            continue
        windows.record(row, event)
        if outcome[i] == Outcome.APPLIED:
            _control(head, windows, windows.user[at[i]], event["kind"][0])
            outcome[i] = Outcome.CONTROL
    return outcome, _is_record(outcome) | (outcome == Outcome.CONTROL)


def _control(head: Array, windows: Windows, user: int, kind: int) -> None:
    if kind == Kind.ERASE:
        windows.forget(windows.user == user)
        wipe(head, user)
        head["flags"][user] |= ERASED
    elif head["flags"][user] & ERASED:
        head["flags"][user] &= ~np.uint32(ERASED)
        head["incarnation"][user] += np.uint32(1)


def _fold_contents(
    head: Array, windows: Windows, at: Array, events: Array, policy: FoldPolicy
) -> tuple[Array, Array]:
    """Add the contents that are new; outcome and bool news of each."""
    outcome = windows.judge(at, events)
    erased = (head["flags"][windows.user[at]] & ERASED) != 0
    new = _is_record(outcome) & ~erased
    raising = erased & (events["offset"] > windows.rows["gone"][at])
    outcome[erased] = Outcome.ABSORBED
    windows.absorb(at[raising], events["offset"][raising])
    windows.record(at[new], events.compress(new))
    applied = outcome == Outcome.APPLIED
    if applied.any():
        add_events(head, windows.user[at[applied]], events.compress(applied), policy.half_lives_s)
    return outcome, new | raising


def _is_record(outcome: Array) -> Array:
    """bool: a source record not met before, be its id new or not."""
    return np.isin(outcome, (Outcome.APPLIED, Outcome.DUPLICATE, Outcome.CONFLICT))


def _sign(head: Array, changed: Array, spaces: Spaces, policy: FoldPolicy, now_us: int) -> None:
    """Mark the heads that changed as one more write, made now and here."""
    head["revision"][changed] += np.uint64(1)
    head["created_us"][changed] = np.maximum(head["created_us"][changed] + 1, now_us)
    head["half_life_s"][changed] = policy.half_lives_s
    name_spaces(head, changed, spaces)


def merge(a: States, b: States, policy: FoldPolicy) -> States:
    """States of the union of two disjoint sets of events of the same n users; associative.

    A later incarnation replaces an earlier one, and an erased user stays erased: what the other side holds
    of it counts as absorbed. Revision and creation time are the greater of the two.

    Raises:
        SpaceMismatchError: the two speak of different spaces or half-lives.
        ValueError: different numbers of users.
    """
    if len(a) != len(b):
        raise ValueError(f"merge: expected states of the same users, got {len(a)} and {len(b)}")
    if a.spaces != b.spaces:
        raise SpaceMismatchError(
            f"merge: expected states of {a.spaces}, got {b.spaces}; backfill one of them"
        )
    _check_half_lives(a.head, policy)
    _check_half_lives(b.head, policy)
    head, other = stacked(a.head), stacked(b.head)
    rank, other_rank = (h["incarnation"] * 2.0 + (h["flags"] & ERASED) for h in (head, other))
    ended, other_ended = rank < other_rank, other_rank < rank
    windows = join(_without(a, ended), _without(b, other_ended))
    wipe(head, ended)
    wipe(other, other_ended)
    for name in ("flags", "incarnation"):
        head[name] = np.where(ended, other[name], head[name])
    for name in ("revision", "created_us", "half_life_s"):
        head[name] = np.maximum(head[name], other[name])
    head["version"] += other["version"]
    current = head["profile_space"] == np.uint64(a.spaces.profile)
    head["profile_space"] = np.where(current, other["profile_space"], head["profile_space"])
    add_heads(head, other, policy.half_lives_s)
    closed, _ = windows.close(len(a), policy.window_offsets, policy.window_entries)
    return States(head, *closed, a.spaces)


def _without(states: States, ended: Array) -> Windows:
    windows = windows_of(states)
    windows.forget(ended[windows.user])
    return windows


def fusion_inputs(
    states: States, policy: FoldPolicy
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """What the fusion head reads: float32 [n, 4, 3, 64] and the mask of modalities seen, bool [n, 4].

    The three are, for both half-lives, the modality's part of the user's decayed mean (all modalities
    together sum up to the mean over all events, so a part's length says how much of it there is), and the
    newest embedding, halved for every shorter half-life that it is behind the user's newest event. Zeros
    where there is none.

    Raises:
        SpaceMismatchError: a state decays by other half-lives than the policy's.
    """
    _check_half_lives(states.head, policy)
    modality = states.head["modality"]
    mask: npt.NDArray[np.bool_] = modality["count"] > 0
    return parts_of_users(modality, mask, policy.half_lives_s), mask

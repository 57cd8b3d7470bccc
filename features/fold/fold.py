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

from features.fold.decayed_sums import add_events, parts_of_users, wipe
from features.fold.outcome import Outcome, foldable
from features.fold.packed_state import (
    ERASED,
    Array,
    SpaceMismatchError,
    Spaces,
    States,
    name_spaces,
    stacked,
)
from features.fold.replay_window import SPAN, Windows, open_windows
from features.schema import EVENT_DTYPE, HALF_LIVES_S, Kind


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
    """bool [users]: nothing new; same revision, need not be written (but its profile may have to be).

    A user with events who was fused in another profile_space is never ``unchanged``."""
    shortened: int
    """Window entries given up to the cap of the policy."""


def fold(states: States, user_index: Array, events: Array, policy: FoldPolicy, now_us: int) -> FoldResult:
    """Fold events (EVENT_DTYPE [e]) of users ``user_index`` (int [e]) into their states.

    Pure: the input is untouched. Users with news get revision + 1 and
    created = max(previous + 1, ``now_us``). An event that no state can take (see
    :func:`features.fold.outcome.foldable`) is INVALID and changes nothing.

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
    changed |= touched & (head["profile_space"] != np.uint64(states.spaces.profile))
    _sign(head, changed, states.spaces, policy, now_us)
    return FoldResult(States(head, *closed, states.spaces), outcome, ~changed, shortened)


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

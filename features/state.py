"""The fold: states and events → states, over many users at once, in pure numpy."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from features.record import (
    Array,
    LayoutError,
    RecordError,
    SpaceMismatchError,
    Spaces,
    StateError,
    States,
    empty_states,
    pack,
    unpack,
)
from features.schema import HALF_LIVES_S

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


class Outcome(IntEnum):
    """What became of an event."""

    APPLIED = 0  # changed the profile
    SEEN = 1  # this very record was met before
    BELOW_FLOOR = 2  # older than the window remembers: counts as seen
    DUPLICATE = 3  # its id was applied from another record
    CONFLICT = 4  # as DUPLICATE, but with other content: an alarm
    ABSORBED = 5  # of an erased user or an erased incarnation: must be kept nowhere
    CONTROL = 6  # an erase or a re-admission that took effect
    INVALID = 7  # numbers that no encoder may give (NaN, unknown tag, time before 1970): not folded


@dataclass(frozen=True, slots=True)
class FoldPolicy:
    """How fast sums decay, and how far back replays are recognised."""

    half_lives_s: tuple[int, int] = HALF_LIVES_S
    window_offsets: int = 1_000_000
    """Offsets below a partition's greatest that a user's window remembers exactly."""
    window_entries: int = 4096
    """Most records that a user's window holds, over all partitions."""


@dataclass(frozen=True)
class FoldResult:
    """States after a fold, and what happened."""

    states: States
    outcome: npt.NDArray[np.uint8]
    """Outcome of each event, in the order given."""
    unchanged: npt.NDArray[np.bool_]
    """bool [users]: nothing new; same revision, need not be written (but its profile may have to be)."""
    space_moved: npt.NDArray[np.bool_]
    """bool [users]: was fused in another profile_space; never ``unchanged``."""
    counts: dict[str, int] = field(default_factory=dict)
    """Events by outcome (lower case), and ``shortened``: window entries given up to the cap."""


def fold(states: States, user_index: Array, events: Array, policy: FoldPolicy, now_us: int) -> FoldResult:
    """Fold events (EVENT_DTYPE [e]) of users ``user_index`` (int [e]) into their states; pure."""
    raise NotImplementedError


def merge(a: States, b: States, policy: FoldPolicy) -> States:
    """States of the union of two disjoint sets of events of the same users."""
    raise NotImplementedError


def fusion_inputs(
    states: States, policy: FoldPolicy
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """float32 [n, 4, 3, 64] (10 days, 40 days, newest; unit length or zeros) and mask bool [n, 4]."""
    raise NotImplementedError

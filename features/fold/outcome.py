"""Which events the fold takes, and what can become of them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np

from features.fold.packed_state import Array
from features.schema import (
    ASPECTS,
    EVENT_TIME_MAX_US,
    EVENT_TIME_MIN_US,
    LANGUAGES,
    MAX_TAGS,
    MODALITIES,
    NO_TAG,
    Kind,
)


class Outcome(IntEnum):
    """What became of an event."""

    APPLIED = 0  # changed the profile
    SEEN = 1  # this very record was met before
    BELOW_FLOOR = 2  # older than the window remembers: counts as seen
    DUPLICATE = 3  # its id was applied from another record
    CONFLICT = 4  # as DUPLICATE, but with other content: an alarm
    ABSORBED = 5  # of an erased user or of an erased incarnation: must be kept nowhere
    CONTROL = 6  # an erase or a re-admission that took effect
    INVALID = 7  # numbers that no encoder may give (NaN, an unknown tag, a time before 1970): not folded


_LONGEST_F2: Final = 0x3C29
"""Bits of the float16 1.04: no entry of a unit vector is above it; infinity and NaN are."""
_SCORE_MAX: Final = 1.001


def foldable(events: Array) -> Array:
    """bool [e]: numbers that a state can take for ever; one NaN would stay in its sums."""
    time_us, sentiment, tag = events["event_time_us"], events["sentiment"], events["tag"]
    embedding = np.ascontiguousarray(events["embedding"]).view(np.uint16) & 0x7FFF
    score = np.where(tag == NO_TAG, 0, events["tag_score"])
    valid = (
        (time_us >= EVENT_TIME_MIN_US)
        & (time_us <= EVENT_TIME_MAX_US)
        & (events["modality"] < len(MODALITIES))
        & (events["lang"] < len(LANGUAGES))
        & ((tag < MAX_TAGS) | (tag == NO_TAG)).all(axis=1)
        & ((score >= 0) & (score <= _SCORE_MAX)).all(axis=1)
        & ((np.abs(sentiment) <= _SCORE_MAX) | np.isnan(sentiment))
        & (np.abs(events["aspect_sentiment"]) <= 1).all(axis=1)
        & (events["aspect_mask"] < 1 << len(ASPECTS))
        & (embedding <= _LONGEST_F2).all(axis=1)
    )
    control = (events["kind"] == Kind.ERASE) | (events["kind"] == Kind.READMIT)
    usable: Array = (events["offset"] >= 0) & (control | (valid & (events["kind"] == Kind.CONTENT)))
    return usable

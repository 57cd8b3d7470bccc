"""States → the columns of a profile."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from features.fold.decayed_sums import unit
from features.fold.packed_state import Array, States
from features.profile.tags import age_factor, aspects_json, tags_json, top_tags
from features.schema import LANGUAGES, MODALITIES, PRIOR_EVENTS
from features.taxonomy import Taxonomy

_RECENT, _REMEMBERING = 0, 1
"""Indices of the half-lives."""


def profile_columns(
    states: States,
    embedding: npt.NDArray[np.float32],
    taxonomy: Taxonomy,
    event_space: str,
    profile_space: str,
    prior_events: float = PRIOR_EVENTS,
) -> dict[str, Any]:
    """Columns of PROFILE_FIELDS and ``event_timestamp``, ``created`` (µs), one entry a user.

    ``embedding`` is the fused vector, float32 [n, 64]; the spaces are full hex fingerprints. Vectors and
    floats are arrays, the rest lists, JSON as UTF-8. A pure function of the state: weights are as of the
    newest event.
    """
    head = states.head
    modality = head["modality"]
    tags = top_tags(head, taxonomy, prior_events / 2)
    ids = [taxonomy.categories[slot].id for slot in tags.slot]
    interests = [ids[a:b] for a, b in pairwise(tags.start)]
    first = {c.id for c in taxonomy.categories if c.parent is None}
    columns: dict[str, Any] = {
        "embedding": embedding,
        "profile_space": [profile_space] * len(states),
        "event_space": [event_space] * len(states),
        "revision": head["revision"].tolist(),
        "version": head["version"].tolist(),
        "incarnation": head["incarnation"].tolist(),
        "modality_mask": ((modality["count"] > 0) @ (1 << np.arange(len(MODALITIES)))).tolist(),
        "confidence": _confidence(head, prior_events),
        "top_category": [next((i for i in user if i in first), "") for user in interests],
        "interests": interests,
        "tags": tags_json(tags, taxonomy),
        "sentiment": _sentiment(head, _REMEMBERING),
        "sentiment_recent": _sentiment(head, _RECENT),
        "aspects": aspects_json(head),
        "languages": _languages(head["languages"]),
        "first_event": head["first_event_us"].tolist(),
        "last_event": head["last_event_us"].tolist(),
    }
    vectors = unit(modality["sum"][:, :, _REMEMBERING])
    for m, name in enumerate(MODALITIES[:3]):
        columns[f"{name}_embedding"] = vectors[:, m]
        columns[f"{name}_count"] = modality["count"][:, m].tolist()
        columns[f"{name}_last_event"] = modality["newest_us"][:, m].tolist()
    columns["event_timestamp"] = columns["last_event"]
    columns["created"] = head["created_us"].tolist()
    return columns


def _confidence(head: Array, prior_events: float) -> npt.NDArray[np.float32]:
    """0..1: how many events there are, decayed by the longer half-life up to the newest."""
    weight = head["modality"]["weight"][:, :, _REMEMBERING]
    own = age_factor(head["modality"]["newest_us"], head["half_life_s"])[:, :, _REMEMBERING]
    behind = (head["last_event_us"][:, None] - head["modality"]["newest_us"]) / 1e6
    half_life_s = np.maximum(head["half_life_s"][:, _REMEMBERING], 1)
    events = (weight * own * np.exp2(-behind / half_life_s[:, None])).sum(axis=1)
    return np.asarray(1 - np.exp2(-events / prior_events), np.float32)


def _sentiment(head: Array, half_life: int) -> npt.NDArray[np.float32]:
    weight = head["sentiment_weight"][:, half_life]
    nothing = np.full(len(head), np.nan, np.float32)
    mean = np.divide(head["sentiment_sum"][:, half_life], weight, out=nothing, where=weight > 0)
    return np.asarray(np.clip(mean, -1, 1), np.float32)


def _languages(counts: Array) -> list[list[str]]:
    spoken = counts[:, : LANGUAGES.index("none")].astype(np.int64)
    order = np.argsort(-spoken, axis=1, kind="stable")
    heard = np.take_along_axis(spoken, order, axis=1) > 0
    return [
        [LANGUAGES[i] for i, used in zip(places, marks, strict=True) if used]
        for places, marks in zip(order.tolist(), heard.tolist(), strict=True)
    ]

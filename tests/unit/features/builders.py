"""Events and states for tests: a source record always carries the same content, as in Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold
from features.fold.packed_state import Spaces, States, empty_states
from features.schema import ASPECTS, EVENT_DTYPE, NO_TAG, Kind

DAY_US = 86_400_000_000
NOW_US = 1_800_000_000_000_000
SPACES = Spaces(event=0xE, profile=0xF, taxonomy=0x7)
POLICY = FoldPolicy()
CONTROLS = 99  # topic key of the control topic


class At(NamedTuple):
    """A source record of a user, and the id it carries."""

    user: int
    topic: int
    partition: int
    offset: int
    key: int
    kind: int = Kind.CONTENT


def event(at: At, **changes: Any) -> Any:
    """The event of a record: its content follows from its id alone, unless changed."""
    item = _content(at.key).copy()
    item["topic_key"], item["partition"], item["offset"] = at.topic, at.partition, at.offset
    item["kind"] = at.kind
    for name, value in changes.items():
        item[name] = value
    return item


@cache
def _content(key: int) -> Any:
    rng = np.random.default_rng(key)
    item = np.zeros((), EVENT_DTYPE)
    item["event_key"] = key
    item["content_key"] = rng.integers(1 << 63)
    item["event_time_us"] = NOW_US - rng.integers(400 * DAY_US)
    item["modality"] = rng.integers(3)
    item["lang"] = rng.integers(4)
    vector = rng.normal(size=64)
    item["embedding"] = vector / np.linalg.norm(vector)
    tags = rng.integers(6, size=4)  # few, so that they meet
    item["tag"] = np.where(rng.random(4) < 0.5, tags, NO_TAG)
    item["tag_score"] = rng.random(4)
    item["sentiment"] = rng.uniform(-1, 1) if rng.random() < 0.7 else np.nan
    item["aspect_mask"] = rng.integers(1 << len(ASPECTS)) & rng.integers(1 << len(ASPECTS))
    item["aspect_sentiment"] = rng.integers(-1, 2, size=len(ASPECTS))
    return item


def batch(records: Sequence[At]) -> tuple[np.ndarray, np.ndarray]:
    """User index and events of records."""
    users = np.array([r.user for r in records], np.int64)
    return users, np.array([event(r) for r in records], EVENT_DTYPE)


def folded(
    states: States, *batches: Sequence[At], policy: FoldPolicy = POLICY, now_us: int = NOW_US
) -> States:
    """States after folding one batch after the other."""
    for records in batches:
        states = fold(states, *batch(records), policy, now_us).states
    return states


def nobody(n: int = 3) -> States:
    return empty_states(n, SPACES)


@st.composite
def record_lists(
    draw: st.DrawFn, users: int = 3, offsets: int = 30, keys: int | None = None, max_size: int = 40
) -> list[At]:
    """Content records in any order, some twice; ids repeat between positions if ``keys`` is small."""
    positions = draw(
        st.lists(
            st.tuples(
                st.integers(0, users - 1), st.integers(1, 2), st.integers(0, 1), st.integers(0, offsets - 1)
            ),
            max_size=max_size,
        )
    )
    return [At(*p, _key(p, keys)) for p in positions]


def _key(position: tuple[int, int, int, int], keys: int | None) -> int:
    user, topic, partition, offset = position
    place = topic * 100_000 + partition * 10_000 + offset
    return user * 1_000_000 + (place if keys is None else place * 7919 % keys) + 1


@st.composite
def splits(draw: st.DrawFn, records: list[At]) -> list[list[At]]:
    """Records cut into batches at any places, empty ones included."""
    cuts = sorted(draw(st.lists(st.integers(0, len(records)), max_size=6)))
    return [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]


EXACT = (
    "flags", "incarnation", "version", "event_space", "profile_space", "taxonomy", "first_event_us",
    "last_event_us", "half_life_s", "languages",
)  # fmt: skip


def assert_same(a: States, b: States) -> None:
    """The same but for revision and created: exactly, and for decayed sums within 1e-5 of their weight."""
    for name in EXACT:
        np.testing.assert_array_equal(a.head[name], b.head[name], err_msg=name)
    for name in ("newest", "newest_us", "newest_key", "count"):
        np.testing.assert_array_equal(a.head["modality"][name], b.head["modality"][name], err_msg=name)
    for part in ("tag", "aspect"):
        for name in ("evidence_us", "evidence_key"):
            np.testing.assert_array_equal(a.head[part][name], b.head[part][name], err_msg=f"{part} {name}")
    modality = a.head["modality"]
    _near(modality["sum"], b.head["modality"]["sum"], modality["weight"][..., None])
    for part, name, weight in (
        ("modality", "weight", "weight"), ("tag", "weight", "weight"),
        ("aspect", "weight", "weight"), ("aspect", "sentiment", "weight"),
    ):  # fmt: skip
        _near(a.head[part][name], b.head[part][name], a.head[part][weight])
    _near(a.head["sentiment_weight"], b.head["sentiment_weight"], a.head["sentiment_weight"])
    _near(a.head["sentiment_sum"], b.head["sentiment_sum"], a.head["sentiment_weight"])
    assert_same_window(a, b)


def assert_same_window(a: States, b: States) -> None:
    for name in ("source_start", "sources", "window_start", "window"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def _near(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> None:
    """Within 1e-5 of the weight, or below what float32 can hold."""
    assert (np.abs(a.astype(np.float64) - b) <= 1e-5 * weight + 1e-37).all()

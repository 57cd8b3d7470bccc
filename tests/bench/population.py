"""Many users, made fast: vectorised events of people with tastes, folded and packed by the real code.

A person likes one to four categories; an event's embedding lies near its category's direction, so that fused
vectors cluster as real ones do (cosine of neighbours above .85, of strangers around .4 to .6).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from features.fold.decayed_sums import unit
from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.packed_state import Spaces, States, empty_states
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, NO_TAG, EncodedEvent, Modality
from features.taxonomy import load_taxonomy
from models.fusion import load_fusion

TAXONOMY = load_taxonomy()
HEX = "ab" * 32, "cd" * 32
SPACES = Spaces.of(*HEX, TAXONOMY)
POLICY = FoldPolicy()
NOW_US = int(time.time() * 1e6)
DAY_US = 86_400_000_000
_FIRST = [c.id for c in TAXONOMY.categories if c.parent is None]
_PARENT = np.array([_FIRST.index(c.parent or c.id) for c in TAXONOMY.categories])
_CHILDREN = np.stack([np.resize(np.flatnonzero(i == _PARENT), 12) for i in range(len(_FIRST))])
"""Slots of each first-level category and those below it, repeated to the same length."""
_SHARED = 0.55
"""How much of one direction all embeddings share."""


def scale(default: int) -> int:
    """Users: of the variable SCALE (20k, 1m, or a number), else the default."""
    text = os.environ.get("SCALE", "").strip().lower() or str(default)
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1], 1)
    return int(text.rstrip("km")) * factor


def user_name(number: int) -> str:
    return f"user{number:07d}"


@dataclass
class Population:
    """A source of people and their events; the same seed and the same calls give the same ones."""

    seed: int = 7
    events_each: float = 5.0
    fuse: Any = field(default_factory=lambda: load_fusion(None, "learned").fuse)
    _offset: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        common = rng.normal(size=EMBEDDING_DIM)
        own = unit(rng.normal(size=(len(_FIRST), EMBEDDING_DIM)))
        self._directions = unit(own + _SHARED * unit(common))

    def events(
        self, users: npt.NDArray[np.int64], each: npt.NDArray[np.int64], until_us: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any]]:
        """Place among ``users`` and EVENT_DTYPE of ``each[i]`` events of user i, in the 120 days before."""
        rng = np.random.default_rng([self.seed, int(users[0]), self._offset])
        at = np.repeat(np.arange(len(users)), each)
        n = len(at)
        events = np.zeros(n, EVENT_DTYPE)
        category = self._tastes(users)[at, rng.integers(0, 4, n)]
        modality = rng.choice(3, n, p=[0.45, 0.3, 0.25])
        events["event_time_us"] = until_us - (rng.exponential(25, n) % 120 * DAY_US).astype(np.int64)
        events["record_time_us"] = until_us
        events["topic_key"] = modality.astype(np.uint64) + np.uint64(1)
        events["partition"] = users[at] % 8
        events["offset"] = self._offset + np.arange(n)
        events["event_key"] = rng.integers(1, 1 << 63, n)
        events["content_key"] = rng.integers(1, 1 << 63, n)
        events["modality"] = modality
        events["lang"] = np.where(modality == Modality.IMAGE, 3, users[at] % 3 // 2)
        events["tag"] = NO_TAG
        events["tag"][:, 0] = _CHILDREN[category, rng.integers(0, _CHILDREN.shape[1], n)]
        events["tag_score"][:, 0] = rng.uniform(0.5, 1, n)
        events["sentiment"] = np.where(modality == Modality.TEXT, rng.uniform(-0.6, 1, n), np.nan)
        events["aspect_mask"] = np.where(modality == Modality.TEXT, 1 << rng.integers(0, 12, n), 0)
        vectors = self._directions[category] + rng.normal(size=(n, EMBEDDING_DIM)) * (0.6 / 8)
        events["embedding"] = unit(vectors)
        self._offset += n
        return at, events

    def _tastes(self, users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[n, 4]: first-level categories, those liked most more often."""
        rng = np.random.default_rng([self.seed, int(users[0]), 1 << 40])
        liked = rng.integers(0, len(_FIRST), (len(users), 4))
        how_many = rng.integers(1, 5, len(users))
        return np.where(np.arange(4) < how_many[:, None], liked, liked[:, :1])

    def people(
        self, users: npt.NDArray[np.int64], until_us: int = NOW_US
    ) -> tuple[States, Sequence[EncodedEvent]]:
        """States of new users after their first events, and those events."""
        rng = np.random.default_rng([self.seed, int(users[0]), 1 << 41])
        each = 1 + rng.poisson(self.events_each - 1, len(users))
        return self.more(empty_states(len(users), SPACES), users, each, until_us)

    def more(
        self, states: States, users: npt.NDArray[np.int64], each: npt.NDArray[np.int64], until_us: int
    ) -> tuple[States, Sequence[EncodedEvent]]:
        """States after ``each[i]`` more events of user i, and those events."""
        at, events = self.events(users, each, until_us)
        folded = fold(states, at, events, POLICY, until_us).states
        return folded, encoded(users[at], events)

    def fused(self, states: States) -> npt.NDArray[np.float32]:
        vectors: npt.NDArray[np.float32] = self.fuse(*fusion_inputs(states, POLICY))
        return vectors


def encoded(users: npt.NDArray[np.int64], events: npt.NDArray[Any]) -> list[EncodedEvent]:
    """Events as they cross the shuffle."""
    raw, size = events.tobytes(), EVENT_DTYPE.itemsize
    topics = ("reviews", "images", "voices")
    return [
        EncodedEvent(
            user_name(user), "bench", f"{offset:x}", topics[modality], "{}", raw[i * size : (i + 1) * size]
        )
        for i, (user, offset, modality) in enumerate(
            zip(users.tolist(), events["offset"].tolist(), events["modality"].tolist(), strict=True)
        )
    ]


def chunks(n: int, size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def percentiles_ms(call: Callable[[int], object], times: int, warm_up: int = 10) -> dict[str, float]:
    """p50 and p99 of ``times`` calls, in milliseconds."""
    taken = []
    for i in range(times + warm_up):
        start = time.perf_counter()
        call(i)
        taken.append((time.perf_counter() - start) * 1e3)
    p50, p99 = np.percentile(taken[warm_up:], (50, 99))
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


@contextmanager
def measured(report: dict[str, Any]) -> Iterator[None]:
    """Adds ``seconds``, and the greatest resident memory on the way, ``peak_rss_mb``."""
    me, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], me.memory_info().rss)

    peak[0] = me.memory_info().rss
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    try:
        yield
    finally:
        report["seconds"] = round(time.perf_counter() - start, 2)
        done.set()
        watcher.join()
        report["peak_rss_mb"] = peak[0] >> 20

"""The fold again, slow and plain: one user, one event at a time, sums computed from all events kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.fold.fold import FoldPolicy
from features.fold.outcome import Outcome
from features.schema import EMBEDDING_DIM, HEAD_DTYPE, NO_TAG, SOURCE_DTYPE, WINDOW_DTYPE, Kind

Source = tuple[int, int]


@dataclass
class PlainUser:
    """One user's state as sets and lists."""

    policy: FoldPolicy
    floor: dict[Source, int] = field(default_factory=dict)
    top: dict[Source, int] = field(default_factory=dict)
    gone: dict[Source, int] = field(default_factory=dict)
    window: dict[tuple[Source, int], tuple[int, int, int]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)
    erased: bool = False
    incarnation: int = 0
    version: int = 0
    shortened: int = 0

    def fold(self, events: list[Any]) -> list[Outcome]:
        """Outcomes in the order given."""
        order = sorted(range(len(events)), key=lambda i: _rank(events[i]))
        outcomes = {i: self._meet(events[i]) for i in order}
        self._close()
        return [outcomes[i] for i in range(len(events))]

    def _meet(self, e: Any) -> Outcome:
        source, offset = (int(e["topic_key"]), int(e["partition"])), int(e["offset"])
        for table in (self.floor, self.top, self.gone):
            table.setdefault(source, -1)
        content = e["kind"] == Kind.CONTENT
        if content and (self.erased or offset <= self.gone[source]):
            if offset > self.gone[source]:
                for table in (self.floor, self.top, self.gone):
                    table[source] = max(table[source], offset)
            return Outcome.ABSORBED
        if (source, offset) in self.window:
            return Outcome.SEEN
        if offset <= self.floor[source]:
            return Outcome.BELOW_FLOOR
        key, low = int(e["event_key"]), int(e["content_key"]) & 0xFFFFFFFF
        same = [self.window[at] for at in sorted(self.window) if self.window[at][0] == key]
        self.window[source, offset] = (key, low, int(e["kind"]))
        self.top[source] = max(self.top[source], offset)
        if same:
            return Outcome.DUPLICATE if same[0][1] == low else Outcome.CONFLICT
        if content:
            self.kept.append(e)
            self.version += 1
            return Outcome.APPLIED
        self._control(Kind(int(e["kind"])))
        return Outcome.CONTROL

    def _control(self, kind: Kind) -> None:
        if kind == Kind.ERASE:
            self.erased = True
            self.kept = []
            self.window = {at: entry for at, entry in self.window.items() if entry[2] != Kind.CONTENT}
            self.floor, self.gone = dict(self.top), dict(self.top)
        elif self.erased:
            self.erased = False
            self.incarnation += 1

    def _close(self) -> None:
        for source, top in self.top.items():
            oldest = top - self.policy.window_offsets
            self.floor[source] = max(self.floor[source], oldest)
            for at in [at for at in self.window if at[0] == source]:
                lowest = self.floor[source] if self.window[at][2] == Kind.CONTENT else oldest
                if at[1] <= lowest:
                    del self.window[at]
        descending = {s: sorted((o for t, o in self.window if t == s), reverse=True) for s in self.top}
        in_turn = sorted(
            (place, s, o) for s, offsets in descending.items() for place, o in enumerate(offsets)
        )
        for _, source, offset in in_turn[self.policy.window_entries :]:
            del self.window[source, offset]
            self.floor[source] = max(self.floor[source], offset)
            self.shortened += 1

    def sources(self) -> np.ndarray:
        rows = [(s[0], self.floor[s], self.top[s], self.gone[s], s[1], 0) for s in sorted(self.top)]
        return np.array(rows, SOURCE_DTYPE)

    def entries(self) -> np.ndarray:
        place = {s: i for i, s in enumerate(sorted(self.top))}
        rows = [
            (offset, key, low, place[source], kind)
            for (source, offset), (key, low, kind) in sorted(self.window.items())
        ]
        return np.array(rows, WINDOW_DTYPE)

    def head(self) -> Any:
        """HEAD_DTYPE scalar without revision, created and spaces."""
        head = np.zeros((), HEAD_DTYPE)
        head["flags"], head["incarnation"], head["version"] = self.erased, self.incarnation, self.version
        if not self.kept:
            return head
        times = [int(e["event_time_us"]) for e in self.kept]
        head["first_event_us"], head["last_event_us"] = min(times), max(times)
        for h, half_life_s in enumerate(self.policy.half_lives_s):
            self._sums(head, h, half_life_s * 1_000_000, max(times))
        for e in self.kept:
            head["languages"][e["lang"]] += 1
        for part, slots_of in (("tag", _tags), ("aspect", _aspects)):
            supporting: dict[int, list[Any]] = {}
            for e in self.kept:
                for slot in slots_of(e):
                    supporting.setdefault(slot, []).append(e)
            for slot, events in supporting.items():
                self._evidence(head[part][slot], events)
        return head

    def _sums(self, head: Any, h: int, half_life_us: int, newest_us: int) -> None:
        for m in range(4):
            mine = sorted((e for e in self.kept if e["modality"] == m), key=_age)
            if not mine:
                continue
            newest, part = mine[-1], head["modality"][m]
            part["newest"], part["newest_us"] = newest["embedding"], newest["event_time_us"]
            part["newest_key"], part["count"] = newest["event_key"], len(mine)
            total = np.zeros(EMBEDDING_DIM)
            for e in mine:
                weight = _weight(e, half_life_us, int(newest["event_time_us"]))
                part["weight"][h] += weight
                total += weight * e["embedding"].astype(np.float64)
            part["sum"][h] = total
        for e in self.kept:
            weight = _weight(e, half_life_us, newest_us)
            if not np.isnan(e["sentiment"]):
                head["sentiment_weight"][h] += weight
                head["sentiment_sum"][h] += weight * e["sentiment"]
            for slot, score in _tags(e).items():
                head["tag"]["weight"][slot, e["modality"], h] += score * weight
            for slot, opinion in _aspects(e).items():
                head["aspect"]["weight"][slot, h] += weight
                head["aspect"]["sentiment"][slot, h] += weight * opinion

    @staticmethod
    def _evidence(part: Any, events: list[Any]) -> None:
        for place, e in enumerate(sorted(events, key=_age, reverse=True)[:2]):
            part["evidence_us"][place], part["evidence_key"][place] = e["event_time_us"], e["event_key"]


def _rank(e: Any) -> tuple[int, ...]:
    names = ("topic_key", "partition", "offset", "event_key", "content_key")
    return (int(e["kind"] == Kind.CONTENT), *(int(e[name]) for name in names))


def _age(e: Any) -> tuple[int, int]:
    return int(e["event_time_us"]), int(e["event_key"])


def _weight(e: Any, half_life_us: int, newest_us: int) -> float:
    k = -(-newest_us // half_life_us)
    return float(2.0 ** ((int(e["event_time_us"]) - k * half_life_us) / half_life_us))


def _tags(e: Any) -> dict[int, float]:
    tags: dict[int, float] = {}
    for slot, score in zip(e["tag"].tolist(), e["tag_score"].tolist(), strict=True):
        if slot != NO_TAG and score > 0:
            tags.setdefault(slot, score)
    return tags


def _aspects(e: Any) -> dict[int, int]:
    mask = int(e["aspect_mask"])
    return {slot: opinion for slot, opinion in enumerate(e["aspect_sentiment"].tolist()) if mask >> slot & 1}

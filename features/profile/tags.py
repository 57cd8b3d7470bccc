"""Tags and aspects of states, readable and with evidence.

Weights are as of the user's newest event, so that they are a function of the state alone. A tag of the
second level counts for its parent too. Evidence is the newest two supporting events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.fold.decayed_sums import group_sums
from features.fold.packed_state import Array, starts_of
from features.fold.replay_window import group_starts
from features.schema import ASPECTS
from features.taxonomy import Category, Taxonomy

TOP: Final = 10
"""Most tags that a profile lists."""
SHARE_MIN: Final = 0.01
"""Tags below this share of their level are left out."""
_REMEMBERING: Final = 1  # index of the longer half-life
_PARTS: Final = 10_000
_DECIMALS: Final = pa.array([repr(i / _PARTS) for i in range(-_PARTS, _PARTS + 1)], pa.string())

ASPECTS_ZH: Final = (
    "价格", "质量", "版型", "物流", "服务", "外观", "材质", "包装", "性能", "口味", "位置", "清洁",
)  # fmt: skip
"""Chinese names of ASPECTS, in their order."""


@dataclass(frozen=True, slots=True)
class TagTable:
    """The tags of n users, one row a tag: each user's strongest first."""

    start: Array  # int64 [n + 1]: user i has rows start[i] to start[i + 1]
    slot: Array
    level: Array  # 1 or 2
    weight: Array  # share 0..1 of its level
    confidence: Array  # 0..1
    share: Array  # float64 [rows, 3]: of text, image and voice in its weight
    evidence_us: Array  # int64 [rows, 2]: times of the newest two supporting events; 0: none
    evidence_key: Array


def age_factor(newest_us: Array, half_life_s: Array) -> Array:
    """float64 [..., 2]: what turns a decayed sum on its grid into one as of ``newest_us``; 1 to 2.

    ``newest_us`` is int64 [n] or [n, m], ``half_life_s`` uint32 [n, 2]; 0 in states never folded, whose sums
    are zero.
    """
    step = np.maximum(half_life_s.astype(np.int64), 1) * 1_000_000
    if newest_us.ndim > 1:
        step = step[:, None]
    to_grid = -newest_us[..., None] % step
    factor: Array = np.exp2(to_grid / step)
    return factor


def top_tags(head: Array, taxonomy: Taxonomy, half_certain_events: float) -> TagTable:
    """The strongest tags of each head, both levels together.

    ``half_certain_events``: decayed number of sure events at which the confidence in a tag is one half.
    """
    parent = taxonomy.parents
    state = head["tag"]
    met = np.nonzero(state["evidence_us"][:, : len(parent), 0])  # a user has met few of all slots
    user, slot, source, start = _families(met[0], met[1], parent)
    age = age_factor(head["last_event_us"], head["half_life_s"])[:, _REMEMBERING]
    sums = state["weight"][..., _REMEMBERING][met] * age[met[0], None]  # float64 [slots met, modalities]
    by_modality = group_sums(sums[source], start)
    weight = by_modality.sum(axis=1).round(4)  # ties are ties, whatever the order of events
    level = user * 2 + (parent[slot] >= 0)
    total = np.bincount(level, weight, 2 * len(head))[level]
    part = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
    order = np.lexsort((-weight, user))
    place = np.arange(len(order)) - starts_of(np.bincount(user, minlength=len(head)))[user]
    top = order[(place < TOP) & (part[order] >= SHARE_MIN)]
    own = by_modality[top]
    row, entry = _members(start, len(source), top)
    support = tuple(part[source[entry]] for part in met)
    return TagTable(
        starts_of(np.bincount(user[top], minlength=len(head))),
        slot[top],
        1 + (parent[slot[top]] >= 0),
        part[top].round(4),
        (1 - np.exp2(-weight[top] / half_certain_events)).round(3),
        (own[:, :3] / own.sum(axis=1, keepdims=True)).round(3),
        *_evidence(row, state["evidence_us"][support], state["evidence_key"][support], len(top)),
    )


def _families(user: Array, slot: Array, parent: Array) -> tuple[Array, Array, Array, Array]:
    """The tags of users who have met slots: every slot, and the parents, for which their children count.

    User and slot of each tag, sorted; then the places of the slots that count for it, those of one tag after
    those of another, and where each tag's begin.
    """
    below = np.flatnonzero(parent[slot] >= 0)
    source = np.concatenate([np.arange(len(slot)), below])
    user, slot = user[source], np.concatenate([slot, parent[slot[below]]])
    order = np.lexsort((slot, user))
    user, slot, source = user[order], slot[order], source[order]
    start = group_starts(user, slot)
    return user[start], slot[start], source, start


def _members(start: Array, end: int, chosen: Array) -> tuple[Array, Array]:
    """Which of the ``chosen`` groups, and place, of all their members; groups begin at ``start``."""
    sizes = np.diff(start, append=end)[chosen]
    row = np.repeat(np.arange(len(chosen)), sizes)
    return row, np.arange(len(row)) + (start[chosen] - starts_of(sizes)[:-1])[row]


def _evidence(row: Array, us: Array, key: Array, n: int) -> tuple[Array, Array]:
    """Newest two events [n, 2] of each row, among those [members, 2] of its members; 0: none."""
    used = us > 0
    row, us, key = np.broadcast_to(row[:, None], us.shape)[used], us[used], key[used]
    order = np.lexsort((key, us, row))
    order = order[group_starts(row[order], us[order], key[order])]  # an event may carry two of the slots
    last = np.searchsorted(row[order], np.arange(n), side="right") - 1
    both = order[np.stack([last, np.maximum(last - 1, 0)], axis=1)]
    own = row[both] == np.arange(n)[:, None]
    own[:, 1] &= last > 0
    return us[both] * own, key[both] * own.astype(np.uint64)


def tags_json(tags: TagTable, taxonomy: Taxonomy) -> list[bytes]:
    """``[{id, zh, en, parent, level, weight, confidence, share, last_seen, evidence}]`` for each user.

    UTF-8. ``parent`` stands in tags of the second level alone.
    """
    items = _joined(
        _openings(taxonomy.categories).take(pa.array(tags.slot)),
        _decimals(tags.weight),
        ',"confidence":',
        _decimals(tags.confidence),
        *(',"share":{"text":', _decimals(tags.share[:, 0])),
        *(',"image":', _decimals(tags.share[:, 1])),
        *(',"voice":', _decimals(tags.share[:, 2])),
        '},"last_seen":"',
        pa.array(iso_utc(tags.evidence_us[:, 0]), pa.string()),
        '","evidence":',
        _keys_json(tags.evidence_key),
        "}",
    )
    return _lists_json(items, tags.start)


@lru_cache(maxsize=4)
def _openings(categories: tuple[Category, ...]) -> pa.Array:
    """How the JSON of each slot's tag begins."""
    texts = [
        f'{{"id":{_text(c.id)},"zh":{_text(c.zh)},"en":{_text(c.en)},'
        + (f'"parent":{_text(c.parent)},"level":2,"weight":' if c.parent else '"level":1,"weight":')
        for c in categories
    ]
    return pa.array(texts, pa.string())


def aspects_json(head: Array) -> list[bytes]:
    """UTF-8 of ``[{id, weight, sentiment, evidence}]`` for each head: weight is the share of all mentions."""
    state = head["aspect"]
    weight = state["weight"][:, :, _REMEMBERING].astype(np.float64)
    total = weight.sum(axis=1, keepdims=True)
    share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0).round(4)
    order = np.argsort(-share, axis=1, kind="stable")
    user, place = np.nonzero(np.take_along_axis(share, order, axis=1) >= SHARE_MIN)
    slot = order[user, place]
    opinion = (state["sentiment"][user, slot, _REMEMBERING] / weight[user, slot]).clip(-1, 1).round(3) + 0.0
    items = _joined(
        pa.array([f'{{"id":"{aspect}","weight":' for aspect in ASPECTS]).take(pa.array(slot)),
        _decimals(share[user, slot]),
        ',"sentiment":',
        _decimals(opinion),
        ',"evidence":',
        _keys_json(state["evidence_key"][user, slot]),
        "}",
    )
    return _lists_json(items, starts_of(np.bincount(user, minlength=len(head))))


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _joined(*parts: pa.Array | str) -> pa.Array:
    """One text of each row: its parts one after the other."""
    return pc.binary_join_element_wise(*parts, "")


def _decimals(values: Array) -> pa.Array:
    """Numbers of -1 to 1, rounded to at most four digits, as JSON writes them."""
    return _DECIMALS.take(pa.array(np.rint(values * _PARTS).astype(np.int64) + _PARTS))


def _lists_json(items: pa.Array, start: Array) -> list[bytes]:
    """Not ``str``: both who serves it and who keeps it want UTF-8 again."""
    lists = pa.ListArray.from_arrays(pa.array(start, pa.int32()), items)
    texts: list[bytes] = _joined("[", pc.binary_join(lists, ","), "]").cast(pa.binary()).to_pylist()
    return texts


def _keys_json(keys: Array) -> pa.Array:
    """Event keys [rows, 2] as JSON lists of 16 hex digits; key 0: none."""
    digits = keys.astype(">u8").tobytes().hex().encode()
    starts = pa.py_buffer(np.arange(0, len(digits) + 1, 16, dtype=np.int32))
    each = pa.StringArray.from_buffers(keys.size, starts, pa.py_buffer(digits))
    one, two = each[::2], each[1::2]
    return pc.if_else(
        pa.array(keys[:, 1] != 0), _joined('["', one, '","', two, '"]'), _joined('["', one, '"]')
    )


def iso_utc(time_us: Array) -> list[str]:
    """Times in whole seconds, as in ``2026-01-31T08:00:00Z``.

    >>> iso_utc(np.array([1_000_000]))
    ['1970-01-01T00:00:01Z']
    """
    seconds = time_us.astype("datetime64[us]").astype("datetime64[s]")
    written: list[str] = np.datetime_as_string(seconds, timezone="UTC").tolist()
    return written

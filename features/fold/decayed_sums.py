"""The decayed content of states: sums, counts, newest events and evidence.

Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, ICDE 2009) with the landmark on the half-life's
grid: moving it multiplies by a power of two, which is exact in float32 down to 2^-126. Sums are added up
in float64 and kept in float32, so their value depends on order and batching, by less than 1e-5 of the
weight beside them (7e-6 after 20,000 single writes of one day); everything else is exact.
"""

from __future__ import annotations

from math import prod

import numpy as np
from scipy.sparse import csr_array

from features.fold.packed_state import Array
from features.fold.replay_window import group_starts
from features.schema import ASPECTS, NO_TAG, TAGS_PER_EVENT

_US = 1_000_000
_NEVER = -2000  # a shift that leaves nothing of a float64


def grid(newest_us: Array, half_lives_s: tuple[int, int]) -> Array:
    """int64 [..., 2]: index of the first point of each half-life's grid at or after a time.

    >>> grid(np.array([864_000_000_000, 864_000_000_001]), (864_000, 3_456_000)).tolist()
    [[1, 1], [2, 1]]
    """
    step = np.array(half_lives_s, np.int64) * _US
    index: Array = -(-np.asarray(newest_us, np.int64)[..., None] // step)
    return index


def decay(time_us: Array, index: Array, half_lives_s: tuple[int, int]) -> Array:
    """float64 [..., 2]: 2^((t - k·h) / h), the weight at grid index k of an event of time t."""
    step = np.array(half_lives_s, np.int64) * _US
    weight: Array = np.exp2((np.asarray(time_us)[..., None] - index * step) / step)
    return weight


def rescaled(value: Array, shift: Array) -> Array:
    """float64: sums moved along the grid by -shift points: exact."""
    moved: Array = value * np.ldexp(1.0, np.maximum(shift, _NEVER).astype(np.int32))
    return moved


def group_sums(values: Array, first: Array) -> Array:
    """float64: sums along axis 0 of groups that begin at ``first``.

    >>> group_sums(np.array([[1.0], [2.0], [4.0]]), np.array([0, 2])).tolist()
    [[3.0], [4.0]]
    """
    rows = values.reshape(len(values), prod(values.shape[1:]))
    sums: Array = _adding(np.ones(len(values)), first) @ rows
    return sums.reshape(len(first), *values.shape[1:])


def _adding(weight: Array, first: Array) -> csr_array:
    """What rows are multiplied by to become their groups' weighted sums, each added up from its first row on.

    (``np.add.reduceat`` is slow for many short groups, and wants the weighted rows written down.)
    """
    n = len(weight)
    parts = weight, np.arange(n), np.append(first, n)
    return csr_array(parts, shape=(len(first), n))  # type: ignore[no-untyped-call]


def add_events(head: Array, user: Array, events: Array, half_lives_s: tuple[int, int]) -> None:
    """Add content events (EVENT_DTYPE [e], sorted by user) to the heads of their users, in place."""
    _add_modalities(head, user, events, half_lives_s)
    first = group_starts(user)
    touched = user[first]
    time_us = events["event_time_us"]
    _move_users(head, touched, np.maximum.reduceat(time_us, first), half_lives_s)
    oldest = np.minimum.reduceat(time_us, first)
    known = head["first_event_us"][touched]
    head["first_event_us"][touched] = np.where(known > 0, np.minimum(known, oldest), oldest)
    head["version"][touched] += np.diff(first, append=len(user)).astype(np.uint64)
    np.add.at(head["languages"], (user, events["lang"]), np.uint32(1))
    weight = decay(time_us, grid(head["last_event_us"][user], half_lives_s), half_lives_s)
    judged = ~np.isnan(events["sentiment"])
    sentiment = np.where(judged, events["sentiment"], 0.0).astype(np.float64)
    head["sentiment_weight"][touched] += group_sums(weight * judged[:, None], first)
    head["sentiment_sum"][touched] += group_sums(weight * sentiment[:, None], first)
    _add_tags(head["tag"], user, events, weight)
    _add_aspects(head["aspect"], user, events, weight)


def _add_modalities(head: Array, user: Array, events: Array, half_lives_s: tuple[int, int]) -> None:
    modality = events["modality"].astype(np.int64)
    time_us, key = events["event_time_us"], events["event_key"]
    order = np.lexsort((key, time_us, modality, user))
    first = group_starts(user[order], modality[order])
    newest = order[np.append(first[1:], len(order)) - 1]
    where = user[newest], modality[newest]
    state = head["modality"]
    had_us, had_key = state["newest_us"][where], state["newest_key"][where]
    newest_us = np.maximum(had_us, time_us[newest])
    index = grid(newest_us, half_lives_s)
    shift = grid(had_us, half_lives_s) - index
    sizes = np.diff(first, append=len(order))
    weight = decay(time_us[order], np.repeat(index, sizes, axis=0), half_lives_s)
    vectors = events["embedding"][order].astype(np.float64)
    sums = np.stack([_adding(one, first) @ vectors for one in weight.T.copy()], axis=1)
    state["sum"][where] = rescaled(state["sum"][where], shift[:, :, None]) + sums
    state["weight"][where] = rescaled(state["weight"][where], shift) + group_sums(weight, first)
    state["count"][where] += sizes.astype(np.uint32)
    later = _later(time_us[newest], key[newest], had_us, had_key)
    where = where[0][later], where[1][later]
    state["newest_us"][where] = time_us[newest[later]]
    state["newest_key"][where] = key[newest[later]]
    state["newest"][where] = events["embedding"][newest[later]]


def _move_users(head: Array, user: Array, newest_us: Array, half_lives_s: tuple[int, int]) -> None:
    """Set the newest event time of users and move all that is on their grid along with it."""
    had_us = head["last_event_us"][user]
    newest_us = np.maximum(had_us, newest_us)
    head["last_event_us"][user] = newest_us
    shift = grid(had_us, half_lives_s) - grid(newest_us, half_lives_s)
    moved = (shift != 0).any(axis=1) & (had_us > 0)
    user, shift = user[moved], shift[moved]
    if not len(user):
        return
    for name in ("sentiment_weight", "sentiment_sum"):
        head[name][user] = rescaled(head[name][user], shift)
    for part, name in (("tag", "weight"), ("aspect", "weight"), ("aspect", "sentiment")):
        used, slot = np.nonzero(head[part]["evidence_us"][user, :, 0])
        sums, where, by = head[part][name], (user[used], slot), shift[used]
        sums[where] = rescaled(sums[where], by[:, None, :] if sums.ndim == 4 else by)


def _add_tags(state: Array, user: Array, events: Array, weight: Array) -> None:
    tag, score = events["tag"], events["tag_score"]
    used = (tag != NO_TAG) & (score > 0)
    for later in range(1, TAGS_PER_EVENT):  # a tag named twice counts once
        used[:, later] &= (tag[:, :later] != tag[:, later : later + 1]).all(axis=1)
    event, place = np.nonzero(used)
    if not len(event):
        return
    slot = tag[event, place].astype(np.int64)
    added = np.zeros((len(event), *state["weight"].shape[2:]))
    scored = score[event, place].astype(np.float64)[:, None] * weight[event]
    added[np.arange(len(event)), events["modality"][event]] = scored
    us, key = events["event_time_us"][event], events["event_key"][event]
    order, first, where = _grouped(user[event], slot, us, key)
    state["weight"][where] += group_sums(added[order], first)
    _add_evidence(state, where, us[order], key[order], first)


def _add_aspects(state: Array, user: Array, events: Array, weight: Array) -> None:
    event, slot = np.nonzero((events["aspect_mask"][:, None] >> np.arange(len(ASPECTS))) & 1)
    if not len(event):
        return
    us, key = events["event_time_us"][event], events["event_key"][event]
    order, first, where = _grouped(user[event], slot, us, key)
    added = weight[event[order]]
    opinion = events["aspect_sentiment"][event, slot][order]
    state["weight"][where] += group_sums(added, first)
    state["sentiment"][where] += group_sums(added * opinion[:, None], first)
    _add_evidence(state, where, us[order], key[order], first)


def _grouped(user: Array, slot: Array, us: Array, key: Array) -> tuple[Array, Array, tuple[Array, Array]]:
    """Order by (user, slot, time, key), where its groups begin, and the (user, slot) of each."""
    order = np.lexsort((key, us, slot, user))
    first = group_starts(user[order], slot[order])
    return order, first, (user[order[first]], slot[order[first]])


def _add_evidence(state: Array, where: tuple[Array, Array], us: Array, key: Array, first: Array) -> None:
    """Newest two events of each group (sorted, beginning at ``first``) and the two that the state has."""
    last = np.append(first[1:], len(us)) - 1
    both = np.stack([last, np.maximum(last - 1, first)], axis=1)
    us, key = us[both], key[both]
    us[last == first, 1] = key[last == first, 1] = 0
    had = state["evidence_us"][where], state["evidence_key"][where]
    state["evidence_us"][where], state["evidence_key"][where] = newest_two(us, key, *had)


def newest_two(us: Array, key: Array, other_us: Array, other_key: Array) -> tuple[Array, Array]:
    """The newest two out of two pairs [..., 2] of (time, key), newest first; (0, 0) = none.

    >>> no = np.array([0, 0])
    >>> newest_two(np.array([9, 4]), np.array([1, 1]), np.array([7, 0]), no)[0].tolist()
    [9, 7]
    """
    ahead = _later(us[..., 0], key[..., 0], other_us[..., 0], other_key[..., 0])
    win_us, win_key = np.where(ahead[..., None], us, other_us), np.where(ahead[..., None], key, other_key)
    out_us, out_key = (
        np.where(ahead, other_us[..., 0], us[..., 0]),
        np.where(ahead, other_key[..., 0], key[..., 0]),
    )
    second = _later(win_us[..., 1], win_key[..., 1], out_us, out_key)
    win_us[..., 1] = np.where(second, win_us[..., 1], out_us)
    win_key[..., 1] = np.where(second, win_key[..., 1], out_key)
    return win_us, win_key


def _later(us: Array, key: Array, other_us: Array, other_key: Array) -> Array:
    later: Array = (us > other_us) | ((us == other_us) & (key > other_key))
    return later


CONTENT_FIELDS = (
    "first_event_us",
    "last_event_us",
    "languages",
    "sentiment_weight",
    "sentiment_sum",
    "modality",
    "tag",
    "aspect",
)
"""Fields of a head that speak of a person; an erase zeroes them."""


def wipe(head: Array, user: Array | int) -> None:
    """Zero all content of these users (an index, or bool [n]), in place."""
    for name in CONTENT_FIELDS:
        head[name][user] = np.zeros((), head.dtype[name].base)


def parts_of_users(modality: Array, mask: Array, half_lives_s: tuple[int, int]) -> Array:
    """float32 [n, 4, 3, 64]: what each modality adds to its user; see ``fold.fusion_inputs``."""
    newest_us = np.where(mask, modality["newest_us"], 0)
    index = grid(newest_us, half_lives_s)
    # sums of one user's modalities stand on different points of the grid: move them to the last one
    shift = index.max(axis=1, keepdims=True) - index
    weight = rescaled(modality["weight"], -shift) * mask[:, :, None]
    total = np.maximum(weight.sum(axis=1), np.finfo(np.float64).tiny)[:, None, :, None]
    means = rescaled(modality["sum"], -shift[..., None]) * mask[:, :, None, None] / total
    behind_us = newest_us.max(axis=1, keepdims=True) - newest_us
    fresh = np.exp2(-behind_us / (half_lives_s[0] * _US)) * mask
    newest = modality["newest"].astype(np.float64) * fresh[..., None]
    parts: Array = np.concatenate([means, newest[:, :, None]], axis=2).astype(np.float32)
    return parts


def unit(vectors: Array) -> Array:
    """float32: rows scaled to length one; zero rows stay zero.

    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).round(1).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    exact = vectors.astype(np.float64)
    length = np.sqrt(np.square(exact).sum(axis=-1, keepdims=True))
    scaled: Array = np.divide(exact, length, out=np.zeros_like(exact), where=length > 0)
    return scaled.astype(np.float32)

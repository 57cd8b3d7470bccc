"""How far two sets of vectors of one space lie apart: centroids, lengths, spread and neighbourhoods.

Pure numpy. Chance is measured, not assumed: the same vectors dealt at random into two sets of the same
sizes give the shift that means nothing (a permutation test; Good, *Permutation Tests*, 2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FEWEST: Final = 10
"""Vectors that each side needs: below, a figure would say nothing."""
NEIGHBOURS: Final = 10
_DEALS: Final = 200
_CHUNK: Final = 512  # rows of the similarity matrix held at once

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Drift:
    """The distance between vectors before and after."""

    before: int  # usable vectors
    after: int
    shift: float  # cosine distance of the two centroids, 0..2
    chance: float  # 95th percentile of the shift between random halves
    norm_before: float  # median length of a vector; 1 where an encoder keeps its promise
    norm_after: float
    focus_before: float  # length of the mean of unit vectors: 0 all directions, 1 a single one
    focus_after: float
    churn: float | None  # 0..1: mean share of the nearest neighbours that changed; None: not paired

    @property
    def moved(self) -> bool:
        """Whether the centroid moved further than chance explains."""
        return self.shift > self.chance


def measure_drift(before: Vectors, after: Vectors, *, paired: bool = False, seed: int = 0) -> Drift | None:
    """The drift from ``before`` to ``after``, float [n, d] and [m, d]; None with too few usable vectors.

    Zero and non-finite vectors stand for nothing and are left out. ``paired``: row i of both is the same
    user, and neighbours are compared too. Time and memory: O(n²·d) and O(n·d) if paired, else O(n·d).
    """
    if paired:
        both = _usable(before) & _usable(after)
        before, after = before[both], after[both]
    else:
        before, after = before[_usable(before)], after[_usable(after)]
    if min(len(before), len(after)) < FEWEST:
        return None
    first, second = _unit(before), _unit(after)
    return Drift(
        before=len(before),
        after=len(after),
        shift=float(_cosine_distance(first.mean(axis=0), second.mean(axis=0))),
        chance=_shift_by_chance(first, second, np.random.default_rng(seed)),
        norm_before=float(np.median(np.linalg.norm(before, axis=1))),
        norm_after=float(np.median(np.linalg.norm(after, axis=1))),
        focus_before=float(np.linalg.norm(first.mean(axis=0))),
        focus_after=float(np.linalg.norm(second.mean(axis=0))),
        churn=_churn(first, second) if paired else None,
    )


def _usable(vectors: Vectors) -> npt.NDArray[np.bool_]:
    usable: npt.NDArray[np.bool_] = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
    return usable


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit: npt.NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return unit


def _cosine_distance(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Any:
    """Along the last axis; 0 for a centroid that cancels out, which has no direction."""
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    cosine = np.divide((a * b).sum(axis=-1), lengths, out=np.ones_like(lengths), where=lengths > 1e-12)
    return np.clip(1 - cosine, 0, 2)


def _shift_by_chance(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], rng: np.random.Generator
) -> float:
    pool = np.concatenate([first, second])
    dealt = np.zeros((_DEALS, len(pool)), np.float32)
    rows = np.arange(_DEALS)[:, None]
    dealt[rows, rng.random(dealt.shape).argpartition(len(first) - 1, axis=1)[:, : len(first)]] = 1
    one = dealt @ pool
    return float(np.quantile(_cosine_distance(one, pool.sum(axis=0) - one), 0.95))


def _churn(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    k = min(NEIGHBOURS, len(first) // 4)  # of few users, everybody is a neighbour of everybody
    kept = 0
    for start in range(0, len(first), _CHUNK):
        now, then = (_nearest(side, start, k) for side in (first, second))
        kept += int((now[:, :, None] == then[:, None, :]).sum())
    return 1 - kept / (len(first) * k)


def _nearest(vectors: npt.NDArray[np.float64], start: int, k: int) -> npt.NDArray[np.intp]:
    """[rows, k]: the k nearest others of the rows from ``start``."""
    near = vectors[start : start + _CHUNK] @ vectors.T
    near[np.arange(len(near)), start + np.arange(len(near))] = -np.inf
    return np.argpartition(-near, k - 1, axis=1)[:, :k]

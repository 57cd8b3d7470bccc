"""How sure a figure is: bootstrap over groups, paired tests by sign flips, McNemar, Holm's correction.

Samples of one person, speaker or title are not independent: wherever ``groups`` is given, whole groups
are drawn, never single samples (Field and Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest  # type: ignore[attr-defined]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

REPEATS: Final = 1000
LEVEL: Final = 0.95
_CHUNK: Final = 64
"""Draws made at once: 64 x 10,000 groups are 5 MB."""


class Estimate(NamedTuple):
    """A figure and the percentile interval that LEVEL of its bootstrap draws fall into."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """Mean of a - b on the same samples, its interval, and the two-sided p value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def mean_estimate(
    values: npt.ArrayLike, groups: npt.ArrayLike | None = None, repeats: int = REPEATS, seed: int = 0
) -> Estimate:
    """Mean of ``values`` [n] with its interval.

    >>> mean_estimate([1.0, 1.0, 1.0])
    Estimate(value=1.0, low=1.0, high=1.0)
    """
    sums, counts = _by_group(np.asarray(values, np.float64), groups)
    if not len(sums):
        return Estimate(float("nan"), float("nan"), float("nan"))
    drawn = np.concatenate([(w @ sums) / (w @ counts) for w in _draws(len(sums), repeats, seed)])
    return Estimate(float(sums.sum() / counts.sum()), *_interval(drawn))


def macro_f1_estimate(
    said: Sequence[str] | npt.NDArray[Any],
    wanted: Sequence[str] | npt.NDArray[Any],
    groups: npt.ArrayLike | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Estimate:
    """Mean F1 over the labels that occur in ``wanted``, with its interval."""
    names, codes = np.unique(np.concatenate([np.asarray(said), np.asarray(wanted)]), return_inverse=True)
    k, n = len(names), len(np.asarray(said))
    cells = codes[n:] * k + codes[:n]
    place = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]

    def score(weights: Floats | None) -> float:
        table = np.bincount(cells, weights, minlength=k * k).reshape(k, k)
        truly, called = table.sum(1), table.sum(0)
        there = truly > 0
        return float(np.mean(2 * np.diag(table)[there] / (truly + called)[there]))

    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"))
    drawn = [score(w[place]) for ws in _draws(int(place.max()) + 1, repeats, seed) for w in ws]
    return Estimate(score(None), *_interval(np.array(drawn)))


def paired(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Paired:
    """Is the mean of ``a`` [n] another than that of ``b`` [n], sample by sample?

    The interval is a bootstrap over groups, the p value a permutation test that flips the sign of whole
    groups' differences (the smallest it can be is 1 / (repeats + 1)).

    >>> paired([1.0, 0.0, 1.0], [1.0, 0.0, 1.0]).p
    1.0
    """
    gap = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    estimate = mean_estimate(gap, groups, repeats, seed)
    sums, _ = _by_group(gap, groups)
    rng = np.random.default_rng(seed + 1)
    extreme, seen = 0, abs(float(sums.sum())) - 1e-9
    for start in range(0, repeats, _CHUNK):
        signs = rng.choice((-1.0, 1.0), (min(_CHUNK, repeats - start), len(sums)))
        extreme += int((np.abs(signs @ sums) >= seen).sum())
    return Paired(*estimate, (1 + extreme) / (1 + repeats))


def mcnemar(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Exact p value that two classifiers err equally often, from what each got right (bool [n]).

    McNemar 1947, as a binomial test on the samples that only one of the two got right.

    >>> mcnemar([True] * 8, [False] * 8) < 0.01
    True
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in their order.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def _by_group(values: Floats, groups: npt.ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and number of the values of each group."""
    if groups is None:
        return values, np.ones(len(values))
    place = np.unique(np.asarray(groups), return_inverse=True)[1]
    return np.bincount(place, values).astype(np.float64), np.bincount(place).astype(np.float64)


def _draws(n: int, repeats: int, seed: int) -> Iterator[Floats]:
    """``repeats`` times how often each of n groups is drawn, in chunks [at most _CHUNK, n]."""
    rng = np.random.default_rng(seed)
    for start in range(0, repeats, _CHUNK):
        chunk = min(_CHUNK, repeats - start)
        drawn = rng.integers(n, size=(chunk, n)) + np.arange(chunk)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=chunk * n).reshape(chunk, n).astype(np.float64)


def _interval(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)

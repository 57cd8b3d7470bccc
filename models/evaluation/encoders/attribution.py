"""What in a sample made a model say what it said, and whether that is so.

*Occlusion* hides one region after another and reads how much the score falls: it needs no gradients and
works on every encoder (Zeiler and Fergus 2014). *Integrated gradients* share the difference between the
score of a sample and that of a blank one among its numbers, completely (Sundararajan et al. 2017). The
*deletion test* hides what was marked, most important first: the score must fall faster than when regions
are hidden at random, or the marks mean nothing (Petsiuk et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

Score = Callable[[Sequence[Any]], Floats]
"""n samples → the score [n] of what was said of the whole one."""
Hide = Callable[[Bools], Any]
"""Regions to hide, bool [k] → the sample without them."""

FRACTIONS: Final = (0.0, 0.1, 0.2, 0.3, 0.5)


def integrated_gradients(
    score: Callable[[Tensor], Tensor], sample: Tensor, blank: Tensor, steps: int = 32
) -> Tensor:
    """Share of each number of ``sample`` [...] in score(sample) - score(blank).

    ``score`` maps a batch [n, ...] to [n] and must treat its rows alone. The shares sum up to the
    difference within the error of the midpoint rule over ``steps`` points of the line between the two.
    """
    at = (torch.arange(steps, dtype=sample.dtype) + 0.5) / steps
    line = blank + at.view(-1, *(1,) * sample.dim()) * (sample - blank)
    line = line.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(line).sum(), line)
    return ((sample - blank) * gradient.mean(0)).detach()


def occlusion(score: Score, hide: Hide, regions: int) -> npt.NDArray[np.float64]:
    """How much the score falls when each of the regions is hidden alone, [regions]."""
    if not regions:
        return np.zeros(0)
    samples = [hide(np.zeros(regions, bool)), *(hide(row) for row in np.eye(regions, dtype=bool))]
    scores = np.asarray(score(samples), np.float64)
    fallen: npt.NDArray[np.float64] = scores[0] - scores[1:]
    return fallen


def deletion_curve(
    score: Score, hide: Hide, importance: Floats, fractions: Sequence[float] = FRACTIONS
) -> npt.NDArray[np.float64]:
    """Scores [fractions] after hiding that share of the regions, most important first."""
    order = np.argsort(-np.asarray(importance), kind="stable")
    samples = []
    for fraction in fractions:
        hidden = np.zeros(len(order), bool)
        hidden[order[: round(fraction * len(order))]] = True
        samples.append(hide(hidden))
    return np.asarray(score(samples), np.float64)


def deletion_test(
    score: Score,
    hide: Hide,
    importance: Floats,
    rng: np.random.Generator,
    draws: int = 3,
    fractions: Sequence[float] = FRACTIONS,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Deletion curves by importance, and at random (mean of ``draws``), on one sample."""
    random = [deletion_curve(score, hide, rng.random(len(importance)), fractions) for _ in range(draws)]
    return deletion_curve(score, hide, importance, fractions), np.mean(random, axis=0)


def grid_regions(height: int, width: int, rows: int, columns: int) -> npt.NDArray[np.intp]:
    """[height, width] → number of the cell, of ``rows`` x ``columns`` about equal ones, that a place is in.

    >>> grid_regions(2, 4, 1, 2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    down, across = (np.arange(n) * k // n for n, k in ((height, rows), (width, columns)))
    cells: npt.NDArray[np.intp] = down[:, None] * columns + across[None, :]
    return cells

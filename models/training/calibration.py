"""Fitting on development data what a head needs beside its weights: temperature and abstention threshold."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from models.heads import Floats

Ints = npt.NDArray[np.int64]


def fit_temperature(logits: Floats, labels: Ints) -> float:
    """The temperature that minimises the log loss of ``softmax(logits / t)`` (Guo et al. 2017).

    logits [n, k], labels [n]; searched in 0.05..20, found to 1e-4 of its logarithm.
    """
    x, y = torch.from_numpy(np.asarray(logits, np.float32)), torch.from_numpy(np.asarray(labels, np.int64))

    def loss(log_t: float) -> float:
        return float(torch.nn.functional.cross_entropy(x / np.exp(log_t), y))

    low, high, golden = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return round(float(np.exp((low + high) / 2)), 4)


def fit_threshold(probabilities: Floats, labels: Ints, accuracy: float, least_coverage: float = 0.5) -> float:
    """The lowest score at which what is kept is right in at least ``accuracy`` of the cases.

    ``labels`` uses -1 for samples of no class of this head (always wrong when kept). Where the accuracy
    cannot be had, the threshold that keeps ``least_coverage`` of the samples; 0 where all may be kept.
    """
    best, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(best[order] == labels[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(right >= accuracy)
    kept = max(int(good[-1]) + 1 if len(good) else 0, int(np.ceil(least_coverage * len(order))))
    return 0.0 if kept >= len(order) else round(float(scores[order[kept - 1]]), 4)


def calibration_error(probabilities: Floats, labels: Ints, bins: int = 15) -> float:
    """Expected calibration error over ``bins`` equal bins of the top score."""
    scores, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [
        abs(right[place == b].mean() - scores[place == b].mean()) * (place == b).mean() for b in set(place)
    ]
    return float(sum(gaps))


def coverage_curve(probabilities: Floats, labels: Ints, points: int = 11) -> list[tuple[float, float, float]]:
    """(threshold, coverage, accuracy of what is kept) at evenly spaced thresholds."""
    scores, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    curve = []
    for threshold in np.linspace(0.0, 1.0, points):
        kept = scores >= threshold
        curve.append(
            (float(threshold), float(kept.mean()), float(right[kept].mean()) if kept.any() else float("nan"))
        )
    return curve


def macro_f1(predicted: Ints, labels: Ints) -> float:
    """Mean F1 over the classes that occur in ``labels``."""
    scores = []
    for k in np.unique(labels):
        hit = float(np.sum((predicted == k) & (labels == k)))
        scores.append(2 * hit / float(np.sum(predicted == k) + np.sum(labels == k)))
    return float(np.mean(scores)) if scores else float("nan")

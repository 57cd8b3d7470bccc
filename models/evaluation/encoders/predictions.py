"""What a model said of labelled content, kept sample by sample, and every figure that follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.encoder import Encoder, HeadScores
from models.evaluation.encoders.content import CHUNK, Item, decoded, measured_heads
from models.evaluation.statistics import Estimate, macro_f1_estimate, mean_estimate
from models.heads import Head
from models.training.text.metrics import area_under_curve

Key = tuple[str, str]
"""(source, head)"""

BINS: Final = 10
POSITIVE: Final = "positive"
MATRIX_LABELS: Final = 20
"""Most labels that a confusion matrix shows; the rarer ones are one row and column."""


_ARRAYS: Final = ("said", "wanted", "score", "positive", "group", "lang")


@dataclass(frozen=True)
class Verdicts:
    """n verdicts of one head on one source."""

    said: npt.NDArray[np.str_]  # best label, abstention aside
    wanted: npt.NDArray[np.str_]
    score: npt.NDArray[np.float32]  # calibrated probability of what was said; NaN: the model has none
    positive: npt.NDArray[np.float32]  # score that orders a head of two labels; NaN elsewhere
    group: npt.NDArray[np.str_]
    lang: npt.NDArray[np.str_]
    threshold: float = 0.0
    """Score below which the served head abstains."""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """bool [n]"""
        right: npt.NDArray[np.bool_] = self.said == self.wanted
        return right

    def where(self, mask: npt.NDArray[np.bool_]) -> Verdicts:
        """Those of some samples."""
        arrays: dict[str, Any] = {name: getattr(self, name)[mask] for name in _ARRAYS}
        return Verdicts(**arrays, threshold=self.threshold)


Subsets = Mapping[str, tuple[Key, tuple[str, ...]]]
"""Name → (source and head, labels): content of these labels, which gets rows of its own."""

AMONG: Final = "{} among themselves"
"""The row of a subset where the model chooses among the subset's labels alone, as one that knows no other."""


def judge(encoder: Encoder, items: Sequence[Item], subsets: Subsets) -> dict[Key, Verdicts]:
    """Verdicts of an encoder for every source and head of the items, and for subsets among themselves."""
    found = _judge(encoder, items)
    for name, ((source, head), labels) in subsets.items():
        mine = [item for item in items if item.source == source and item.labels.get(head) in labels]
        with only_saying(encoder, head, labels):
            judged = _judge(encoder, mine)
        if (source, head) in judged:
            found[source, AMONG.format(name)] = judged[source, head]
    return found


def _judge(encoder: Encoder, items: Sequence[Item]) -> dict[Key, Verdicts]:
    keys = measured_heads(items)
    with never_abstaining(encoder) as thresholds:
        encoded = [
            encoder.encode(decoded(encoder, items[i : i + CHUNK])) for i in range(0, len(items), CHUNK)
        ]
    heads = sorted({head for _, head in keys} & set(encoded[0].heads if encoded else ()))
    said = {h: np.array([x for e in encoded for x in e.heads[h].labels]) for h in heads}
    score = {h: np.concatenate([e.heads[h].scores for e in encoded]) for h in heads}
    found = {}
    for (source, head), places in keys.items():
        if head in heads:
            positive = np.full(len(places), np.nan, np.float32)
            sure = score[head][places]
            if head == "sentiment":  # its score is the probability of positive, whatever it says
                positive, sure = sure, np.maximum(sure, 1 - sure)
            mine = verdicts(items, places, head, said[head][places], sure, positive)
            found[source, head] = replace(mine, threshold=thresholds.get(head, thresholds.get("word", 0.0)))
    return found


@contextmanager
def never_abstaining(encoder: Any) -> Iterator[dict[str, float]]:
    """Within it, heads say their best label whatever its score; gives the thresholds otherwise in force."""
    served = encoder.heads
    with _heads(encoder, {name: replace(head, threshold=0.0) for name, head in served.items()}):
        yield {name: head.threshold for name, head in served.items()}


@contextmanager
def _heads(encoder: Any, heads: Mapping[str, Any]) -> Iterator[None]:
    """Within it, these are the encoder's heads."""
    served = encoder.heads
    encoder.heads = heads
    try:
        yield
    finally:
        encoder.heads = served


@dataclass(frozen=True)
class _Among:
    """A head that has some of its labels to choose from."""

    head: Head
    chosen: tuple[str, ...]
    threshold: float = 0.0

    def judge(self, logits: npt.NDArray[np.floating]) -> HeadScores:
        places = [self.head.labels.index(label) for label in self.chosen]
        return Head(self.chosen, self.head.temperature).judge(logits[:, places])


@contextmanager
def only_saying(encoder: Any, head: str, labels: tuple[str, ...]) -> Iterator[None]:
    """Within it, a head, where there is one of that name, says the best of these labels that it knows."""
    heads = dict(encoder.heads)
    if head in heads:
        heads[head] = _Among(heads[head], tuple(label for label in labels if label in heads[head].labels))
    with _heads(encoder, heads):
        yield


def verdicts(
    items: Sequence[Item],
    places: npt.NDArray[np.intp],
    head: str,
    said: npt.NDArray[Any],
    score: npt.NDArray[np.float32] | None = None,
    positive: npt.NDArray[np.float32] | None = None,
) -> Verdicts:
    """Verdicts on the items at ``places``."""
    nothing = np.full(len(places), np.nan, np.float32)
    mine = [items[i] for i in places]
    return Verdicts(
        np.asarray(said, np.str_),
        np.array([i.labels[head] for i in mine]),
        nothing if score is None else score,
        nothing if positive is None else positive,
        np.array([i.group for i in mine]),
        np.array([i.lang for i in mine]),
    )


def joined(parts: Sequence[Mapping[Key, Verdicts]]) -> dict[Key, Verdicts]:
    """The verdicts of all folds as one, fold by fold."""
    found = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        mine = [part[key] for part in parts if key in part]
        arrays: dict[str, Any] = {n: np.concatenate([getattr(v, n) for v in mine]) for n in _ARRAYS}
        found[key] = Verdicts(**arrays)
    return found


def save_verdicts(file: Path, found: Mapping[Key, Verdicts]) -> None:
    """Write them as one .npz of plain arrays."""
    arrays = {
        f"{source}|{head}|{name}": getattr(v, name)
        for (source, head), v in found.items()
        for name in (*_ARRAYS, "threshold")
    }
    with file.open("wb") as out:
        np.savez_compressed(out, **arrays)


def load_verdicts(file: Path) -> dict[Key, Verdicts]:
    """What :func:`save_verdicts` wrote."""
    parts: dict[Key, dict[str, Any]] = {}
    with np.load(file) as arrays:
        for name in arrays.files:
            source, head, column = name.split("|")
            values = arrays[name]
            parts.setdefault((source, head), {})[column] = float(values) if values.ndim == 0 else values
    return {key: Verdicts(**columns) for key, columns in parts.items()}


def accuracy(v: Verdicts, repeats: int) -> Estimate:
    """Share of right verdicts; the interval draws whole groups."""
    return mean_estimate(v.right, v.group, repeats)


def f1(v: Verdicts, repeats: int) -> Estimate:
    """Mean F1 over the labels that occur; the interval draws whole groups."""
    return macro_f1_estimate(v.said, v.wanted, v.group, repeats)


def area(v: Verdicts) -> float | None:
    """Area under the ROC curve of a head of two labels, else None."""
    positive = v.wanted == POSITIVE
    if not np.isfinite(v.positive).all() or not 0 < positive.sum() < len(positive):
        return None
    return area_under_curve(v.positive, positive)


def calibration_error(v: Verdicts, bins: int = 15) -> float | None:
    """Expected calibration error over equal bins of the score, None where there is no score."""
    if not np.isfinite(v.score).all():
        return None
    place = np.minimum((v.score * bins).astype(int), bins - 1)
    gap = np.bincount(place, v.right - v.score.astype(np.float64), bins)
    return float(np.abs(gap).sum() / max(len(v.right), 1))


def reliability(v: Verdicts) -> list[tuple[float, float, int]]:
    """(mean score, share right, n) of BINS equal bins of the score that are not empty."""
    place = np.minimum((v.score * BINS).astype(int), BINS - 1)
    return [
        (float(v.score[place == b].mean()), float(v.right[place == b].mean()), int((place == b).sum()))
        for b in np.unique(place)
    ]


def coverage_curve(v: Verdicts, points: int = 21) -> list[tuple[float, float]]:
    """(share kept, accuracy of the kept) when the least sure are left out, from all down to a twentieth."""
    right = v.right[np.argsort(-v.score, kind="stable")]
    kept = np.unique(np.linspace(max(1, len(right) // 20), len(right), points).astype(int))
    return [(float(k / len(right)), float(right[:k].mean())) for k in kept]


def confusion(v: Verdicts) -> dict[str, Any]:
    """``labels`` and ``counts`` [wanted][said] of the commonest labels, the others summed up as "rest"."""
    names, counts = np.unique(v.wanted, return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")][:MATRIX_LABELS].tolist()
    place = {name: i for i, name in enumerate(kept)}
    rest = len(kept)
    table = np.zeros((rest + 1, rest + 1), int)
    for wanted, said in zip(v.wanted, v.said, strict=True):
        table[place.get(wanted, rest), place.get(said, rest)] += 1
    size = rest + 1 if table[rest].any() or table[:, rest].any() else rest
    return {"labels": [*kept, "rest"][:size], "counts": table[:size, :size].tolist()}

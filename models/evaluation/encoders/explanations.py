"""The section on explained verdicts: examples of what was marked, and whether hiding it matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.encoder import Encoder
from models.evaluation.encoders.predictions import never_abstaining
from models.evaluation.statistics import mean_estimate, paired
from models.evaluation.step import Section, Table

EXAMPLES = 8
"""Shown in the report; the rest only counts in the deletion test."""


@dataclass(frozen=True)
class Explained:
    """One verdict: what was marked (name, fall of the score), and both deletion curves."""

    head: str
    said: str
    wanted: str
    marks: list[tuple[str, float]]
    marked: npt.NDArray[np.float64]
    random: npt.NDArray[np.float64]


def explained_section(
    what: str, found: Sequence[Explained], fractions: Sequence[float], repeats: int, note: str
) -> Section:
    """Tables of the deletion test by head and of some examples, and the mean curves."""
    section = Section(notes=[note])
    rows: list[list[Any]] = []
    for head in sorted({e.head for e in found}):
        mine = [e for e in found if e.head == head]
        marked = np.array([e.marked for e in mine])
        random = np.array([e.random for e in mine])
        gap = paired(random[:, 1:].mean(1), marked[:, 1:].mean(1), None, repeats)
        rows.append(
            [
                head,
                len(mine),
                mean_estimate(marked[:, 0], None, repeats),
                mean_estimate(marked[:, 1:].mean(1), None, repeats),
                mean_estimate(random[:, 1:].mean(1), None, repeats),
                {"value": gap.difference, "low": gap.low, "high": gap.high},
                gap.p,
            ]
        )
        section.plots.append(
            {
                "kind": "lines",
                "title": f"{head}: score left when {what} are hidden",
                "x": "share hidden",
                "y": "mean score of what was said",
                "lines": {
                    "most important first": list(zip(fractions, marked.mean(0).tolist(), strict=True)),
                    "at random": list(zip(fractions, random.mean(0).tolist(), strict=True)),
                },
            }
        )
        section.figures[head] = {"difference": gap.difference, "p": gap.p, "n": len(mine)}
    columns = ["head", "n", "score, whole", "hidden as marked", "hidden at random", "difference", "p"]
    shares = ", ".join(f"{f:.0%}" for f in fractions[1:])
    about = (
        f"Mean score with {shares} of the {what} hidden; a good explanation makes it fall faster than chance."
    )
    section.tables.append(Table("Deletion test", columns, rows, about))
    section.tables.append(
        Table(
            "Examples",
            ["head", "said", "label", "what it rests on (fall of the score)"],
            [
                [e.head, e.said, e.wanted, ", ".join(f"{name} ({fall:+.3f})" for name, fall in e.marks)]
                for e in found[:EXAMPLES]
            ],
        )
    )
    return section


def verdict_score(
    encoder: Encoder, head: str, decode: Callable[[Any], Any], whole: Any
) -> tuple[Callable[[Sequence[Any]], npt.NDArray[np.float32]], str]:
    """What scores altered samples: the probability of the label said of the whole one, and that label.

    ``decode`` makes an encoder's sample of an altered one. Where another label is said of it, the first
    one's probability is not known, and taken to be what the new label leaves, at most the new one's own.
    """
    with never_abstaining(encoder):
        said = encoder.encode([decode(whole)]).heads[head].labels[0]

    def score(samples: Sequence[Any]) -> npt.NDArray[np.float32]:
        with never_abstaining(encoder):
            judged = encoder.encode([decode(s) for s in samples]).heads[head]
        if head == "sentiment":  # its score is the probability of positive
            return judged.scores if said == "positive" else 1 - judged.scores
        same = np.array(judged.labels) == said
        left = np.minimum(1 - judged.scores, judged.scores)
        return np.where(same, judged.scores, left).astype(np.float32)

    return score, said

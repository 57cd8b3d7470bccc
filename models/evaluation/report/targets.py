"""The levels that the models are to reach, beside what the report found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple


class Level(NamedTuple):
    """A figure of a section, by its path in ``figures``, and the least it should be."""

    name: str
    section: str
    path: tuple[str, ...]
    least: float


_ZH: Final = "text_zh_online_shopping:review"
_EN: Final = "text_en_womens_clothing:review"
_EN_TITLED: Final = "text_en_womens_clothing:title+review"
_LEARNED: Final = "fusion learned (prototypes)"

LEVELS: Final = (
    Level("Chinese reviews, category, accuracy", "text", ("shipped", f"{_ZH}/category", "accuracy"), 0.90),
    Level(
        "Chinese reviews, category of the set, accuracy",
        "text",
        ("shipped", f"{_ZH}/zh_cat", "accuracy"),
        0.90,
    ),
    Level("Chinese reviews, sentiment, accuracy", "text", ("shipped", f"{_ZH}/sentiment", "accuracy"), 0.935),
    Level("English reviews, class, accuracy", "text", ("shipped", f"{_EN}/en_cat", "accuracy"), 0.65),
    Level("English reviews, class, macro F1", "text", ("shipped", f"{_EN}/en_cat", "macro_f1"), 0.45),
    Level("English reviews, recommended, AUC", "text", ("shipped", f"{_EN}/sentiment", "auc"), 0.95),
    Level(
        "English title and review, recommended, AUC",
        "text",
        ("shipped", f"{_EN_TITLED}/sentiment", "auc"),
        0.95,
    ),
    Level(
        "Catalogue photos, sub-category, accuracy", "image", ("shipped", "catalogue/sub", "accuracy"), 0.93
    ),
    Level(
        "Users' photos, ten garments among themselves, accuracy",
        "image",
        ("shipped", "user/top-10 among themselves", "accuracy"),
        0.80,
    ),
    Level(
        "Words of unseen speakers, accuracy", "voice", ("shipped", "aud_dspspeech20/word", "accuracy"), 0.94
    ),
    Level("Precision@10 between modalities, worst direction", "space", ("worst direction",), 0.70),
    Level("Joined users, next category, NDCG, out of fold", "users", (_LEARNED,), 0.70),
)

SURE: Final = 0.05
ABOVE: Final = (
    ("users", "mean pool", SURE),
    ("users", "newest event", SURE),
    ("users", "only text, fusion learned", SURE),
    ("users", "only image, fusion learned", SURE),
    ("users", "only voice, fusion learned", SURE),
    ("amazon", "popular", SURE),
    ("amazon", "encoder: mean pool", 1.0),
)
"""(section, what its default vector must beat, below which p); few reviewers: their point estimate counts."""


def levels_of(sections: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Rows of (what, level, reached, verdict); nothing for sections that were not run."""
    figures = {s["name"]: s["figures"] for s in sections}
    rows: list[list[Any]] = []
    for level in LEVELS:
        reached = _at(figures.get(level.section, {}), level.path)
        if reached is not None:
            value = reached["value"] if isinstance(reached, dict) else reached
            rows.append([level.name, f"at least {level.least:g}", reached, _word(value >= level.least)])
    for section, other, sure in ABOVE:
        test = _at(figures.get(section, {}), ("paired", other))
        if test is not None:
            gap = {"value": test["difference"], "low": test["low"], "high": test["high"]}
            met = test["difference"] > 0 and test["p"] <= sure
            wanted = f"more, p < {sure:g}" if sure < 1 else "more"
            rows.append([f"{section}: NDCG above {other}", wanted, gap, _word(met)])
    return rows


def _word(met: bool) -> str:
    return "reached" if met else "not reached"


def _at(figures: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(figures, dict) or name not in figures:
            return None
        figures = figures[name]
    return figures

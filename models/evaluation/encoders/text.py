"""Texts in the report: cross-fitted trainings, TF-IDF beside them, and what words a verdict rests on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.svm import LinearSVC

from models.encoder import Encoder, TextContent
from models.evaluation.encoders.attribution import FRACTIONS, deletion_test, occlusion
from models.evaluation.encoders.content import Item, files_of, taxonomy_of
from models.evaluation.encoders.explanations import Explained, explained_section, verdict_score
from models.evaluation.encoders.retrain import unseen_items
from models.evaluation.encoders.steps import Modality
from models.evaluation.step import Context, Section
from models.registry import load_encoder

_UNIT: Final = re.compile(r"[\u3400-\u9fff]|[A-Za-z']+|\d+")
"""What is hidden at once: a Chinese character, a word, a number."""
MAX_UNITS: Final = 80
"""Longer texts are not explained: their many samples would cost more than they show."""


def text_modality(data: Path) -> Modality:
    """How the report treats texts."""
    return Modality(
        name="text",
        files=files_of(data, "text"),
        baselines={"TF-IDF + linear": _tfidf},
        baseline_heads=("zh_cat", "en_cat", "sentiment"),
        explain=_explain,
        plots=(
            ("text_zh_online_shopping:review", "zh_cat"),
            ("text_zh_online_shopping:review", "sentiment"),
            ("text_en_womens_clothing:review", "en_cat"),
            ("text_en_womens_clothing:review", "sentiment"),
        ),
        subsets={},
        by_language=True,
        baseline_s=400,
    )


def _tfidf(items: Sequence[Item], head: str) -> Callable[..., npt.NDArray[Any]]:
    """Character 1- to 3-grams (Chinese) or word 1- to 2-grams with rarity weights, linear classifiers."""
    han = items[0].lang == "zh"
    counter = CountVectorizer(  # type: ignore[no-untyped-call]
        analyzer="char" if han else "word", ngram_range=(1, 3) if han else (1, 2), min_df=2, dtype=np.float32
    )
    counts = counter.fit_transform([item.content.text for item in items])
    labels = np.array([item.labels[head] for item in items])

    def predict(fit: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[Any]:
        weights = TfidfTransformer(sublinear_tf=True).fit(counts[fit])  # type: ignore[no-untyped-call]
        model = LinearSVC(C=0.5, tol=1e-3, random_state=seed).fit(weights.transform(counts[fit]), labels[fit])  # type: ignore[no-untyped-call]
        said: npt.NDArray[Any] = model.predict(weights.transform(counts[wanted]))
        return said

    return predict


def _explain(ctx: Context) -> Section:
    """Occlusion of single units in short test reviews, and the deletion test."""
    taxonomy = taxonomy_of(ctx.data)
    encoder = load_encoder("text", ctx.weights / "text.safetensors", "cpu", taxonomy.words, taxonomy)
    rng = np.random.default_rng(0)
    items = [i for i in unseen_items(ctx, "text") if "sentiment" in i.labels]
    found: list[Explained] = []
    for place in rng.permutation(len(items)):
        item = items[int(place)]
        head = ("zh_cat" if item.lang == "zh" else "en_cat") if len(found) % 2 else "sentiment"
        if head in item.labels and 8 <= len(_units(item.content.text)) <= MAX_UNITS:
            found.append(_explain_one(encoder, item, head, rng))
        if len(found) >= ctx.budget.explained:
            break
    note = (
        "A unit is a Chinese character, a word or a number; hidden units are taken out of the text. An "
        "n-gram's weight is spread over the units that break it."
    )
    return explained_section("units of text", found, FRACTIONS, ctx.budget.repeats, note)


def _units(text: str) -> list[tuple[int, int]]:
    return [m.span() for m in _UNIT.finditer(text)]


def _explain_one(encoder: Encoder, item: Item, head: str, rng: np.random.Generator) -> Explained:
    text = item.content.text
    units = _units(text)

    def hide(hidden: npt.NDArray[np.bool_]) -> str:
        shown, at = [], 0
        for (start, end), gone in zip(units, hidden, strict=True):
            shown.append(text[at:start] + (" " if gone else text[start:end]))
            at = end
        return "".join([*shown, text[at:]])

    def decode(altered: str) -> Any:
        return encoder.decode(TextContent(altered if altered.strip() else ".", item.lang))

    score, said = verdict_score(encoder, head, decode, text)
    importance = occlusion(score, hide, len(units))
    marked, random = deletion_test(score, hide, importance, rng)
    order = np.argsort(-importance)[:5]
    marks = [(text[slice(*units[i])], float(importance[i])) for i in order]
    return Explained(head, said, item.labels[head], marks, marked, random)

"""Texts with their labels, as training reads them: real files by ``dataset.yaml``, and phrases made here."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import yaml

from features.taxonomy import Taxonomy
from models.encoder import OTHER
from models.text.language import is_mostly_han
from models.text.ngrams import normalise
from models.training.dataset import DatasetError, TextPart, parts_of, read_rows, require_categories
from models.training.splits import split_of

PHRASES_PATH: Final = Path(__file__).parent.with_name("phrases.yaml")
FOLDS: Final = 4
PHRASES_PER_CATEGORY: Final = 300
GENERIC_PHRASES: Final = {"en": 3000, "zh": 60}
"""Texts of no category: English files know clothing only, and would find it everywhere."""

Ints = npt.NDArray[np.int64]
NONE: Final = -1
"""A row without a label of a head."""


@dataclass(frozen=True)
class TextRows:
    """n labelled texts, column by column; -1 where a row has no label of a head."""

    texts: list[str]  # normalised
    han: npt.NDArray[np.bool_]  # written in Chinese characters
    split: npt.NDArray[np.str_]  # train, dev, test: by group
    fold: Ints  # 0..FOLDS-1, by group: for predictions out of fold
    source: npt.NDArray[np.str_]  # file and form
    labels: dict[str, Ints]  # head → index in ``names[head]``
    names: dict[str, list[str]]

    def where(self, split: str) -> npt.NDArray[np.bool_]:
        """Mask of the rows of a split."""
        mask: npt.NDArray[np.bool_] = self.split == split
        return mask

    def only(self, kept: npt.NDArray[np.bool_]) -> TextRows:
        """The rows of a mask."""
        return TextRows(
            texts=[text for text, keep in zip(self.texts, kept, strict=True) if keep],
            han=self.han[kept],
            split=self.split[kept],
            fold=self.fold[kept],
            source=self.source[kept],
            labels={head: labels[kept] for head, labels in self.labels.items()},
            names=self.names,
        )


class _Row:
    __slots__ = ("group", "labels", "source", "text")

    def __init__(self, source: str, text: str, group: str, labels: dict[str, str]) -> None:
        self.source, self.text, self.group, self.labels = source, normalise(text), group, labels


def read_texts(data: Path, taxonomy: Taxonomy, split: Callable[[str], str] = split_of) -> TextRows:
    """All labelled texts of a folder (``split`` maps their groups), and phrases for the categories.

    Raises DatasetError for a file or column that is not there.
    """
    parts = parts_of(data, "text", lambda d: d.text)
    rows = [r for r in chain(*(_file_rows(data, p, taxonomy) for p in parts), _phrases(taxonomy)) if r.text]
    require_categories(data, "text", (r.labels.get("category") for r in rows if r.source != "phrases"))
    heads = sorted({head for row in rows for head in row.labels})
    names = {head: sorted({r.labels[head] for r in rows if head in r.labels}) for head in heads}
    names["category"] = [*taxonomy.first_level, OTHER]
    places = {head: {name: i for i, name in enumerate(names[head])} for head in heads}
    return TextRows(
        texts=[r.text for r in rows],
        han=np.array([is_mostly_han(r.text) for r in rows]),
        split=np.array([split(r.group) if r.source != "phrases" else "train" for r in rows]),
        fold=np.array([zlib.crc32(r.group.encode()) % FOLDS for r in rows]),
        source=np.array([r.source for r in rows]),
        labels={h: np.array([places[h].get(r.labels.get(h, ""), NONE) for r in rows]) for h in heads},
        names=names,
    )


def _file_rows(data: Path, part: TextPart, taxonomy: Taxonomy) -> Iterator[_Row]:
    for row in read_rows(data / part.file, part.columns()):
        labels = part.labels_of(row)
        category = part.category_of(row, taxonomy)
        if category is not None:
            labels["category"] = category
        if part.sentiment and row[part.sentiment] not in (None, 0, 1):
            raise DatasetError(
                f"{part.file}: {part.sentiment}: expected 1 (positive), 0 (negative) or nothing, "
                f"got {type(row[part.sentiment]).__name__}; map it to these"
            )
        if part.sentiment and row[part.sentiment] is not None:
            labels["sentiment"] = "positive" if row[part.sentiment] else "negative"
        for form in part.forms:
            if all(row[c] for c in form):
                text = ". ".join(str(row[c]) for c in form)
                group = text if part.group == "text" else str(row[part.group])
                yield _Row(source_of(part, form), text, group, labels)


def source_of(part: TextPart, form: Sequence[str]) -> str:
    """Name of a form of a part in figures, e.g. ``text_en_womens_clothing:title+review``."""
    return f"{Path(part.file).stem}:{'+'.join(form)}"


def _phrases(taxonomy: Taxonomy) -> Iterator[_Row]:
    """Short made texts for the categories that no file covers in a language, and for none of them."""
    phrases = yaml.safe_load(PHRASES_PATH.read_text(encoding="utf-8"))
    rng = np.random.default_rng(7)
    for lang, categories in phrases["nouns"].items():
        words, templates = phrases["templates"]["words"][lang], phrases["templates"][lang]
        generic = phrases["generic"][lang]
        for category, nouns in categories.items():
            if category != OTHER and category not in taxonomy.first_level:
                continue
            for _ in range(PHRASES_PER_CATEGORY):
                noun, noun2 = rng.choice(nouns, 2)
                chosen = {kind: str(rng.choice(options)) for kind, options in words.items()}
                sentence = str(rng.choice(templates)).format(noun=noun, noun2=noun2, **chosen)
                yield _phrase([sentence, *rng.choice(generic, rng.integers(0, 3))], category, rng)
        for _ in range(GENERIC_PHRASES[lang]):
            yield _phrase([*rng.choice(generic, rng.integers(1, 5))], OTHER, rng)


def _phrase(sentences: list[str], category: str, rng: np.random.Generator) -> _Row:
    text = " ".join(sentences[i] for i in rng.permutation(len(sentences)))
    return _Row("phrases", text, text, {"category": category})

"""Texts with their labels, as training reads them: real files by ``dataset.yaml``, and phrases made here."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import yaml

from features.taxonomy import Taxonomy
from models.encoder import OTHER
from models.splits import split_of
from models.text_features import normalise
from models.text_language import is_mostly_han

DEFAULT_SPEC: Final = Path(__file__).with_name("dataset.yaml")
PHRASES_PATH: Final = Path(__file__).with_name("phrases.yaml")
FOLDS: Final = 4
PHRASES_PER_CATEGORY: Final = 300
GENERIC_PHRASES: Final = {"en": 3000, "zh": 60}
"""Texts of no category: English files know clothing only, and would find it everywhere."""

Ints = npt.NDArray[np.int64]
NONE: Final = -1
"""A row without a label of a head."""


class DatasetError(ValueError):
    """A training folder that cannot be read; the message names the file and the key."""


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


class _Row:
    __slots__ = ("group", "labels", "source", "text")

    def __init__(self, source: str, text: str, group: str, labels: dict[str, str]) -> None:
        self.source, self.text, self.group, self.labels = source, normalise(text), group, labels


def read_texts(data: Path, taxonomy: Taxonomy, split: Callable[[str], str] = split_of) -> TextRows:
    """All labelled texts of a folder (``split`` maps their groups), and phrases for the categories.

    Raises DatasetError for a file or column that is not there.
    """
    spec = data / "dataset.yaml"
    parts = yaml.safe_load((spec if spec.is_file() else DEFAULT_SPEC).read_text(encoding="utf-8"))["text"]
    rows = [r for r in chain(*(_file_rows(data, p, taxonomy) for p in parts), _phrases(taxonomy)) if r.text]
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


def _file_rows(data: Path, part: Mapping[str, Any], taxonomy: Taxonomy) -> Iterator[_Row]:
    file = data / part["file"]
    columns = {c for form in part["forms"] for c in form} | set((part.get("labels") or {}).values())
    columns |= set(part["category"].values()) | ({part["group"]} - {"text"})
    columns |= {part["sentiment"]} if "sentiment" in part else set()
    try:
        table = pq.read_table(file, columns=sorted(columns)).to_pylist()
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{file}: expected parquet with {sorted(columns)}, got {type(error).__name__}; check dataset.yaml"
        ) from error
    for row in table:
        labels = {head: str(row[c]) for head, c in (part.get("labels") or {}).items() if row[c] is not None}
        labels["category"] = _category(row, part["category"], taxonomy)
        if row.get(part.get("sentiment")) is not None:
            labels["sentiment"] = "positive" if row[part["sentiment"]] else "negative"
        for form in part["forms"]:
            if all(row[c] for c in form):
                text = ". ".join(row[c] for c in form)
                group = text if part["group"] == "text" else str(row[part["group"]])
                yield _Row(f"{Path(part['file']).stem}:{'+'.join(form)}", text, group, labels)


def _category(row: Mapping[str, Any], columns: Mapping[str, str], taxonomy: Taxonomy) -> str:
    for head, column in columns.items():
        if found := taxonomy.category_of(head, str(row[column])):
            return found.parent or found.id
    return OTHER


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

"""What the report judges encoders on: every labelled text, photo and clip with the group it belongs to.

Read by ``dataset.yaml`` as training reads it, so a group (a title, sender, speaker, series of shots) is
on one side of every split here too. Content stays as it came: encoders decode it themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.taxonomy import Taxonomy
from models.encoder import OTHER, Encoder, TextContent
from models.training.dataset import ImagePart, TextPart, VoicePart, dataset_taxonomy, load_dataset, read_rows
from models.training.splits import Split, split_of
from models.training.train import with_words
from models.training.voice.data import speaker_splits

REF_COLUMNS: Final = {
    "text_zh_online_shopping": "id",
    "text_en_womens_clothing": "id",
    "img_fashion_products.title": "product_id",
    "img_fashion_products": "product_id",
    "img_clothing_user_photos": "image",
    "img_grocery": "path",
    "aud_dspspeech20": "id",
}
"""Column that the joined users' ``ref`` names, by data set."""

CHUNK: Final = 512


@dataclass(frozen=True, slots=True)
class Item:
    """One piece of content. ``source`` is its data set and form, as figures name it."""

    dataset: str
    source: str
    ref: str
    group: str
    lang: str
    labels: Mapping[str, str]
    content: Any


def taxonomy_of(data: Path) -> Taxonomy:
    """The taxonomy of a data folder, with its map of spoken words."""
    return with_words(data, dataset_taxonomy(data))


def read_items(data: Path, modality: str, taxonomy: Taxonomy, share: float = 1.0) -> list[Item]:
    """All labelled content of a modality, or of that share of its groups."""
    dataset = load_dataset(data)
    parts: Mapping[str, Iterator[Iterator[Item]]] = {
        "text": (_texts(data, p, taxonomy) for p in dataset.text),
        "image": (_images(data, p, taxonomy) for p in dataset.image),
        "voice": (_voices(data, p, taxonomy) for p in dataset.voice if p.role == "words"),
    }
    found = [item for part in parts[modality] for item in part]
    return found if share >= 1 else [i for i in found if _place("share", i.group) % 1000 < 1000 * share]


def files_of(data: Path, modality: str) -> tuple[str, ...]:
    """Names of the files that hold a modality's labelled content, by the folder's spec.

    Where the spec has no part for the modality, a name that no file has: its steps are left out by it.
    """
    dataset = load_dataset(data)
    parts: Mapping[str, tuple[TextPart | ImagePart | VoicePart, ...]] = {
        "text": dataset.text,
        "image": dataset.image,
        "voice": tuple(p for p in dataset.voice if p.role == "words"),
    }
    files = tuple(dict.fromkeys(part.file for part in parts[modality]))
    return files or (f"{modality} part of dataset.yaml",)


def _texts(data: Path, part: TextPart, taxonomy: Taxonomy) -> Iterator[Item]:
    ref = REF_COLUMNS.get(part.name)
    rows = read_rows(data / part.file, part.columns() | ({ref} if ref else set()))
    lang = "zh" if "zh" in part.file else "en"
    for i, row in enumerate(rows):
        labels = _known(part, row, taxonomy)
        if part.sentiment and row[part.sentiment] is not None:
            labels["sentiment"] = "positive" if row[part.sentiment] else "negative"
        for form in part.forms:
            if all(row[c] and str(row[c]).strip() for c in form):
                text = ". ".join(row[c] for c in form)
                group = text if part.group == "text" else str(row[part.group])
                source = f"{part.name}:{'+'.join(form)}"
                name = str(row[ref]) if ref else str(i)
                yield Item(part.name, source, name, group, lang, labels, TextContent(text, lang))


def _images(data: Path, part: ImagePart, taxonomy: Taxonomy) -> Iterator[Item]:
    ref = REF_COLUMNS.get(part.name)
    for i, row in enumerate(read_rows(data / part.file, part.columns() | ({ref} if ref else set()))):
        name = str(row[ref]) if ref else str(i)
        labels = _known(part, row, taxonomy)
        yield Item(part.name, part.source_name, name, part.group_of(row), "none", labels, row[part.image])


def _voices(data: Path, part: VoicePart, taxonomy: Taxonomy) -> Iterator[Item]:
    ref = REF_COLUMNS.get(part.name)
    for i, row in enumerate(read_rows(data / part.file, part.columns() | ({ref} if ref else set()))):
        word = str(row[str(part.word)])
        labels = {"word": word} | ({"category": taxonomy.words[word]} if word in taxonomy.words else {})
        name = str(row[ref]) if ref else str(i)
        who, lang = str(row[part.speaker]), str(row[str(part.lang)])
        yield Item(part.name, part.name, name, who, lang, labels, row[part.audio])


def _known(part: TextPart | ImagePart, row: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, str]:
    """Labels that the row has of itself; those by a map only help training and are not judged on."""
    own = {head for head, rules in part.labels.items() if all(rule.map is None for rule in rules)}
    labels = {head: label for head, label in part.labels_of(row).items() if head in own}
    category = part.category_of(row, taxonomy)
    return labels if category is None else labels | {"category": category}


def _place(what: str, group: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{what}:{group}".encode()).digest()[:6], "big")


def standard_splits(modality: str, items: Sequence[Item]) -> npt.NDArray[np.str_]:
    """The split of each item that the shipped weights were trained by."""
    if modality == "voice":
        speakers = speaker_splits([i.group for i in items])
        return np.array([speakers[i.group] for i in items])
    return np.array([split_of(i.group) for i in items])


def folds_of(modality: str, groups: Sequence[str], folds: int) -> npt.NDArray[np.int64]:
    """The fold in which each group is held out: by hash; speakers, who are few, dealt out in its order."""
    if modality == "voice":
        dealt = {who: i % folds for i, who in enumerate(_speakers(groups))}
        return np.array([dealt[g] for g in groups], np.int64)
    return np.array([_place("fold", g) % folds for g in groups], np.int64)


def _speakers(groups: Sequence[str]) -> list[str]:
    return sorted(set(groups), key=lambda g: _place("fold", g))


def fold_split(modality: str, groups: Sequence[str], fold: int, folds: int) -> Callable[[str], Split]:
    """What training takes to hold a fold out: test, a tenth of the rest (three speakers) dev, else train.

    A group that is not among ``groups`` is held out of this training altogether (a smaller run).
    """
    if modality != "voice":

        def by_hash(group: str) -> Split:
            place = _place("fold", group)
            if place % folds == fold:
                return "test"
            return "dev" if place // folds % 10 == 0 else "train"

        return by_hash
    order = _speakers(groups)
    rest = [who for i, who in enumerate(order) if i % folds != fold]
    tuning = set(rest[: max(1, min(3, len(rest) // 4))])
    named: dict[str, Split] = {who: "dev" if who in tuning else "train" for who in rest}
    return lambda who: named.get(who, "test")


def decoded(encoder: Encoder, items: Sequence[Item]) -> list[Any]:
    """Samples of the encoder, in the items' order. Raises ContentError for content it cannot take."""
    return [encoder.decode(item.content) for item in items]


def embeddings(encoder: Encoder, items: Sequence[Item]) -> npt.NDArray[np.float32]:
    """[n, 64] in the items' order; ``encode`` is called on CHUNK of them at a time."""
    parts = [
        encoder.encode(decoded(encoder, items[i : i + CHUNK])).embedding for i in range(0, len(items), CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 64), np.float32)


def measured_heads(items: Sequence[Item]) -> dict[tuple[str, str], npt.NDArray[np.intp]]:
    """(source, head) → places of the items with a label, where there are two labels besides ``other``."""
    places: dict[tuple[str, str], list[int]] = {}
    for i, item in enumerate(items):
        for head in item.labels:
            places.setdefault((item.source, head), []).append(i)
    return {
        key: np.array(mine)
        for key, mine in sorted(places.items())
        if len({items[i].labels[key[1]] for i in mine} - {OTHER}) >= 2
    }

"""The three photo sets as one table: pixels, a label per head (or none), and a leak-free split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from features.taxonomy import Taxonomy, load_taxonomy
from models.encoder import OTHER
from models.image_decode import SIDE_PX, decode_image
from models.splits import Split, difference_hashes, split_of, without_twins

NO_LABEL: Final = -100
"""A head has nothing to learn from this picture (``ignore_index`` of torch's cross entropy)."""

CATALOGUE_HEADS: Final = ("sub", "art", "colour", "usage", "master")
HEADS: Final = ("category", *CATALOGUE_HEADS, "clothing_label", "grocery_coarse")
_UNSURE: Final = "Not sure"  # what the photo set says where its annotators gave up
_NOT_CLOTHING: Final = frozenset(
    {"Bags", "Wallets", "Watches", "Belts", "Fragrance", "Lips", "Nails", "Jewellery", "Eyewear", "Perfumes"}
)


@dataclass(frozen=True)
class ImageSet:
    """n pictures; ``labels[head][i]`` is a place in ``names[head]``, whose last is ``other``, or NO_LABEL."""

    pixels: npt.NDArray[np.uint8]  # [n, SIDE_PX, SIDE_PX, 3]
    labels: Mapping[str, npt.NDArray[np.int64]]
    names: Mapping[str, tuple[str, ...]]
    source: npt.NDArray[np.str_]  # [n] catalogue, user, grocery
    split: npt.NDArray[np.str_]  # [n] train, dev, test

    def where(self, split: Split, source: str | None = None) -> npt.NDArray[np.intp]:
        """Places of the pictures of a split (and a source)."""
        chosen = self.split == split
        return np.flatnonzero(chosen if source is None else chosen & (self.source == source))


def load_images(data: Path, taxonomy: Taxonomy | None = None, limit: int | None = None) -> ImageSet:
    """Read ``img_*.parquet`` of ``data`` (the first ``limit`` rows of each file).

    Groups that stay together: product title, sender, ten neighbouring shots of a grocery folder. A
    picture whose dHash is also in a split nearer to the test is dropped.
    """
    taxonomy = taxonomy or load_taxonomy()
    rows = [
        *_rows(data / "img_fashion_products.parquet", limit, "catalogue"),
        *_rows(data / "img_clothing_user_photos.parquet", limit, "user"),
        *_rows(data / "img_grocery.parquet", limit, "grocery"),
    ]
    pixels = np.stack([decode_image(row["jpg"]) for row in rows])
    splits = [split_of(_group(row)) for row in rows]
    stay = without_twins(splits, difference_hashes(pixels))
    rows = [row for row, keep in zip(rows, stay, strict=True) if keep]
    wanted = [_labels(row, taxonomy) for row in rows]
    top = tuple(c.id for c in taxonomy.categories if c.parent is None)
    names = {"category": (*top, OTHER)}
    for head in HEADS[1:]:
        names[head] = (*sorted({w[head] for w in wanted if w.get(head, OTHER) != OTHER}), OTHER)
    labels = {
        head: np.array([names[head].index(w[head]) if head in w else NO_LABEL for w in wanted], np.int64)
        for head in HEADS
    }
    source = np.array([row["source"] for row in rows])
    return ImageSet(pixels[stay], labels, names, source, np.array(splits)[stay])


def _rows(file: Path, limit: int | None, source: str) -> list[dict[str, Any]]:
    return [row | {"source": source} for row in pq.read_table(file).slice(0, limit).to_pylist()]


def _group(row: Mapping[str, Any]) -> str:
    if row["source"] == "catalogue":
        return "title:" + " ".join(row["title"].lower().split())
    if row["source"] == "user":
        return f"user:{row['sender_id']}"
    stem, number = Path(row["path"]).stem.rsplit("_", 1)
    return f"shots:{stem}/{int(number) // 10}"


def _labels(row: Mapping[str, Any], taxonomy: Taxonomy) -> dict[str, str]:
    """Head → label; ``other`` where the head must abstain; absent where nothing is known."""
    if row["source"] == "grocery":
        found = {"grocery_coarse": row["coarse_name"], "clothing_label": OTHER} | dict.fromkeys(
            CATALOGUE_HEADS, OTHER
        )
        return found | {"category": _top(taxonomy, [("grocery_group", row["group"])])}
    if row["source"] == "user":
        if row["label"] == _UNSURE:
            return {"grocery_coarse": OTHER}
        label = {"clothing_label": row["label"], "grocery_coarse": OTHER}
        # "Other" of this set is some garment that has no name there: it says nothing about the category
        return (
            label
            if row["label"] == "Other"
            else label | {"category": _top(taxonomy, list(label.items())[:1])}
        )
    found = {head: row[head] for head in CATALOGUE_HEADS if row[head]} | {"grocery_coarse": OTHER}
    if row["sub"] in _NOT_CLOTHING:
        found["clothing_label"] = OTHER
    return found | {"category": _top(taxonomy, [(head, row[head]) for head in ("art", "sub", "master")])}


def _top(taxonomy: Taxonomy, labels: Sequence[tuple[str, str]]) -> str:
    """The first-level category of the first label that stands for one, else ``other``."""
    for head, label in labels:
        if category := taxonomy.category_of(head, label):
            return category.parent or category.id
    return OTHER


def blank_pictures(count: int, seed: int) -> npt.NDArray[np.uint8]:
    """[count, SIDE_PX, SIDE_PX, 3] pictures of no product: flat colours, gradients, noise, blobs, stripes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : SIDE_PX * 1j, 0 : 1 : SIDE_PX * 1j]
    made = np.empty((count, SIDE_PX, SIDE_PX, 3), np.float64)
    for i in range(count):
        low, high = rng.uniform(0, 255, (2, 3))
        angle, kind = rng.uniform(0, np.pi), i % 6
        slope = np.cos(angle) * x + np.sin(angle) * y
        coarse = rng.uniform(0, 1, (rng.integers(2, 33),) * 2)
        step = np.minimum((np.mgrid[0:SIDE_PX] * len(coarse)) // SIDE_PX, len(coarse) - 1)
        weight = {
            0: np.zeros_like(x),
            1: (slope - slope.min()) / np.ptp(slope),
            2: rng.uniform(0, 1, x.shape),
            3: coarse[np.ix_(step, step)],
            4: np.sin(slope * rng.uniform(6, 80)) * 0.5 + 0.5,
            5: np.exp(-((x - rng.uniform()) ** 2 + (y - rng.uniform()) ** 2) / rng.uniform(0.01, 0.5)),
        }[kind]
        made[i] = low + weight[..., None] * (high - low)
    noise = rng.normal(0, 1, made.shape) * rng.choice([0, 2, 10, 40], (count, 1, 1, 1))
    return np.asarray(np.clip(made + noise, 0, 255), dtype=np.uint8)

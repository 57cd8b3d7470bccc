"""The photo sets of a dataset as one table: pixels, a label per head (or none), and a leak-free split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.taxonomy import Taxonomy
from models.encoder import OTHER
from models.image.decode import SIDE_PX, decode_image
from models.training.dataset import (
    DatasetError,
    ImagePart,
    Row,
    dataset_taxonomy,
    decode_cell,
    parts_of,
    read_rows,
    require_categories,
)
from models.training.splits import Split, difference_hashes, split_of, without_twins

NO_LABEL: Final = -100
"""A head has nothing to learn from this picture (``ignore_index`` of torch's cross entropy)."""


@dataclass(frozen=True)
class ImageSet:
    """n pictures; ``labels[head][i]`` is a place in ``names[head]``, whose last is ``other``, or NO_LABEL.

    The first head is ``category``; the others come in the order of the dataset's parts.
    """

    pixels: npt.NDArray[Any]  # uint8 [n, side, side, 3], or float32 [n, width] of a frozen model
    labels: Mapping[str, npt.NDArray[np.int64]]
    names: Mapping[str, tuple[str, ...]]
    source: npt.NDArray[np.str_]  # [n] name of the part, as in figures
    split: npt.NDArray[np.str_]  # [n] train, dev, test
    titles: npt.NDArray[np.str_]  # [n] product title, empty where there is none
    parts: Mapping[str, ImagePart]  # by source
    blank: Callable[[int, int], npt.NDArray[Any]] | None = None
    """Number and seed → pictures of no product as ``pixels`` are, where these are not pixels."""

    def blanks(self, count: int, seed: int) -> npt.NDArray[Any]:
        """Pictures of no product, of the same side."""
        if self.blank is not None:
            return self.blank(count, seed)
        return blank_pictures(count, seed, self.pixels.shape[1])

    def where(self, split: Split, source: str | None = None) -> npt.NDArray[np.intp]:
        """Places of the pictures of a split (and a source)."""
        chosen = self.split == split
        return np.flatnonzero(chosen if source is None else chosen & (self.source == source))

    def measured(self) -> list[tuple[str, str]]:
        """(source, head) of what can be judged: the category, and labels that stand in for no others."""
        return [
            (source, head)
            for source, part in self.parts.items()
            for head in ("category", *part.labels)
            if (head in part.labels or part.category) and not part.is_mapped(head)
        ]

    def stands_in(self, head: str) -> npt.NDArray[np.bool_]:
        """[n] whether a picture's label of a head is mapped from another one's (``other`` aside)."""
        mapped = [source for source, part in self.parts.items() if part.is_mapped(head)]
        found: npt.NDArray[np.bool_] = np.isin(self.source, mapped)
        found &= self.labels[head] != len(self.names[head]) - 1
        return found


def load_images(
    data: Path,
    taxonomy: Taxonomy | None = None,
    limit: int | None = None,
    side_px: int = SIDE_PX,
    split: Callable[[str], Split] = split_of,
) -> ImageSet:
    """Read the pictures of ``dataset.yaml`` (the first ``limit`` rows of each file; ``split`` of a group).

    A picture whose dHash is also in a split nearer to the test is dropped. Raises DatasetError.
    """
    taxonomy = taxonomy or dataset_taxonomy(data)
    parts = {p.source_name: p for p in parts_of(data, "image", lambda d: d.image)}
    if not any(part.category for part in parts.values()):
        raise DatasetError(f"{data}: image: expected a part with a category, got none; add the key category")
    rows = [
        (part, row)
        for part in parts.values()
        for row in read_rows(data / part.file, part.columns(), limit)
        if row[part.image] is not None
    ]
    decode = partial(decode_image, side_px=side_px)
    pixels = np.stack([decode_cell(part.file, part.image, row, decode) for part, row in rows])
    splits = [split(part.group_of(row)) for part, row in rows]
    stay = without_twins(splits, difference_hashes(pixels))
    rows = [row for row, keep in zip(rows, stay, strict=True) if keep]
    wanted = [_labels(part, row, taxonomy) for part, row in rows]
    require_categories(data, "image", (labels.get("category") for labels in wanted))
    names = {"category": (*taxonomy.first_level, OTHER)}
    for head in dict.fromkeys(h for p in parts.values() for h in (*p.labels, *p.other)):
        names[head] = (*sorted({w[head] for w in wanted if w.get(head, OTHER) != OTHER}), OTHER)
    labels = {
        head: np.array([known.index(w[head]) if head in w else NO_LABEL for w in wanted], np.int64)
        for head, known in names.items()
    }
    source = np.array([part.source_name for part, _ in rows])
    titles = np.array([str(row[part.title] or "") if part.title else "" for part, row in rows], np.str_)
    return ImageSet(pixels[stay], labels, names, source, np.array(splits)[stay], titles, parts)


def _labels(part: ImagePart, row: Row, taxonomy: Taxonomy) -> dict[str, str]:
    """Head → label; ``other`` where the head must abstain; absent where nothing is known."""
    found = dict.fromkeys(part.other, OTHER) | part.labels_of(row)
    category = part.category_of(row, taxonomy)
    return found if category is None else found | {"category": category}


def blank_pictures(count: int, seed: int, side_px: int = SIDE_PX) -> npt.NDArray[np.uint8]:
    """[count, side_px, side_px, 3] pictures of no product: flat colours, gradients, noise, blobs, stripes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : side_px * 1j, 0 : 1 : side_px * 1j]
    made = np.empty((count, side_px, side_px, 3), np.float64)
    for i in range(count):
        low, high = rng.uniform(0, 255, (2, 3))
        angle, kind = rng.uniform(0, np.pi), i % 6
        slope = np.cos(angle) * x + np.sin(angle) * y
        coarse = rng.uniform(0, 1, (rng.integers(2, 33),) * 2)
        step = np.minimum((np.mgrid[0:side_px] * len(coarse)) // side_px, len(coarse) - 1)
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

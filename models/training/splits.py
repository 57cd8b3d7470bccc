"""Which group of samples trains, which tunes and which judges: fixed by the group's name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "dev", "test"]
DEV_PERCENT: Final = 10
TEST_PERCENT: Final = 15


def split_of(group: str) -> Split:
    """The split of a title, sender, speaker or folder; all of a group's samples share it."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") % 100
    if place < TEST_PERCENT:
        return "test"
    return "dev" if place < TEST_PERCENT + DEV_PERCENT else "train"


def difference_hashes(pixels: npt.NDArray[np.uint8]) -> list[int]:
    """64-bit dHash of each picture of ``[n, side, side, 3]``: does brightness grow from cell to cell."""
    grey = pixels.astype(np.float32).mean(axis=3)
    rows = np.stack([part.mean(axis=1) for part in np.array_split(grey, 8, axis=1)], axis=1)
    cells = np.stack([part.mean(axis=2) for part in np.array_split(rows, 9, axis=2)], axis=2)
    bits = (cells[:, :, 1:] > cells[:, :, :-1]).reshape(len(pixels), 64)
    return [int.from_bytes(row.tobytes(), "big") for row in np.packbits(bits, axis=1)]


def without_twins(splits: Sequence[Split], hashes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which samples stay: a hash seen in ``test`` leaves ``dev`` and ``train``, one of ``dev`` ``train``."""
    seen: dict[int, set[Split]] = {}
    for split, h in zip(splits, hashes, strict=True):
        seen.setdefault(h, set()).add(split)
    rank: dict[Split, int] = {"test": 0, "dev": 1, "train": 2}
    return np.array([rank[s] <= min(rank[x] for x in seen[h]) for s, h in zip(splits, hashes, strict=True)])

"""Learning from pairs of product title and photo: photos are pulled to where the text encoder puts titles.

The text encoder stays as it is: its vectors of the catalogue's titles are the targets, so photos meet
reviews too. Many titles of a shop say nearly the same; what a photo is compared with is therefore not its
own title alone but how near its title is to the others of the batch (soft targets; cf. Radford et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models import space

Floats = npt.NDArray[np.float32]
EmbedTitles = Callable[[Sequence[str]], Floats]
"""Titles → unit vectors [n, 64]; called once, and not at all where no picture has a title."""

WEIGHT: Final = 0.3
"""Of this loss beside the heads' (1 for the category)."""


class TitleTargets:
    """Where the titles of n pictures lie; pictures without one are left out of the loss."""

    def __init__(self, titles: npt.NDArray[np.str_], embed: EmbedTitles | None) -> None:
        distinct, place = np.unique(titles, return_inverse=True)
        self._place = np.where(titles == "", -1, place)
        self._count = len(titles)
        known = embed is not None and bool((self._place >= 0).any())
        vectors = embed(distinct.tolist()) if known and embed else np.zeros((len(distinct), 1), np.float32)
        self._vectors = torch.from_numpy(np.ascontiguousarray(vectors))
        self.used = known

    def loss(self, embedding: Tensor, pictures: npt.NDArray[np.intp]) -> Tensor:
        """Cross entropy of the photos [n, 64] over the batch's titles; 0 with under two.

        ``pictures`` beyond those that the titles are of have none.
        """
        known = pictures < self._count
        mine = np.flatnonzero(known & (self._place[np.where(known, pictures, 0)] >= 0))
        if not self.used or len(mine) < 2:
            return embedding.new_zeros(())
        titles = self._vectors[torch.from_numpy(self._place[pictures[mine]])].to(embedding.device)
        target = (space.SCALE * titles @ titles.T).softmax(1)
        return F.cross_entropy(space.SCALE * embedding[torch.from_numpy(mine)] @ titles.T, target)

"""Photos seen by a frozen vision model of a local folder: mean of its states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from models.image.network import ImageNetwork
from models.pretrained import Frozen, LocalFolder, pool

_HALF: Final = (0.5, 0.5, 0.5)


class FolderImageNetwork(ImageNetwork):
    """Heads over a frozen model. Takes pictures, or (2-d) what the model already said of them."""

    mean: Tensor
    spread: Tensor

    def __init__(self, head_sizes: Mapping[str, int], folder: LocalFolder, dropout: float = 0.1) -> None:
        super().__init__()
        self.frozen = self._eye = Frozen(folder, "vision_model")
        said = folder.read("preprocessor_config.json")
        for name, key in (("mean", "image_mean"), ("spread", "image_std")):
            self.register_buffer(name, torch.tensor(said.get(key) or _HALF).view(3, 1, 1), persistent=False)
        self.add_heads(head_sizes, self.frozen.width, dropout)

    def features(self, pixels: Tensor) -> Tensor:
        if pixels.dim() == 2:
            return pixels
        x = (pixels.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.spread
        if not len(x):
            return x.new_zeros(0, self.width)
        return pool(self._eye({"pixel_values": x})).to(pixels.device)

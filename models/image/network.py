"""What every image network shares: features of a picture → place in the shared space and named heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import EMBEDDING_DIM
from models import space
from models.pretrained import Frozen

CHUNK: Final = 32
"""Pictures per forward pass on a CPU: larger ones fall out of its caches (1,673/s at 32, 1,364/s at 256)."""


class ImageNetwork(nn.Module):
    """uint8 pixels ``[n, side, side, 3]`` → features → embedding and one logit vector per head.

    The head ``category`` compares the embedding with the fixed prototypes of the shared space; its last
    label, ``other``, has a logit of its own, so that a picture of no category need not be near any.

    An architecture builds what it needs, then calls :meth:`add_heads`, and gives :meth:`features`.
    """

    prototypes: Tensor
    frozen: Frozen | None = None
    """A model of a local folder that is part of it, but not trained or stored with it."""

    def add_heads(self, head_sizes: Mapping[str, int], width: int, dropout: float) -> None:
        """Heads over ``width`` features; ``head_sizes`` counts each head's labels, ``other`` among them."""
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(width, EMBEDDING_DIM)
        self.other = nn.Linear(width, 1)
        self.heads = nn.ModuleDict({n: nn.Linear(width, k) for n, k in head_sizes.items() if n != "category"})
        prototypes = torch.tensor(space.category_prototypes(head_sizes["category"] - 1))
        self.register_buffer("prototypes", prototypes, persistent=False)

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 [n, side, side, 3] → [n, width]."""
        raise NotImplementedError

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """→ embedding [n, EMBEDDING_DIM] of unit length, logits by head [n, labels]."""
        return self.judge(self.features(pixels))

    def judge(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features [n, width] → as ``forward``."""
        features = self.dropout(features)
        embedding = F.normalize(self.project(features).float(), dim=1)
        category = torch.cat(
            [space.SCALE * embedding @ self.prototypes.T, self.other(features).float()], dim=1
        )
        return embedding, {"category": category} | {
            n: head(features).float() for n, head in self.heads.items()
        }

    def see(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """uint8 [n, side, side, 3] → [n, width]."""
        device = self.project.weight.device
        with torch.inference_mode():
            parts = [self.features(c.to(device)) for c in torch.split(torch.from_numpy(pixels), CHUNK)]
        return torch.cat(parts).float().cpu().numpy()

    def folded(self) -> Self:
        """The same function, made ready for inference."""
        return self.eval()

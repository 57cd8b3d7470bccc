"""The control of the shared space: encoders whose projections never saw the same targets.

Each modality keeps its network up to the features, and learns a projection towards unit vectors of its own.
Within the modality it is as good; between modalities its vectors mean nothing. What the shared prototypes
are worth is the difference.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import EMBEDDING_DIM
from models import space

Floats = npt.NDArray[np.float32]
ROUNDS: Final = 60


def separate_embeddings(
    features: Floats, categories: npt.NDArray[np.int64], unseen: Floats, seed: int
) -> Floats:
    """Fit a projection on features [n, width] and categories [n] (0..k-1); → unit [m, 64] of ``unseen``.

    The targets depend on ``seed``: give each modality another. Features come from the encoders' method of
    that name. L-BFGS on cosines to the targets with mild decay: the same input gives the same result.
    """
    targets = torch.from_numpy(own_targets(int(categories.max()) + 1, seed))
    x, y = torch.from_numpy(features), torch.from_numpy(categories)
    mean, spread = x.mean(0), x.std(0).clamp_min(1e-4)
    layer = nn.Linear(features.shape[1], EMBEDDING_DIM)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / features.shape[1] ** 0.5)
        layer.bias.zero_()
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        cosines = F.normalize(layer((x - mean) / spread), dim=1) @ targets.T
        found = F.cross_entropy(space.SCALE * cosines, y) + 1e-4 * layer.weight.square().sum()
        torch.autograd.backward(found)
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        placed: Floats = F.normalize(layer((torch.from_numpy(unseen) - mean) / spread), dim=1).numpy()
    return placed


def own_targets(count: int, seed: int) -> Floats:
    """[count, 64] orthonormal float32 rows that have nothing to do with the shared prototypes."""
    gauss = np.random.Generator(np.random.PCG64(seed)).standard_normal((EMBEDDING_DIM, EMBEDDING_DIM))
    rows: Floats = np.linalg.qr(gauss)[0].T[:count].astype(np.float32).copy()
    return rows

"""One vector per user from what each modality says of them.

Input of every kind: ``features`` [n, 4, 3, 64] (modality × [decayed mean of 10 days | of 40 days |
newest event], unit length or zeros) and ``mask`` [n, 4] (modalities that are there). Output: unit
vectors [n, 64] of the shared space; zeros for a user of no modality.

==============  ====================================================================================
``learned``     weighted average plus what a small network adds to it; the default
``attention``   average with weights that depend on the vectors themselves
``average``     plain mean of the present modalities' three vectors
``concat``      seeded random projection of all twelve: keeps inner products between users
                (Johnson and Lindenstrauss 1984), but leaves the shared space: no prototype is near
==============  ====================================================================================
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.errors import UsageError
from features.schema import EMBEDDING_DIM, HALF_LIVES_S, Modality
from models import checkpoint, space

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

FusionKind = Literal["learned", "concat", "average", "attention"]
KINDS: Final[tuple[str, ...]] = get_args(FusionKind)
ARCHITECTURE: Final = "fusion-1"
MODALITY_COUNT: Final = len(Modality)
HORIZONS: Final = len(HALF_LIVES_S) + 1
"""Vectors per modality: a decayed mean for each half-life, and the newest event."""
HIDDEN: Final = 128
_PROJECTION_SEED: Final = 77


class FusionError(UsageError):
    """A fusion that does not exist, or input of another shape than it reads."""


class Fusion(Protocol):
    """What turns the modalities of users into their vectors."""

    kind: str
    fingerprint: str
    """Hex sha256 of everything that makes its vectors; part of profile_space."""

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """float32 [n, 4, 3, 64] and bool [n, 4] → float32 [n, 64], each row on its own.

        Raises FusionError for other shapes.
        """


class LearnedFusion(nn.Module):
    """Weighted average of the present vectors, corrected by a two-layer network."""

    def __init__(self) -> None:
        super().__init__()
        width = MODALITY_COUNT * HORIZONS * EMBEDDING_DIM + MODALITY_COUNT
        self.weights = nn.Parameter(torch.zeros(MODALITY_COUNT, HORIZONS))
        self.hidden = nn.Linear(width, HIDDEN)
        self.out = nn.Linear(HIDDEN, EMBEDDING_DIM)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[n, 4, 3, 64], [n, 4] as 0 and 1 → [n, 64], not yet of unit length."""
        shares = F.softplus(self.weights) * mask[:, :, None]
        mean = (features * shares[..., None]).sum((1, 2)) / shares.sum((1, 2)).clamp_min(1e-6)[:, None]
        hidden = F.relu(self.hidden(torch.cat((features.flatten(1), mask), 1)))
        fused: Tensor = mean + self.out(hidden)
        return fused


class AttentionFusion(nn.Module):
    """Average whose weights are a softmax over what a query finds in each vector."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(MODALITY_COUNT, HORIZONS))
        self.key = nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)
        self.query = nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[n, 4, 3, 64], [n, 4] as 0 and 1 → [n, 64], not yet of unit length.

        The query is the plain mean: what agrees with the others may weigh more, or less.
        """
        present = mask[:, :, None].expand(-1, -1, HORIZONS).flatten(1)
        vectors = features.flatten(1, 2)
        mean = (vectors * present[..., None]).sum(1) / present.sum(1).clamp_min(1)[:, None]
        scores = (self.key(vectors) * self.query(mean)[:, None]).sum(2) + self.place.flatten()
        shares = scores.masked_fill(present == 0, -1e9).softmax(1) * present
        fused: Tensor = (vectors * shares[..., None]).sum(1)
        return fused


class NetworkFusion:
    """A trained kind, with weights from a checkpoint."""

    def __init__(self, kind: str, path: str | Path | None = None, sha256: str | None = None) -> None:
        self.kind = kind
        weights, config = checkpoint.load(
            path or checkpoint.WEIGHTS_DIR / "fusion.safetensors", sha256, ARCHITECTURE
        )
        mine = {n.removeprefix(f"{kind}."): t for n, t in weights.items() if n.startswith(f"{kind}.")}
        self.fingerprint = checkpoint.fingerprint(mine, config | {"kind": kind})
        self._network: nn.Module = LearnedFusion() if kind == "learned" else AttentionFusion()
        self._network.load_state_dict({name: t.float() for name, t in mine.items()})
        self._network.eval()

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """See :class:`Fusion`."""
        features, mask = _checked(features, mask)
        with torch.inference_mode():
            fused = self._network(torch.from_numpy(features), torch.from_numpy(mask.astype(np.float32)))
        return space.unit(fused.numpy() * mask.any(1, keepdims=True))


class AverageFusion:
    """The mean of the present modalities, each the mean of its three vectors."""

    kind = "average"
    fingerprint = hashlib.sha256(b"fusion average 1").hexdigest()

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """See :class:`Fusion`."""
        features, _ = _checked(features, mask)
        return space.unit(features.sum(axis=(1, 2)))


class ConcatFusion:
    """A fixed random projection of the concatenated modalities."""

    kind = "concat"
    fingerprint = hashlib.sha256(f"fusion concat 1 seed {_PROJECTION_SEED}".encode()).hexdigest()

    def __init__(self) -> None:
        width = MODALITY_COUNT * HORIZONS * EMBEDDING_DIM
        gauss = np.random.Generator(np.random.PCG64(_PROJECTION_SEED)).standard_normal((width, EMBEDDING_DIM))
        self._projection = (gauss / np.sqrt(EMBEDDING_DIM)).astype(np.float32)

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """See :class:`Fusion`."""
        features, _ = _checked(features, mask)
        return space.unit(features.reshape(len(features), -1) @ self._projection)


def load_fusion(path: str | Path | None = None, kind: str = "learned", sha256: str | None = None) -> Fusion:
    """The fusion of a kind; ``path`` holds the weights of the trained ones (None: the shipped file).

    Raises FusionError for an unknown kind, CheckpointError for weights that cannot be used.
    """
    if kind == "average":
        return AverageFusion()
    if kind == "concat":
        return ConcatFusion()
    if kind in KINDS:
        return NetworkFusion(kind, path, sha256)
    raise FusionError(
        f"models.fusion_kind: expected one of {list(KINDS)}, got {kind!r}; correct the settings"
    )


def _checked(features: Floats, mask: Bools) -> tuple[Floats, Bools]:
    """Input of the right shapes and dtypes, with zeros where the mask says nothing is there."""
    shape = (len(features), MODALITY_COUNT, HORIZONS, EMBEDDING_DIM)
    if features.shape != shape or mask.shape != shape[:2]:
        raise FusionError(
            f"fusion: expected features {list(shape)} and mask {list(shape[:2])}, "
            f"got {list(features.shape)} and {list(mask.shape)}; use fusion_inputs of features.state"
        )
    mask = np.asarray(mask, bool)
    return np.asarray(features, np.float32) * mask[:, :, None, None], mask

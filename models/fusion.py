"""One vector per user from what each modality says of them.

Input of every kind: ``features`` [n, 4, 3, 64] and ``mask`` [n, 4] (modalities that are there), as
``features.fold.fold.fusion_inputs`` gives them: per modality its part of the user's decayed mean of 10 days,
of 40 days, and its newest event, the weaker the longer it lies behind the user's newest. Length is
evidence: it says how much of the user a modality is. Output: unit vectors [n, 64] of the shared space;
zeros for a user of no modality.

==============  ====================================================================================
``learned``     weighted sum of the parts plus what a small network adds to it; the default
``attention``   sum of the parts with weights that depend on the vectors themselves
``average``     plain sum of the parts: decayed means of all events, and the newest of each modality
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
ARCHITECTURE: Final = "fusion-2"
MODALITY_COUNT: Final = len(Modality)
HORIZONS: Final = len(HALF_LIVES_S) + 1
"""Parts per modality: one of the decayed mean of each half-life, and the newest event."""
HIDDEN: Final = 128
_PROJECTION_SEED: Final = 77
_SOFTPLUS_ONE: Final = 0.5413
"""softplus of it is 1: training starts from the plain sum."""


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
    """Weighted sum of the parts, corrected by a two-layer network."""

    def __init__(self) -> None:
        super().__init__()
        width = MODALITY_COUNT * HORIZONS * EMBEDDING_DIM + MODALITY_COUNT
        self.weights = nn.Parameter(torch.full((MODALITY_COUNT, HORIZONS), _SOFTPLUS_ONE))
        self.hidden = nn.Linear(width, HIDDEN)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(HIDDEN, EMBEDDING_DIM)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[n, 4, 3, 64], [n, 4] as 0 and 1 → [n, 64], not yet of unit length."""
        total = (features * F.softplus(self.weights)[..., None]).sum((1, 2))
        hidden = F.relu(self.hidden(torch.cat((features.flatten(1), mask), 1)))
        fused: Tensor = total + self.out(self.dropout(hidden))
        return fused


class AttentionFusion(nn.Module):
    """Sum of the parts, each by a gate: how what it says agrees with the plain sum, through a learned map."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(MODALITY_COUNT, HORIZONS))
        self.key = nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)
        self.query = nn.Linear(EMBEDDING_DIM, EMBEDDING_DIM)
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """[n, 4, 3, 64], [n, 4] as 0 and 1 → [n, 64], not yet of unit length."""
        parts = features.flatten(1, 2)
        present = mask[:, :, None].expand(-1, -1, HORIZONS).flatten(1)
        query = self.query(F.normalize(parts.sum(1), dim=1))
        scores = (self.key(F.normalize(parts, dim=2)) * query[:, None]).sum(2) + self.place.flatten()
        gates = scores.masked_fill(present == 0, -1e9).softmax(1)
        fused: Tensor = (parts * gates[..., None]).sum(1)
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
    """The sum of all parts."""

    kind = "average"
    fingerprint = hashlib.sha256(b"fusion average 2").hexdigest()

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """See :class:`Fusion`."""
        features, _ = _checked(features, mask)
        return space.unit(features.sum(axis=(1, 2)))


class ConcatFusion:
    """A fixed random projection of the concatenated modalities."""

    kind = "concat"
    fingerprint = hashlib.sha256(f"fusion concat 2 seed {_PROJECTION_SEED}".encode()).hexdigest()

    def __init__(self) -> None:
        width = MODALITY_COUNT * HORIZONS * EMBEDDING_DIM
        gauss = np.random.Generator(np.random.PCG64(_PROJECTION_SEED)).standard_normal((width, EMBEDDING_DIM))
        self._projection = (gauss / np.sqrt(EMBEDDING_DIM)).astype(np.float32)

    def fuse(self, features: Floats, mask: Bools) -> Floats:
        """See :class:`Fusion`."""
        features, _ = _checked(features, mask)
        return space.unit(features.reshape(len(features), len(self._projection)) @ self._projection)


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
            f"got {list(features.shape)} and {list(mask.shape)}; use fusion_inputs of features.fold.fold"
        )
    mask = np.asarray(mask, bool)
    return np.asarray(features, np.float32) * mask[:, :, None, None], mask

"""Photos: a residual network of 64 px pictures into the shared space, with named heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import EMBEDDING_DIM
from models import checkpoint, space
from models.device import require_device
from models.encoder import Encoded
from models.heads import heads_from_config
from models.image_decode import DECODER_VERSION, SIDE_PX, decode_image

ARCHITECTURE: Final = "image-resnet"
WIDTHS: Final = (32, 48, 96, 192)
"""Channels of the stem and of the three stages, at 32, 16, 8 and 4 px."""

CHUNK: Final = 32
"""Pictures per forward pass on a CPU: larger ones fall out of its caches (1,673/s at 32, 1,364/s at 256)."""

_MEAN, _STD = 0.65, 0.3  # rough moments of the training pixels; exact ones change nothing measurable


class _Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut; halves the side."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.short = nn.Conv2d(width_in, width, 1, bias=False)
        self.short_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.short_norm(self.short(F.avg_pool2d(x, 2))))


class ImageNetwork(nn.Module):
    """uint8 pixels ``[n, side, side, 3]`` → features → embedding and one logit vector per head.

    The head ``category`` compares the embedding with the fixed prototypes of the shared space; its last
    label, ``other``, has a logit of its own, so that a picture of no category need not be near any.
    """

    prototypes: Tensor

    def __init__(
        self, head_sizes: Mapping[str, int], widths: Sequence[int] = WIDTHS, dropout: float = 0.2
    ) -> None:
        super().__init__()
        stem, *stages = widths
        self.stem = nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        pairs = zip((stem, *stages), stages, strict=False)
        self.stages = nn.Sequential(*(_Residual(i, o) for i, o in pairs))
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(widths[-1], EMBEDDING_DIM)
        self.other = nn.Linear(widths[-1], 1)
        self.heads = nn.ModuleDict(
            {n: nn.Linear(widths[-1], k) for n, k in head_sizes.items() if n != "category"}
        )
        prototypes = torch.tensor(space.category_prototypes(head_sizes["category"] - 1))
        self.register_buffer("prototypes", prototypes, persistent=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """→ embedding [n, EMBEDDING_DIM] of unit length, logits by head [n, labels]."""
        x = pixels.permute(0, 3, 1, 2).to(self.stem.weight.dtype).div(255).sub(_MEAN).div(_STD)
        x = self.stages(F.relu(self.stem_norm(self.stem(x.contiguous(memory_format=torch.channels_last)))))
        features = self.dropout(x.mean(dim=(2, 3)))
        embedding = F.normalize(self.project(features).float(), dim=1)
        category = torch.cat(
            [space.SCALE * embedding @ self.prototypes.T, self.other(features).float()], dim=1
        )
        return embedding, {"category": category} | {
            n: head(features).float() for n, head in self.heads.items()
        }

    def folded(self) -> ImageNetwork:
        """The same function for inference, with every normalisation folded into its convolution."""
        fuse = torch.nn.utils.fusion.fuse_conv_bn_eval
        self.eval()
        self.stem, self.stem_norm = fuse(self.stem, self.stem_norm), nn.Identity()  # type: ignore[assignment]
        for stage in self.stages:
            for conv, norm in (("conv1", "norm1"), ("conv2", "norm2"), ("short", "short_norm")):
                setattr(stage, conv, fuse(getattr(stage, conv), getattr(stage, norm)))
                setattr(stage, norm, nn.Identity())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        return self


class ImageEncoder:
    """Photos as they come (JPEG, PNG, WebP, GIF bytes) → :class:`models.encoder.Encoded`.

    The embedding is always of unit length; where the head ``category`` says ``other`` it is near no
    category and means nothing. Raises CheckpointError for weights that cannot be used and DeviceError
    for a device that is not there.
    """

    modality = "image"

    def __init__(
        self,
        weights: str | Path = checkpoint.WEIGHTS_DIR / "image.safetensors",
        device: str = "cpu",
        sha256: str | None = None,
    ) -> None:
        self.device = require_device(device)
        state, config = checkpoint.load(weights, sha256, ARCHITECTURE)
        self.fingerprint = checkpoint.fingerprint(state, config)
        self.config: dict[str, Any] = config
        self.heads = heads_from_config(config)
        network = ImageNetwork({n: len(h.labels) for n, h in self.heads.items()}, config["widths"])
        network.load_state_dict(checkpoint.full_precision(state))
        self._network = network.folded().to(self.device)

    def decode(self, content: Any) -> npt.NDArray[np.uint8]:
        """Bytes → uint8 RGB ``[64, 64, 3]``; see :func:`models.image_decode.decode_image`."""
        return decode_image(content)

    def sample_bytes(self, sample: Any) -> int:
        """Bytes of one decoded picture: 12,288."""
        return int(sample.nbytes)

    def encode(self, samples: Sequence[npt.NDArray[np.uint8]]) -> Encoded:
        """uint8 pictures of ``decode`` → embedding and heads, in their order; n may be 0."""
        pixels = torch.from_numpy(
            np.stack(samples) if samples else np.zeros((0, SIDE_PX, SIDE_PX, 3), np.uint8)
        )
        chunks = torch.split(pixels, CHUNK) if self.device == "cpu" else (pixels.to(self.device),)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"),
        ):
            parts = [self._network(chunk) for chunk in chunks]
        embedding = torch.cat([e for e, _ in parts]).cpu().numpy()
        logits = {name: torch.cat([heads[name] for _, heads in parts]).cpu().numpy() for name in self.heads}
        return Encoded(
            embedding,
            {name: head.judge(logits[name]) for name, head in self.heads.items()},
            lang=["none"] * len(samples),
        )


def config_of(heads: Mapping[str, Any], widths: Sequence[int], figures: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's config; see :mod:`models.checkpoint`."""
    return {
        "architecture": ARCHITECTURE,
        "version": 1,
        "preprocessing": DECODER_VERSION,
        "space": space.SPACE_VERSION,
        "side_px": SIDE_PX,
        "widths": list(widths),
        "heads": dict(heads),
        "figures": dict(figures),
    }

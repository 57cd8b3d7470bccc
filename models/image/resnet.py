"""A small residual network over square pictures: the stem shrinks them to 32 px, its blocks to 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.image.network import ImageNetwork

WIDTHS: Final = (32, 48, 96, 96, 192, 192)
"""Channels of the stem and of the blocks; one as wide as that before it keeps the side, others halve it."""
STEM_PX: Final = 32
"""Side after the stem: larger pictures take a longer step, so that they cost next to nothing more."""

_MEAN, _STD = 0.65, 0.3  # rough moments of the training pixels; exact ones change nothing measurable


class _Residual(nn.Module):
    """Two 3x3 convolutions beside what came in; where it widens, it halves the side."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.widens = width != width_in
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=1 + self.widens, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        if self.widens:
            self.short = nn.Conv2d(width_in, width, 1, bias=False)
            self.short_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (self.short_norm(self.short(F.avg_pool2d(x, 2))) if self.widens else x))


class ResNet(ImageNetwork):
    """Residual network; ``side_px`` is 64 or another multiple of 32."""

    def __init__(
        self,
        head_sizes: Mapping[str, int],
        widths: Sequence[int] = WIDTHS,
        side_px: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        stem, *stages = widths
        step = side_px // STEM_PX
        edge = 2 * step - 1  # 3x3 at 64 px, 5x5 at 96 px: neighbouring windows overlap
        self.stem = nn.Conv2d(3, stem, edge, stride=step, padding=edge // 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem)
        pairs = zip((stem, *stages), stages, strict=False)
        self.stages = nn.Sequential(*(_Residual(i, o) for i, o in pairs))
        self.add_heads(head_sizes, widths[-1], dropout)

    def features(self, pixels: Tensor) -> Tensor:
        x = pixels.permute(0, 3, 1, 2).to(self.stem.weight.dtype).div(255).sub(_MEAN).div(_STD)
        x = self.stages(F.relu(self.stem_norm(self.stem(x.contiguous(memory_format=torch.channels_last)))))
        seen: Tensor = x.mean(dim=(2, 3))
        return seen

    def folded(self) -> Self:
        """With every normalisation folded into its convolution."""
        fuse = torch.nn.utils.fusion.fuse_conv_bn_eval
        self.eval()
        self.stem, self.stem_norm = fuse(self.stem, self.stem_norm), nn.Identity()  # type: ignore[assignment]
        for stage in self.stages:
            for conv, norm in (("conv1", "norm1"), ("conv2", "norm2"), ("short", "short_norm")):
                if hasattr(stage, conv):
                    setattr(stage, conv, fuse(getattr(stage, conv), getattr(stage, norm)))
                    setattr(stage, norm, nn.Identity())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
        return self

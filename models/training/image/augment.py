"""How training pictures are changed, so that a network learns garments and not pictures."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN_SHARE: Final = 0.3
GREY_SHARE: Final = 0.15
Range = tuple[float, float]


def augment(pixels: Tensor, natural: Tensor) -> Tensor:
    """uint8 [n, side, side, 3] → float of 0..255: each turned, cut, mirrored, tinted, in part hidden.

    ``natural`` (bool [n]) marks photos as people take them: these are few and differ in what no label
    tells, so they are changed more, and their colours at will.
    """
    x = _move(pixels.permute(0, 3, 1, 2).float(), natural)
    return _hide(_tint(x, natural)).clamp(0, 255).permute(0, 2, 3, 1)


def _draw(natural: Tensor, mild: Range, strong: Range, *shape: int) -> Tensor:
    """[n, *shape] evenly from ``mild``, or from ``strong`` where ``natural``."""
    share = torch.rand(len(natural), *shape, device=natural.device)
    low, high = (
        torch.where(natural, s, m).view(-1, *[1] * len(shape)) for m, s in zip(mild, strong, strict=True)
    )
    return low + share * (high - low)


def _move(x: Tensor, natural: Tensor) -> Tensor:
    """Turned, cut or shrunk, stretched, shifted, mirrored."""
    angle = _draw(natural, (-0.2, 0.2), (-0.3, 0.3))
    scale = _draw(natural, (0.75, 1.15), (0.6, 1.15))
    stretch = _draw(natural, (0.9, 1.1), (0.85, 1.18))
    across, down = (_draw(natural, (-0.15, 0.15), (-0.18, 0.18)) for _ in "xy")
    mirror = torch.where(torch.rand(len(x), device=x.device) < 0.5, -1.0, 1.0)
    top = torch.stack([mirror * scale * stretch * angle.cos(), -scale * angle.sin(), across], 1)
    low = torch.stack([mirror * scale * angle.sin(), scale / stretch * angle.cos(), down], 1)
    grid = F.affine_grid(torch.stack([top, low], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _tint(x: Tensor, natural: Tensor) -> Tensor:
    """Other contrast, light and a little tint; strong tints, or grey, of natural photos."""
    contrast = _draw(natural, (0.8, 1.25), (0.75, 1.3), 1, 1, 1)
    x = (x - 128) * contrast + 128 + _draw(natural, (-25, 25), (-30, 30), 1, 1, 1)
    x = x * _draw(natural, (0.93, 1.07), (0.75, 1.25), 3, 1, 1)
    grey = natural & (torch.rand(len(x), device=x.device) < GREY_SHARE)
    return torch.where(grey[:, None, None, None], x.mean(dim=1, keepdim=True), x)


def _hide(x: Tensor) -> Tensor:
    """A rectangle of some pictures in one colour (Zhong et al. 2020)."""
    side = x.shape[3]
    ruler = torch.arange(side, device=x.device)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(len(x), *shape, device=x.device).uniform_(low, high)

    left, high = uniform(-side / 2, side), uniform(-side / 2, side)
    width, height = uniform(side / 8, side / 2), uniform(side / 8, side / 2)
    across = (ruler >= left[:, None]) & (ruler < (left + width)[:, None])
    down = (ruler >= high[:, None]) & (ruler < (high + height)[:, None])
    chosen = (uniform(0, 1) < HIDDEN_SHARE)[:, None, None]
    return torch.where((down[:, :, None] & across[:, None, :] & chosen)[:, None], uniform(0, 255, 3, 1, 1), x)

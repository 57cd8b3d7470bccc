"""How training pictures are changed, so that a network learns garments and not pictures."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

HIDDEN_SHARE: Final = 0.3
PASTED_SHARE: Final = 0.2
PAPER: Final = 245
"""Level from which on every channel a pixel is the white paper of a catalogue photo."""
MIXED_SHARE: Final = 0.5
_MIX: Final = 0.3


def augment(pixels: Tensor) -> Tensor:
    """uint8 [n, side, side, 3] → each turned, scaled, shifted, mirrored, tinted and in part hidden."""
    n = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=pixels.device).uniform_(low, high)

    x = pixels.permute(0, 3, 1, 2).float()
    angle, scale, stretch = uniform(-0.2, 0.2), uniform(0.75, 1.15), uniform(0.9, 1.1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    top = torch.stack([mirror * scale * stretch * angle.cos(), -scale * angle.sin(), uniform(-0.15, 0.15)], 1)
    low = torch.stack([mirror * scale * angle.sin(), scale / stretch * angle.cos(), uniform(-0.15, 0.15)], 1)
    grid = F.affine_grid(torch.stack([top, low], 1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = (x - 128) * uniform(0.8, 1.25, 1, 1, 1) + 128 + uniform(-25, 25, 1, 1, 1)
    x = x * uniform(0.93, 1.07, 3, 1, 1)
    x = _hide(x)
    return x.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def augment_hard(pixels: Tensor, any_colour: Tensor) -> Tensor:
    """uint8 [n, side, side, 3] → float of 0..255: each laid on another ground, turned, cut, tinted, hidden.

    For natural photos: catalogue photos come to look more like them.

    ``any_colour`` (bool [n]) marks pictures whose colour is not asked for: these are tinted at will.
    """
    x = _paste(pixels.permute(0, 3, 1, 2).float())
    x = _tint(_move(x), any_colour)
    return _hide(x).clamp(0, 255).permute(0, 2, 3, 1)


def mix(pixels: Tensor) -> tuple[Tensor, Tensor, float]:
    """A batch blended with itself in another order (mixup, Zhang et al. 2018) → pixels, order, own share."""
    order = torch.randperm(len(pixels), device=pixels.device)
    if float(torch.rand(())) >= MIXED_SHARE:
        return pixels, order, 1.0
    share = float(torch.distributions.Beta(_MIX, _MIX).sample())
    return pixels * share + pixels[order] * (1 - share), order, share


def _uniform(x: Tensor, low: float, high: float, *shape: int) -> Tensor:
    return torch.empty(len(x), *shape, device=x.device).uniform_(low, high)


def _paste(x: Tensor) -> Tensor:
    """Some catalogue photos on another picture of the batch instead of white paper."""
    chosen = (_uniform(x, 0, 1) < PASTED_SHARE)[:, None, None, None]
    paper = x.amin(dim=1, keepdim=True) >= PAPER
    return torch.where(chosen & paper, x[torch.randperm(len(x), device=x.device)], x)


def _move(x: Tensor) -> Tensor:
    """Turned by 0.3 rad at most, cut to 60 % at most, stretched, shifted, mirrored."""
    angle, scale, stretch = _uniform(x, -0.3, 0.3), _uniform(x, 0.6, 1.15), _uniform(x, 0.85, 1.18)
    mirror = torch.where(_uniform(x, 0, 1) < 0.5, -1.0, 1.0)
    across, down = _uniform(x, -0.18, 0.18), _uniform(x, -0.18, 0.18)
    top = torch.stack([mirror * scale * stretch * angle.cos(), -scale * angle.sin(), across], 1)
    low = torch.stack([mirror * scale * angle.sin(), scale / stretch * angle.cos(), down], 1)
    grid = F.affine_grid(torch.stack([top, low], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _tint(x: Tensor, any_colour: Tensor) -> Tensor:
    """Other contrast, light and a little tint; strong tints or grey where the colour is not asked for."""
    x = (x - 128) * _uniform(x, 0.75, 1.3, 1, 1, 1) + 128 + _uniform(x, -30, 30, 1, 1, 1)
    free = any_colour[:, None, None, None]
    x = x * torch.where(free, _uniform(x, 0.75, 1.25, 3, 1, 1), _uniform(x, 0.93, 1.07, 3, 1, 1))
    grey = free & (_uniform(x, 0, 1) < 0.15)[:, None, None, None]
    return torch.where(grey, x.mean(dim=1, keepdim=True), x)


def _hide(x: Tensor) -> Tensor:
    """A rectangle of some pictures in one colour (Zhong et al. 2020)."""
    side = x.shape[3]
    ruler = torch.arange(side, device=x.device)
    left, high = _uniform(x, -side / 2, side), _uniform(x, -side / 2, side)
    width, height = _uniform(x, side / 8, side / 2), _uniform(x, side / 8, side / 2)
    across = (ruler >= left[:, None]) & (ruler < (left + width)[:, None])
    down = (ruler >= high[:, None]) & (ruler < (high + height)[:, None])
    chosen = (_uniform(x, 0, 1) < HIDDEN_SHARE)[:, None, None]
    return torch.where(
        (down[:, :, None] & across[:, None, :] & chosen)[:, None], _uniform(x, 0, 255, 3, 1, 1), x
    )

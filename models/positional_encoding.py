"""Where in a sequence a step stands, as Transformers are told it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoids(length: int, dim: int) -> Tensor:
    """[length, dim] float32: sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5).

    Scaled to a tenth, the size of the embeddings that they are added to. ``dim`` is even.
    """
    place = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10_000) / dim))
    return torch.stack((torch.sin(place * rate), torch.cos(place * rate)), 2).flatten(1) / 10

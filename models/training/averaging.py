"""Running average of a network's weights: what is judged and shipped instead of the last step's."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def blend(average: nn.Module, network: nn.Module, step: int, keep: float) -> None:
    """Move ``average`` towards ``network``; the plain mean at first, of about 1 / (1 - keep) steps later."""
    share = max(1 - keep, 1 / (step + 1))
    with torch.no_grad():
        for old, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if old.is_floating_point():
                old.lerp_(new, share)
            else:
                old.copy_(new)


def as_shipped(network: Network) -> Network:
    """The network on the CPU with weights rounded to fp16, as a checkpoint keeps them, ready to be judged."""
    network = network.to("cpu").eval()
    network.load_state_dict(
        {name: t.half().float() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    )
    return network

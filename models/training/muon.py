"""Muon for the kernels of convolutions and AdamW for everything else, as one optimiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Kernels ``[out, in, high, wide]`` take orthogonal steps, as matrices ``[out, in * high * wide]``.

    Both are torch's (Jordan et al. 2024; Loshchilov & Hutter 2019). Each has a parameter group of its own,
    kernels first; a network without convolutions has only the other.
    """

    def __init__(self, network: nn.Module, kernels_lr: float, lr: float, weight_decay: float) -> None:
        self._kernels = [p for p in network.parameters() if p.dim() == 4]
        self._matrices = [nn.Parameter(k.detach().flatten(1)) for k in self._kernels]  # the same storage
        rest = [p for p in network.parameters() if p.dim() != 4]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            self._parts.append(torch.optim.Muon(self._matrices, kernels_lr, weight_decay))
        self._parts.append(torch.optim.AdamW(rest, lr, weight_decay=weight_decay))
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter along its gradient."""
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every gradient."""
        for parameter in self._kernels:
            parameter.grad = None
        super().zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """What both remember."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a ``state_dict``."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]

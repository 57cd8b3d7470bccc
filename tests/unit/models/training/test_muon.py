"""Orthogonal steps of kernels beside AdamW's of everything else."""

from __future__ import annotations

import torch
from torch import nn

from models.training.muon import MuonAdamW

KERNELS_LR, LR, DECAY = 0.02, 4e-3, 0.1


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(72, 2))


def _learn(network: nn.Sequential, *optimisers: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    for _ in range(3):
        network.zero_grad()
        torch.autograd.backward(network(torch.randn(4, 3, 5, 5)).square().mean())
        for optimiser in optimisers:
            optimiser.step()


def test_a_kernel_moves_as_the_matrix_of_its_outputs_by_its_inputs() -> None:
    network = _network()
    kernel = next(network.parameters())
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    optimiser = MuonAdamW(network, KERNELS_LR, LR, DECAY)
    (kernel.square().sum() + matrix.square().sum()).backward()  # type: ignore[no-untyped-call]
    for steps in (optimiser, torch.optim.Muon([matrix], KERNELS_LR, DECAY)):
        steps.step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach())
    assert not torch.equal(kernel, next(_network().parameters()))


def test_what_is_no_kernel_moves_as_adamw_says() -> None:
    both, one = _network(), _network()
    _learn(both, MuonAdamW(both, 0.0, LR, DECAY))
    rest = [p for p in one.parameters() if p.dim() != 4]
    _learn(one, torch.optim.AdamW(rest, LR, weight_decay=DECAY))
    torch.testing.assert_close(both.state_dict(), one.state_dict())


def test_a_network_without_kernels_is_learned_too() -> None:
    network = nn.Sequential(nn.Linear(4, 2))
    optimiser = MuonAdamW(network, KERNELS_LR, LR, DECAY)
    weight = next(network.parameters())
    before = weight.detach().clone()
    torch.autograd.backward(network(torch.ones(1, 4)).sum())
    optimiser.step()
    assert len(optimiser.param_groups) == 1
    assert not torch.equal(weight, before)


def test_no_gradient_is_left_after_it_is_forgotten() -> None:
    network = _network()
    optimiser = MuonAdamW(network, KERNELS_LR, LR, DECAY)
    torch.autograd.backward(network(torch.randn(4, 3, 5, 5)).square().mean())
    optimiser.zero_grad()
    assert all(p.grad is None for p in network.parameters())


def test_what_it_remembers_goes_on_elsewhere() -> None:
    whole, parts = _network(), _network()
    first = MuonAdamW(parts, KERNELS_LR, LR, DECAY)
    steady = MuonAdamW(whole, KERNELS_LR, LR, DECAY)
    for network, optimiser in ((whole, steady), (parts, first)):
        _learn(network, optimiser)
    second = MuonAdamW(parts, KERNELS_LR, LR, DECAY)
    second.load_state_dict(first.state_dict())
    _learn(whole, steady)
    _learn(parts, second)
    torch.testing.assert_close(whole.state_dict(), parts.state_dict(), rtol=0, atol=0)

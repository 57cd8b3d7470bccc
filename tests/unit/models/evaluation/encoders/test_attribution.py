"""What is marked is what counts: completeness of gradients, occlusion of a known function, deletion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models.evaluation.encoders.attribution import (
    deletion_curve,
    deletion_test,
    grid_regions,
    integrated_gradients,
    occlusion,
)

WEIGHTS = np.array([0.0, 3.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0])


def _score(samples: Sequence[Any]) -> npt.NDArray[np.float64]:
    scores: npt.NDArray[np.float64] = np.stack(samples) @ WEIGHTS / WEIGHTS.sum()
    return scores


def _hide(hidden: np.ndarray) -> np.ndarray:
    return (~hidden).astype(float)


def test_integrated_gradients_share_out_the_whole_difference() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).double()
    sample, blank = torch.randn(12).double(), torch.zeros(12).double()

    def score(batch: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = network(batch)[:, 0]
        return scores

    shares = integrated_gradients(score, sample, blank, steps=256)
    difference = float((score(sample[None]) - score(blank[None])).detach())
    assert shares.shape == sample.shape
    assert float(shares.sum()) == pytest.approx(difference, abs=1e-4)


def test_integrated_gradients_of_a_linear_function_are_its_terms() -> None:
    weights = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    sample, blank = torch.tensor([[3.0, 1.0], [2.0, -1.0]]), torch.ones(2, 2)
    shares = integrated_gradients(lambda x: (x * weights).sum((1, 2)), sample, blank, steps=1)
    torch.testing.assert_close(shares, (sample - blank) * weights)


def test_occlusion_finds_the_weights_of_an_additive_score() -> None:
    np.testing.assert_allclose(occlusion(_score, _hide, 10), WEIGHTS / WEIGHTS.sum())
    assert len(occlusion(_score, _hide, 0)) == 0


def test_hiding_what_was_marked_costs_more_than_hiding_at_random() -> None:
    rng = np.random.default_rng(0)
    marked, random = deletion_test(_score, _hide, occlusion(_score, _hide, 10), rng, draws=20)
    np.testing.assert_allclose(marked, [1, 0.5, 1 / 6, 0, 0], atol=1e-9)
    assert marked[0] == random[0] == 1
    assert (marked[1:] < random[1:] - 0.2).all()


def test_marks_that_mean_nothing_do_not_pass_the_deletion_test() -> None:
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(60):
        marked, random = deletion_test(_score, _hide, rng.random(10), rng)
        gaps.append((random - marked)[1:].mean())
    assert abs(np.mean(gaps)) < 0.05


def test_least_important_first_keeps_the_score() -> None:
    curve = deletion_curve(_score, _hide, -WEIGHTS)
    np.testing.assert_allclose(curve, 1.0)


def test_cells_of_a_grid_cover_a_picture_evenly() -> None:
    cells = grid_regions(64, 96, 8, 8)
    assert sorted(np.bincount(cells.ravel()).tolist()) == [96] * 64
    assert np.bincount(grid_regions(10, 10, 3, 3).ravel()).min() >= 9

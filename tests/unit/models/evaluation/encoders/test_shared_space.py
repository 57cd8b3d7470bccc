"""What brings modalities together: titles as targets of photos, and the control that was kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from models import space
from models.evaluation.encoders.separate_space import own_targets, separate_embeddings
from models.training.image.titles import TitleTargets

pytestmark = pytest.mark.usefixtures("one_thread")


TITLES = np.array(["red shoe", "", "blue dress", "red shoe", "hat"], np.str_)
PLACES = {"": 9, "blue dress": 0, "hat": 1, "red shoe": 2}


def _embed(titles: Sequence[str]) -> npt.NDArray[np.float32]:
    return space.category_prototypes(10)[[PLACES[t] for t in titles]]


def test_a_photo_at_its_title_costs_least() -> None:
    targets = TitleTargets(TITLES, _embed)
    pictures = np.array([0, 2, 4])
    right = torch.from_numpy(_embed(["red shoe", "blue dress", "hat"]))
    wrong = torch.from_numpy(_embed(["hat", "red shoe", "blue dress"]))
    assert float(targets.loss(right, pictures)) < 0.01 < float(targets.loss(wrong, pictures))


def test_products_of_one_title_do_not_push_each_other_away() -> None:
    targets = TitleTargets(TITLES, _embed)
    at = torch.from_numpy(_embed(["red shoe", "red shoe", "hat"]))
    best = float(targets.loss(at, np.array([0, 3, 4])))
    apart = at.clone()
    apart[1] = torch.from_numpy(_embed(["blue dress"])[0])
    assert best < float(targets.loss(apart, np.array([0, 3, 4])))


def test_pictures_without_a_title_and_blanks_are_left_out() -> None:
    targets = TitleTargets(TITLES, _embed)
    embedding = torch.from_numpy(_embed(["red shoe", "hat", "hat"]))
    assert float(targets.loss(embedding, np.array([1, 5, 99]))) == 0
    assert not TitleTargets(TITLES, None).used
    assert float(TitleTargets(TITLES, None).loss(embedding, np.array([0, 2, 4]))) == 0
    assert not TitleTargets(np.array(["", ""]), _embed).used


def _features(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    categories = rng.integers(0, 4, n)
    features = np.eye(4, 12)[categories] * 3 + rng.normal(0, 0.3, (n, 12))
    return features.astype(np.float32), categories


def test_a_space_of_its_own_is_good_within_and_meaningless_between() -> None:
    features, categories = _features(0)
    unseen, wanted = _features(1)
    here, there = (separate_embeddings(features, categories, unseen, seed) for seed in (1, 2))
    np.testing.assert_allclose(np.linalg.norm(here, axis=1), 1, atol=1e-5)
    assert np.mean((here @ own_targets(4, 1).T).argmax(1) == wanted) > 0.95
    nearest = np.argsort(-(here @ here.T), axis=1)[:, :10]
    assert np.mean(wanted[nearest] == wanted[:, None]) > 0.95
    across = np.abs([here[wanted == c].mean(0) @ there[wanted == c].mean(0) for c in range(4)])
    assert across.max() < 0.6
    again = separate_embeddings(features, categories, unseen, 1)
    np.testing.assert_array_equal(again, here)

"""Fusion: any subset of modalities gives a vector, each user on their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import EMBEDDING_DIM
from models import checkpoint, space
from models.fusion import KINDS, FusionError, load_fusion
from models.training.fusion.train import ranking

FUSIONS = {kind: load_fusion(kind=kind) for kind in KINDS}


def users(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n users with random unit vectors; user i has the modalities of the bits of i."""
    rng = np.random.default_rng(seed)
    mask = (np.arange(n)[:, None] >> np.arange(4)) & 1 > 0
    features = space.unit(rng.normal(size=(n, 4, 3, EMBEDDING_DIM)))
    return features * mask[:, :, None, None], mask


@pytest.mark.parametrize("kind", KINDS)
def test_every_subset_of_modalities_gives_a_unit_vector_and_none_gives_zeros(kind: str) -> None:
    fused = FUSIONS[kind].fuse(*users(16))
    assert fused.shape == (16, EMBEDDING_DIM)
    assert fused.dtype == np.float32
    np.testing.assert_array_equal(fused[0], 0)
    np.testing.assert_allclose(np.linalg.norm(fused[1:], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_is_nobody(kind: str) -> None:
    features, mask = users(0)
    assert FUSIONS[kind].fuse(features, mask).shape == (0, EMBEDDING_DIM)


@pytest.mark.parametrize("kind", KINDS)
@given(order=st.permutations(range(16)))
def test_a_users_vector_depends_on_nobody_else(kind: str, order: list[int]) -> None:
    features, mask = users(16)
    together = FUSIONS[kind].fuse(features, mask)
    shuffled = FUSIONS[kind].fuse(features[order], mask[order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    alone = FUSIONS[kind].fuse(features[order[:1]], mask[order[:1]])
    np.testing.assert_allclose(alone[0], together[order[0]], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_mask_hides_has_no_say(kind: str) -> None:
    features, mask = users(16)
    noise = space.unit(np.random.default_rng(9).normal(size=features.shape))
    hidden = np.where(mask[:, :, None, None], features, noise)
    np.testing.assert_array_equal(FUSIONS[kind].fuse(hidden, mask), FUSIONS[kind].fuse(features, mask))


@pytest.mark.parametrize("kind", ["learned", "attention", "average"])
@pytest.mark.parametrize("modality", [0, 1, 2])
def test_a_user_of_one_taste_in_one_modality_lands_at_its_prototype(kind: str, modality: int) -> None:
    prototypes = space.category_prototypes(12)
    features, mask = np.zeros((12, 4, 3, EMBEDDING_DIM), np.float32), np.zeros((12, 4), bool)
    features[:, modality], mask[:, modality] = prototypes[:, None], True
    fused = FUSIONS[kind].fuse(features, mask)
    np.testing.assert_array_equal((fused @ prototypes.T).argmax(1), np.arange(12))


def test_each_kind_and_each_weights_file_has_its_own_fingerprint(tmp_path: Path) -> None:
    assert len({fusion.fingerprint for fusion in FUSIONS.values()}) == len(KINDS)
    weights, config = checkpoint.load(checkpoint.WEIGHTS_DIR / "fusion.safetensors")
    checkpoint.save(
        tmp_path / "f.safetensors", weights | {"learned.out.bias": weights["learned.out.bias"] + 1}, config
    )
    assert load_fusion(tmp_path / "f.safetensors").fingerprint != FUSIONS["learned"].fingerprint
    other = load_fusion(tmp_path / "f.safetensors", "attention").fingerprint
    assert other == FUSIONS["attention"].fingerprint


def test_the_fixed_projection_keeps_inner_products_roughly() -> None:
    features, _ = users(200, seed=1)
    everyone = np.ones((200, 4), bool)
    features = space.unit(np.random.default_rng(2).normal(size=features.shape))
    fused = FUSIONS["concat"].fuse(features, everyone)
    before = space.unit(features.reshape(200, -1))
    error = fused @ fused.T - before @ before.T
    assert float(np.abs(error[~np.eye(200, dtype=bool)]).mean()) < 2 / np.sqrt(EMBEDDING_DIM)


def test_an_unknown_kind_and_wrong_shapes_are_refused() -> None:
    with pytest.raises(FusionError, match=r"models\.fusion_kind: expected one of .* got 'max'"):
        load_fusion(kind="max")
    features, mask = users(4)
    with pytest.raises(FusionError, match=r"expected features \[4, 4, 3, 64\]"):
        FUSIONS["average"].fuse(features[:, :3], mask)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.MissingWeightsError, match=r"none\.safetensors"):
        load_fusion(tmp_path / "none.safetensors")


def test_ranking_counts_places_from_one_and_shares_ties() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]], np.float32)
    figures = ranking(scores, np.array([0, 2, 1]))
    assert figures["hit@1"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["hit@3"] == 1
    assert figures["ndcg"] == pytest.approx((1 + 0.5 + 1 / np.log2(3)) / 3, abs=1e-4)

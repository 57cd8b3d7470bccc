"""Training users for fusion: told anew from pools, weighted by age, split by user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.packed_state import Spaces, empty_states
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, HALF_LIVES_S, NO_TAG, Modality
from features.taxonomy import load_taxonomy
from models import space
from models.training.fusion.data import tell, user_split
from models.training.fusion.train import fit_fusions, judge

TAXONOMY = load_taxonomy()
PROTOTYPES = space.category_prototypes(len(TAXONOMY.first_level))
SETS = {"text": "text_zh_online_shopping", "image": "img_grocery", "voice": "aud_dspspeech20"}
DAY_MS = 86_400_000
START_US = 1_700_000_000_000_000


pytestmark = pytest.mark.usefixtures("one_thread")


def _pools(noise: float = 0.0) -> dict[tuple[str, str, str], np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        (dataset, category, split): space.unit(PROTOTYPES[i] + noise * rng.normal(size=(8, EMBEDDING_DIM)))
        for dataset in SETS.values()
        for i, category in enumerate(TAXONOMY.first_level)
        for split in ("dev", "test")
    }


def _event(day: float, modality: str, category: str) -> dict[str, Any]:
    return {"ts_ms": int(day * DAY_MS), "modality": modality, "dataset": SETS[modality], "category": category}


def _user_of(split: str) -> str:
    return next(user for user in map("u{}".format, range(1000)) if user_split(user) == split)


def test_a_moment_holds_decayed_means_and_the_newest_event_before_it() -> None:
    user = _user_of("train")
    events = [
        _event(0, "text", "books"),
        _event(10, "text", "hotel"),
        _event(15, "image", "fruit"),
        {"ts_ms": 20 * DAY_MS, "category": "dairy"},
    ]
    moments = tell({user: events}, "train", _pools(), TAXONOMY, seed=0)
    assert moments.following.tolist() == [TAXONOMY.first_level.index(c) for c in ("fruit", "dairy")]
    assert moments.last.tolist() == [False, True]
    assert moments.mask.tolist() == [[True, False, False, False], [True, True, False, False]]
    books, hotel, fruit = (PROTOTYPES[TAXONOMY.first_level.index(c)] for c in ("books", "hotel", "fruit"))
    for h, half_life_s in enumerate(HALF_LIVES_S):
        weight = 0.5 ** (np.array([15, 5, 0]) * 86_400 / half_life_s)
        text = (weight[0] * books + weight[1] * hotel) / weight.sum()
        np.testing.assert_allclose(moments.features[1, Modality.TEXT, h], text, atol=1e-5)
        np.testing.assert_allclose(moments.features[1, Modality.IMAGE, h], fruit / weight.sum(), atol=1e-5)
    np.testing.assert_allclose(moments.features[1, Modality.TEXT, -1], 0.5**0.5 * hotel, atol=1e-5)
    np.testing.assert_allclose(moments.features[1, Modality.IMAGE, -1], fruit, atol=1e-5)
    np.testing.assert_array_equal(moments.features[0, Modality.IMAGE], 0)


def test_moments_are_what_the_fold_makes_of_the_same_events() -> None:
    user = _user_of("train")
    events = [
        _event(d, m, c) for d, m, c in ((0, "text", "books"), (3, "voice", "hotel"), (50, "text", "fruit"))
    ]
    moments = tell(
        {user: [*events, {"ts_ms": 51 * DAY_MS, "category": "dairy"}]}, "train", _pools(), TAXONOMY, 0
    )
    packed = np.zeros(3, EVENT_DTYPE)
    packed["event_time_us"] = [START_US + e["ts_ms"] * 1000 for e in events]
    packed["record_time_us"] = packed["event_time_us"]
    packed["offset"] = packed["event_key"] = packed["content_key"] = range(1, 4)
    packed["modality"] = [Modality[e["modality"].upper()] for e in events]
    packed["tag"], packed["sentiment"] = NO_TAG, np.nan
    packed["embedding"] = [PROTOTYPES[TAXONOMY.first_level.index(e["category"])] for e in events]
    spaces, policy = Spaces(1, 2, 3), FoldPolicy()
    states = fold(
        empty_states(1, spaces), np.zeros(3, np.int64), packed, policy, int(packed["event_time_us"][-1])
    ).states
    features, mask = fusion_inputs(states, policy)
    np.testing.assert_array_equal(moments.mask[-1], mask[0])
    np.testing.assert_allclose(moments.features[-1], features[0], atol=1e-3)  # states keep fp16 embeddings


def test_only_the_users_of_a_split_are_told() -> None:
    events = [_event(d, "voice", "books") for d in range(4)]
    streams = {_user_of(split): events for split in ("train", "dev", "test")}
    for split in ("train", "dev", "test"):
        assert set(tell(streams, split, _pools(), TAXONOMY, 0).user.tolist()) == {_user_of(split)}


def _streams(users: int) -> dict[str, list[dict[str, Any]]]:
    rng = np.random.default_rng(1)
    streams = {}
    for u in range(users):
        likes = rng.choice(TAXONOMY.first_level)
        days = np.sort(rng.uniform(0, 60, 8))
        streams[f"u{u}"] = [
            _event(
                day,
                str(rng.choice(list(SETS))),
                likes if rng.random() < 0.8 else str(rng.choice(TAXONOMY.first_level)),
            )
            for day in days
        ] + [{"ts_ms": 61 * DAY_MS, "category": likes}]
    return streams


def test_what_is_learned_finds_a_planted_taste_and_trains_alike_twice(tmp_path: Path) -> None:
    streams, pools = _streams(90), _pools(0.1)
    train = [tell(streams, "train", pools, TAXONOMY, 0)]
    dev, test = (tell(streams, s, pools, TAXONOMY, 1) for s in ("dev", "test"))
    for name in ("a", "b"):
        fit_fusions(tmp_path / name, train, dev, {}, torch.from_numpy(PROTOTYPES.copy()), print)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    figures = judge(tmp_path / "a", train[0], test, PROTOTYPES)
    assert figures["fusion learned"]["by prototypes"]["ndcg"] > 0.9
    assert figures["fusion learned"]["by prototypes"]["ndcg"] > figures["popular"]["ndcg"]
    assert figures["users"] == len(set(test.user.tolist()))

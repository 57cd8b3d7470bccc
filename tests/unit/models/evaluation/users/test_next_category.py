"""Users in the report: streams folded as the pipeline folds them, and measures that mean what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from features.schema import DAY_S, EMBEDDING_DIM, HALF_LIVES_S
from models import space
from models.evaluation.encoders.shared_space import precision
from models.evaluation.users.ablations import _corrupted, _flooded, _redelivered, _repeated
from models.evaluation.users.identity_leakage import halves_meet, nearest_is_same
from models.evaluation.users.interests import category_vectors, interleaved, retrieval
from models.evaluation.users.next_category import by_linear, ndcg
from models.evaluation.users.streams import Streams, decayed, inputs, moments, newest
from models.training.fusion.train import ranking

CLASSES = 6
DAY_US = DAY_S * 1_000_000


def _streams(users: int = 12, seed: int = 0) -> Streams:
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, 9, users)
    user = np.repeat(np.arange(users), counts)
    time_us = np.concatenate([np.sort(rng.integers(1, 90 * DAY_US, n)) for n in counts])
    category = rng.integers(0, CLASSES, len(user))
    noise = 0.2 * rng.normal(size=(len(user), EMBEDDING_DIM))
    return Streams(
        np.array([f"u{i:03}" for i in range(users)]),
        user,
        time_us + 1_700_000_000_000_000,
        rng.integers(0, 3, len(user)),
        space.unit(space.category_prototypes(CLASSES)[category] + noise),
        category,
        np.array([f"p{i % 4}" for i in user]),
        rng.integers(0, CLASSES, users),
        rng.random(users) < 0.5,
    )


def test_the_last_moment_of_a_user_is_what_the_fold_makes_of_all_events() -> None:
    streams = _streams()
    told, seen = moments(streams, np.ones(12, bool))
    features, mask = inputs(streams)
    last = np.flatnonzero(told.last)[np.argsort(told.user[told.last])]
    np.testing.assert_array_equal(told.user[last], streams.users)
    np.testing.assert_allclose(told.features[last], features, atol=1e-5)
    np.testing.assert_array_equal(told.mask[last], mask)
    np.testing.assert_array_equal(told.following[last], streams.following)
    np.testing.assert_array_equal(seen[last], np.bincount(streams.user))


def test_an_earlier_moment_knows_nothing_of_what_came_later() -> None:
    streams = _streams()
    told, seen = moments(streams, np.ones(12, bool))
    first = streams.of(streams.place < 2)
    features, _ = inputs(first)
    early = np.flatnonzero(seen == 2)
    np.testing.assert_allclose(told.features[early], features, atol=1e-5)
    np.testing.assert_array_equal(told.following[early], streams.category[streams.place == 2])


def test_only_the_users_asked_for_are_told() -> None:
    streams = _streams()
    told, _ = moments(streams, np.arange(12) < 3)
    assert set(told.user.tolist()) == {"u000", "u001", "u002"}


def test_the_modalities_parts_add_up_to_the_decayed_mean() -> None:
    streams = _streams()
    features, _ = inputs(streams)
    for place, half_life_s in enumerate(HALF_LIVES_S):
        whole = decayed(streams, streams.vector, half_life_s)
        np.testing.assert_allclose(features[:, :, place].sum(1), whole, atol=2e-3)  # states keep fp16
    np.testing.assert_array_equal(newest(streams, streams.vector)[0], streams.vector[streams.user == 0][-1])


def test_without_decay_the_mean_is_the_plain_one() -> None:
    streams = _streams()
    mean = decayed(streams, streams.vector, np.inf)
    np.testing.assert_allclose(mean[3], streams.vector[streams.user == 3].mean(0), atol=1e-6)


def test_gain_is_the_ranking_that_training_reports() -> None:
    rng = np.random.default_rng(0)
    scores, wanted = rng.normal(size=(50, CLASSES)).astype(np.float32), rng.integers(0, CLASSES, 50)
    found = ranking(scores, wanted)
    assert ndcg(scores, wanted).mean() == pytest.approx(found["ndcg"], abs=1e-4)
    assert ndcg(scores, wanted, 3).mean() == pytest.approx(found["hit@3"], abs=1e-4)
    assert ndcg(np.zeros((4, 3)), np.zeros(4, int)) == pytest.approx(1 / np.log2(1 + 2))


def test_a_linear_reading_never_sees_the_users_it_judges() -> None:
    rng = np.random.default_rng(0)
    vectors = np.eye(40, dtype=np.float32)  # every user's vector is known by heart, and says nothing
    wanted = rng.integers(0, 2, 40)
    scores = by_linear(vectors, wanted, np.arange(40) % 5, 2)
    assert np.ptp(scores[np.arange(40) % 5 == 0], axis=0).max() < 1e-4


def test_spoiled_streams_are_spoiled_as_they_say() -> None:
    streams, rng = _streams(), np.random.default_rng(0)
    other = _corrupted(streams, 0.5, rng)
    changed = (other.vector != streams.vector).any(1)
    assert 0.3 < changed.mean() < 0.7
    said = (other.vector @ space.category_prototypes(CLASSES).T).argmax(1)
    assert (said[changed] != streams.category[changed]).mean() > 0.9
    thrice = _repeated(streams, 1.0, rng)
    assert len(thrice.user) == 3 * len(streams.user)
    flooded = _flooded(streams, 4, rng)
    assert (np.bincount(flooded.user) - np.bincount(streams.user) == 4).all()
    assert (np.diff(flooded.time_us)[np.diff(flooded.user) == 0] >= 0).all()
    for user in range(12):
        (added,) = set(flooded.category[flooded.user == user][-4:].tolist())
        assert added != streams.following[user]


def test_what_is_delivered_twice_changes_nothing() -> None:
    assert _redelivered(_streams()).rows == [["every event delivered twice with the same id", 0.0]]


def test_interests_do_not_depend_on_the_order_of_events() -> None:
    streams = _streams()
    order = np.lexsort((-streams.time_us, streams.user))
    turned = replace(streams.of(order), user=streams.user[order], time_us=streams.time_us[order])
    for a, b in zip(
        category_vectors(streams, streams.category, CLASSES),
        category_vectors(turned, turned.category, CLASSES),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_stronger_interests_list_more_and_each_lists_its_nearest() -> None:
    centres = space.category_prototypes(CLASSES)
    items = np.repeat(centres, 60, axis=0)
    listed = interleaved(items, centres, np.array([3.0, 1.0, 0, 0, 0, 0], np.float32), 2)
    shown = np.bincount(listed // 60, minlength=CLASSES)
    assert len(set(listed.tolist())) == len(listed) == 50
    assert shown[2:].sum() == 0
    assert shown[0] in (37, 38)


def test_a_list_that_shows_what_was_wanted_is_perfect() -> None:
    wanted = np.array([3.0, 2.0, 0.0])
    precision_, found, gain = retrieval(np.array([0, 0, 1]), wanted)
    assert (precision_, found) == (1, 1)
    assert gain == pytest.approx(1)
    precision_, found, gain = retrieval(np.array([2, 2, 0, 0]), wanted)
    assert (precision_, found) == (0.5, 0.6)
    assert gain < 0.7


def test_a_person_in_every_vector_is_found_and_one_in_none_is_not() -> None:
    rng = np.random.default_rng(0)
    person = np.repeat([f"p{i}" for i in range(10)], 8)
    label = np.tile(["a", "b"], 40)
    own = space.unit(rng.normal(size=(10, 16)).repeat(8, axis=0) + 0.1 * rng.normal(size=(80, 16)))
    blind = space.unit(rng.normal(size=(80, 16)))
    for among in (None, label):
        hit, chance = nearest_is_same(own, person, among)
        assert hit.mean() == 1.0
        assert 0.05 < chance.mean() < 0.12
        assert nearest_is_same(blind, person, among)[0].mean() < 0.3
    assert halves_meet(own, person, label).tolist() == [1.0] * 10
    assert halves_meet(blind, person, label).mean() < 0.5


def test_a_person_with_nothing_else_to_find_is_not_asked_about() -> None:
    hit, chance = nearest_is_same(np.eye(3), np.array(["a", "b", "b"]))
    assert len(hit) == 2
    assert np.isnan(chance[0])


def test_what_is_nearest_of_another_modality_is_of_the_querys_category() -> None:
    labels = np.array([str(i % CLASSES) for i in range(120)])
    vectors = space.category_prototypes(CLASSES)[np.arange(120) % CLASSES]
    assert precision(vectors, labels, vectors, labels).mean() == 1.0
    assert precision(vectors, labels, np.roll(vectors, 1, axis=0), labels).mean() == 0.0


def test_a_content_is_not_its_own_neighbour() -> None:
    labels, vectors = np.array([str(i) for i in range(12)]), np.eye(12, dtype=np.float32)
    assert precision(vectors, labels, vectors, labels).mean() == pytest.approx(0.1)
    assert precision(vectors, labels, vectors, labels, skip_self=True).mean() == 0.0

"""How much of who somebody is lies in vectors of what they like: the same person found again.

High figures are bad. Trivial features stand beside: what they reach is there to be leaked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.schema import HALF_LIVES_S, Modality
from models import space
from models.evaluation.encoders.content import Item, read_items, taxonomy_of
from models.evaluation.encoders.image import colour_histogram
from models.evaluation.encoders.voice import mean_spectrum
from models.evaluation.statistics import mean_estimate
from models.evaluation.step import Context, Section, Step, Table
from models.evaluation.users.amazon import FILE as AMAZON_FILE
from models.evaluation.users.amazon import rare_word_vectors, read_reviews, review_vectors
from models.evaluation.users.next_category import fused, user_folds
from models.evaluation.users.streams import (
    EVENTS_FILE,
    NEXT_FILE,
    VECTORS,
    Streams,
    decayed,
    inputs,
    read_streams,
)
from models.image.decode import decode_image
from models.registry import LOADERS
from models.training.voice.data import MelOf
from models.voice.decode import decode_voice

Floats = npt.NDArray[np.floating]
Names = npt.NDArray[np.str_]

PERSONAL: Final = {"image": "img_clothing_user_photos", "voice": "aud_dspspeech20"}
"""Sets whose content has a known person."""


def leakage_steps() -> tuple[Step, ...]:
    """Persons in vectors of photos and clips and in profiles; reviewers in vectors of texts."""
    needs = (*(f"users-{modality}" for modality in LOADERS), "users-fit")
    code = (
        "models.evaluation.users.streams",
        "models.evaluation.users.next_category",
        "models.evaluation.statistics",
    )
    files = (EVENTS_FILE, NEXT_FILE, *(f"{name}.parquet" for name in PERSONAL.values()))
    return (
        Step("leakage", "Identity leakage: speakers and senders", _persons, files, (), code, needs, 60),
        Step(
            "leakage-text", "Identity leakage: reviewers", _reviewers, (AMAZON_FILE,), ("text",), code, (), 20
        ),
    )


def _persons(ctx: Context) -> Section:
    streams = read_streams(ctx)
    rows: list[list[Any]] = []
    trivial: dict[str, dict[str, Floats]] = {}
    for modality, dataset in PERSONAL.items():
        items, vectors = _content(ctx, modality, dataset)
        plain = np.stack([_feature(modality)(i.content) for i in items])
        trivial[modality] = {i.ref: f for i, f in zip(items, plain, strict=True)}
        names = "colour histogram" if modality == "image" else "mean spectrum"
        for what, v in (("event embedding, out of fold", vectors), (names, plain)):
            rows += _found_again(
                modality, what, _scaled(v) if what == names else v, items, ctx.budget.repeats
            )
    events = Table(
        "From single contents",
        ["content", "feature", "search", "queries", "persons", "same person first", "chance"],
        rows,
        "Nearest neighbour of a content among all others, or among those of the same label; halves: the mean "
        "vector of half of a person's content (other words, other photos) among those of the other halves.",
    )
    return Section([events, _profiles(ctx, streams, trivial)], figures={"rows": rows})


def _content(ctx: Context, modality: str, dataset: str) -> tuple[list[Item], Floats]:
    """The joined users' content of a set, and its vectors out of fold."""
    with np.load(ctx.folders[f"users-{modality}"] / VECTORS) as arrays:
        place = {key: i for i, key in enumerate(arrays["key"].tolist())}
        vectors = arrays["out_of_fold"]
    items = [
        i
        for i in read_items(ctx.data, modality, taxonomy_of(ctx.data))
        if i.dataset == dataset and f"{dataset}|{i.ref}" in place
    ]
    return items, vectors[[place[f"{dataset}|{i.ref}"] for i in items]]


def _feature(modality: str) -> Callable[[bytes], Floats]:
    if modality == "image":
        return lambda content: colour_histogram(decode_image(content))
    mel_of = MelOf()
    return lambda content: mean_spectrum(mel_of, decode_voice(content))


def _scaled(features: Floats) -> Floats:
    """Features at mean 0 and variance 1, unit rows: cosines mean something."""
    return space.unit((features - features.mean(0)) / np.maximum(features.std(0), 1e-6))


def _found_again(
    modality: str, what: str, vectors: Floats, items: Sequence[Item], repeats: int
) -> list[list[Any]]:
    person = np.array([i.group for i in items])
    label = np.array([next(iter(i.labels.values()), "") for i in items])
    rows: list[list[Any]] = []
    for search, among in (("all", None), ("same label", label)):
        hit, chance = nearest_is_same(vectors, person, among)
        estimate = mean_estimate(hit, person[np.isfinite(chance)], repeats)
        chance = chance[np.isfinite(chance)]
        rows.append(
            [modality, what, search, len(hit), len(set(person.tolist())), estimate, float(chance.mean())]
        )
    hits = halves_meet(vectors, person, label)
    rows.append(
        [
            modality,
            what,
            "halves",
            len(hits),
            len(hits),
            mean_estimate(hits, None, repeats),
            1 / max(len(hits), 1),
        ]
    )
    return rows


def nearest_is_same(vectors: Floats, person: Names, label: Names | None = None) -> tuple[Floats, Floats]:
    """Whether each row's nearest other row is of its person, and how often chance would have it so.

    With ``label``, only rows of the same label are searched. Rows whose person has no other row there have
    a chance of NaN and no verdict.
    """
    same = person[:, None] == person[None, :]
    there = ~np.eye(len(person), dtype=bool)
    if label is not None:
        there &= label[:, None] == label[None, :]
    cosines = np.where(there, vectors @ vectors.T, -np.inf)
    answerable = (same & there).any(1)
    chance = np.where(answerable, (same & there).sum(1) / np.maximum(there.sum(1), 1), np.nan)
    hit = same[np.arange(len(person)), cosines.argmax(1)]
    return hit[answerable].astype(np.float64), chance


def halves_meet(vectors: Floats, person: Names, label: Names) -> Floats:
    """[persons]: is the first half of a person's content nearest to the second half of the same person?

    Halves hold other labels where a person has several (other words), else alternate.
    """
    halves: list[tuple[Floats, Floats]] = []
    for who in np.unique(person):
        mine = np.flatnonzero(person == who)
        names, code = np.unique(label[mine], return_inverse=True)
        side = (code if len(names) > 1 else np.arange(len(mine))) % 2
        if (side == 0).any() and (side == 1).any():
            halves.append((vectors[mine[side == 0]].mean(0), vectors[mine[side == 1]].mean(0)))
    if not halves:
        return np.zeros(0)
    first, second = (space.unit(np.stack(side)) for side in zip(*halves, strict=True))
    hits: Floats = ((first @ second.T).argmax(1) == np.arange(len(first))).astype(np.float64)
    return hits


def _profiles(ctx: Context, streams: Streams, trivial: dict[str, dict[str, Floats]]) -> Table:
    """Is the most similar other user one whose content is of the same sender or speaker?"""
    features, mask = inputs(streams)
    vectors = fused(ctx, "learned", features, mask, user_folds(streams))
    rows: list[list[Any]] = []
    for modality in trivial:
        m = Modality[modality.upper()]
        theirs = streams.of((streams.modality == m) & (streams.person != ""))
        users, first = np.unique(theirs.user, return_index=True)
        person = theirs.person[first]
        own = space.unit(decayed(theirs, theirs.vector, HALF_LIVES_S[1]))[users]
        noise = space.unit(decayed(theirs, _noise_of_contents(theirs.vector), HALF_LIVES_S[1]))[users]
        for what, v in (
            ("fused vector", vectors[users]),
            (f"{modality} vector of the profile", own),
            (f"{modality}: mean of a random vector for each content", noise),
        ):
            hit, chance = nearest_is_same(v, person)
            estimate = mean_estimate(hit, None, ctx.budget.repeats)
            rows.append(
                [modality, what, len(hit), len(np.unique(person)), estimate, float(np.nanmean(chance))]
            )
    return Table(
        "From profiles",
        ["person behind", "vector", "users", "persons", "same person first", "chance"],
        rows,
        "Several simulated users share a sender or speaker: is the most similar other user one of them? They "
        "often share the very photo or clip too; what random vectors of contents reach is due to that alone.",
    )


def _noise_of_contents(vectors: Floats) -> npt.NDArray[np.float32]:
    """[n, 64]: random unit vectors, equal where the contents' vectors are."""
    content = np.unique(vectors, axis=0, return_inverse=True)[1].ravel()
    noise = np.random.default_rng(0).standard_normal((int(content.max()) + 1, vectors.shape[1]))
    return space.unit(noise)[content]


def _reviewers(ctx: Context) -> Section:
    rows, texts = read_reviews(ctx)
    person = np.array([row["user_id"] for row in rows])
    label = np.array([str(i) for i in range(len(rows))])
    found: list[list[Any]] = []
    for what, v in (
        ("event embedding", review_vectors(ctx, texts)),
        ("TF-IDF, 64 d", rare_word_vectors(texts)),
    ):
        hit, chance = nearest_is_same(v, person)
        n = len(np.unique(person))
        estimate = mean_estimate(hit, person, ctx.budget.repeats)
        found.append([what, "all", len(hit), n, estimate, float(np.nanmean(chance))])
        hits = halves_meet(v, person, np.full(len(label), ""))
        found.append([what, "halves", len(hits), n, mean_estimate(hits, None, ctx.budget.repeats), 1 / n])
    columns = ["feature", "search", "queries", "persons", "same person first", "chance"]
    note = "A reviewer's products are alike too, so part of this is taste, not style."
    return Section([Table("Same reviewer", columns, found, note)])

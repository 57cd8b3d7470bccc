"""What profiles are worth when content is taken away, spoiled, repeated or flooded, or memory is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any, Final

import numpy as np

from features.fold.fold import FoldPolicy, fusion_inputs
from features.schema import DAY_S, HALF_LIVES_S, MODALITIES
from models import space
from models.evaluation.encoders.content import taxonomy_of
from models.evaluation.statistics import mean_estimate, paired
from models.evaluation.step import Context, Section, Step, Table
from models.evaluation.users.next_category import by_linear, fused, ndcg, user_folds
from models.evaluation.users.streams import (
    EVENTS_FILE,
    NEXT_FILE,
    Floats,
    Streams,
    decayed,
    folded,
    inputs,
    newest,
    read_streams,
)
from models.registry import LOADERS

DAYS: Final = (1, 2, 5, 10, 20, 40, 80, 160)
PAIRS: Final = ((2, 10), (5, 20), (10, 40), (20, 80), (40, 160))
"""Half-lives in days: alone, and as the two of a profile."""
_CODE: Final = (
    "models.evaluation.users.streams",
    "models.evaluation.users.next_category",
    "models.evaluation.statistics",
    "features.fold.fold",
)


def ablation_steps() -> tuple[Step, ...]:
    """Half-lives, and everything else that is changed about the streams."""
    needs = (*(f"users-{modality}" for modality in LOADERS), "users-fit")
    make = partial(Step, files=(EVENTS_FILE, NEXT_FILE), code=_CODE, needs=needs)
    return (
        make("half-lives", "Joined users: half-lives", _half_lives, seconds=60),
        make(
            "ablations", "Joined users: what is removed, spoiled, repeated, flooded", _ablations, seconds=60
        ),
    )


def _prototypes(ctx: Context) -> Floats:
    return space.category_prototypes(len(taxonomy_of(ctx.data).first_level))


def _half_lives(ctx: Context) -> Section:
    streams, prototypes, repeats = read_streams(ctx), _prototypes(ctx), ctx.budget.repeats
    folds, wanted, classes = user_folds(streams), streams.following, len(prototypes)
    alone: list[list[Any]] = []
    for days in (*DAYS, np.inf):
        vector = decayed(streams, streams.vector, days * DAY_S)
        gains = [ndcg(vector @ prototypes.T, wanted), ndcg(by_linear(vector, wanted, folds, classes), wanted)]
        name = "no decay" if days == np.inf else f"{days} days"
        alone.append([name, *(mean_estimate(g, None, repeats) for g in gains), *_by_drift(gains[0], streams)])
    pairs: list[list[Any]] = []
    reference: Floats | None = None
    for short, long in sorted(PAIRS, key=lambda p: (p[0] * DAY_S, p[1] * DAY_S) != HALF_LIVES_S):
        features, mask = inputs(streams, (short * DAY_S, long * DAY_S))
        average = ndcg(fused(ctx, "average", features, mask, folds) @ prototypes.T, wanted)
        parts = np.concatenate(list(features.sum(1).transpose(1, 0, 2)), axis=1)
        linear = ndcg(by_linear(parts, wanted, folds, classes), wanted)
        reference = average if reference is None else reference
        gap = paired(average, reference, None, repeats)
        estimates = [mean_estimate(g, None, repeats) for g in (average, linear)]
        difference = {"value": gap.difference, "low": gap.low, "high": gap.high}
        pairs.append([f"{short} and {long} days", *estimates, difference, gap.p])
    curve = [(float(d), row[1].value) for d, row in zip(DAYS, alone, strict=False)]
    plot = {"kind": "lines", "title": "NDCG by half-life", "x": "half-life, days", "y": "NDCG by prototypes"}
    flat = [(float(d), alone[-1][1].value) for d in (DAYS[0], DAYS[-1])]
    lines = {"decayed mean": curve, "no decay": flat}
    return Section(
        [
            Table(
                "One half-life",
                ["half-life", "NDCG by prototypes", "NDCG by linear", "drifted users", "steady users"],
                alone,
                "Decayed mean of all events, any modality.",
            ),
            Table(
                "The two half-lives of a profile",
                [
                    "half-lives",
                    "NDCG, fusion average",
                    "NDCG, linear on the parts",
                    "against the default",
                    "p",
                ],
                pairs,
                "The default comes first. The simulation rewards recency: it cannot say what suits real "
                "shoppers; see the Amazon users.",
            ),
        ],
        [plot | {"scale": "log", "lines": lines}],
    )


def _by_drift(gain: Floats, streams: Streams) -> list[float | None]:
    return [
        float(gain[streams.drifted == d].mean()) if (streams.drifted == d).any() else None
        for d in (True, False)
    ]


def _ablations(ctx: Context) -> Section:
    streams, rng = read_streams(ctx), np.random.default_rng(4)
    clean = _gains(ctx, streams)
    section = Section()
    rows: list[list[Any]] = []
    for m, name in enumerate(MODALITIES[:3]):
        rows += _compare(ctx, f"without {name}", streams.of(streams.modality != m), clean)
    for m, name in enumerate(MODALITIES[:3]):
        rows += _compare(ctx, f"only {name}", streams.of(streams.modality == m), clean)
    for share in (0.1, 0.2, 0.4):
        rows += _compare(
            ctx, f"{share:.0%} of events show something else", _corrupted(streams, share, rng), clean
        )
    rows += _compare(ctx, "30 % of events sent three times with new ids", _repeated(streams, 0.3, rng), clean)
    for count in (1, 5, 20, 100):
        name = f"{count} event{'s' if count > 1 else ''} of one other category at the end"
        rows += _compare(ctx, name, _flooded(streams, count, rng), clean)
    columns = ["what is done", "vector", "users", "NDCG", "against clean", "p"]
    note = "By prototypes; the fusion was fitted on clean streams of other users. Same users on both sides."
    section.tables.append(Table("Ablations", columns, rows, note))
    section.tables.append(_redelivered(streams))
    section.tables.append(_spammer(ctx, streams, rng))
    return section


def _gains(ctx: Context, streams: Streams) -> dict[str, Floats]:
    """NDCG of every user by vector; NaN for users without an event."""
    features, mask = inputs(streams)
    prototypes = _prototypes(ctx)
    vectors = {kind: fused(ctx, kind, features, mask, user_folds(streams)) for kind in ("learned", "average")}
    vectors["decayed mean, 10 days"] = decayed(streams, streams.vector, HALF_LIVES_S[0])
    vectors["newest event"] = newest(streams, streams.vector)
    there = mask.any(1)
    return {n: np.where(there, ndcg(v @ prototypes.T, streams.following), np.nan) for n, v in vectors.items()}


def _compare(ctx: Context, name: str, streams: Streams, clean: dict[str, Floats]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for vector, gain in _gains(ctx, streams).items():
        both = np.isfinite(gain)
        gap = paired(gain[both], clean[vector][both], None, ctx.budget.repeats)
        difference = {"value": gap.difference, "low": gap.low, "high": gap.high}
        mean = mean_estimate(gain[both], None, ctx.budget.repeats)
        rows.append([name, vector, int(both.sum()), mean, difference, gap.p])
    return rows


def _corrupted(streams: Streams, share: float, rng: np.random.Generator) -> Streams:
    """That share of events holds the content of another event of the modality, of another category."""
    vector = streams.vector.copy()
    for i in np.flatnonzero(rng.random(len(vector)) < share):
        others = np.flatnonzero(
            (streams.modality == streams.modality[i]) & (streams.category != streams.category[i])
        )
        vector[i] = streams.vector[rng.choice(others)]
    return replace(streams, vector=vector)


def _repeated(streams: Streams, share: float, rng: np.random.Generator) -> Streams:
    """That share of events comes three times, as a producer without ids would send it."""
    times = np.where(rng.random(len(streams.user)) < share, 3, 1)
    return _rows(streams, np.repeat(np.arange(len(times)), times))


def _rows(streams: Streams, places: Any) -> Streams:
    columns = {f.name for f in fields(streams)} - {"users", "following", "drifted"}
    return replace(streams, **{name: getattr(streams, name)[places] for name in columns})


def _flooded(streams: Streams, count: int, rng: np.random.Generator) -> Streams:
    """Each user ends with ``count`` events of one category that is not the one that comes next."""
    last = np.searchsorted(streams.user, np.arange(len(streams.users)), side="right") - 1
    added = []
    for who, end in enumerate(last):
        wanted = rng.choice(np.setdiff1d(np.unique(streams.category), [streams.following[who]]))
        pool = np.flatnonzero(streams.category == wanted)
        added.append(
            (np.full(count, who), rng.choice(pool, count), streams.time_us[end] + np.arange(1, count + 1))
        )
    user, source, time_us = (np.concatenate(parts) for parts in zip(*added, strict=True))
    order = np.argsort(np.concatenate([streams.user, user]), kind="stable")
    merged = _rows(streams, np.concatenate([np.arange(len(streams.user)), source])[order])
    return replace(
        merged,
        user=np.concatenate([streams.user, user])[order],
        time_us=np.concatenate([streams.time_us, time_us])[order],
    )


def _redelivered(streams: Streams) -> Table:
    """Every event once more with its id: nothing may change."""
    policy = FoldPolicy()
    once = fusion_inputs(folded(streams, policy), policy)[0]
    twice = fusion_inputs(folded(streams, policy, repeated=2), policy)[0]
    row = ["every event delivered twice with the same id", float(np.abs(once - twice).max())]
    return Table("Redelivery", ["what is done", "largest change of any user's inputs"], [row])


def _spammer(ctx: Context, streams: Streams, rng: np.random.Generator) -> Table:
    """One user sends 10,000 events of one category: what others see of it."""
    count = 10_000
    pool = np.flatnonzero(streams.category == streams.category[0])
    where = np.searchsorted(streams.user, 0, side="right")
    places = np.insert(np.arange(len(streams.user)), where, rng.choice(pool, count))
    spam = _rows(streams, places)
    user, time_us = spam.user.copy(), spam.time_us.copy()
    user[where : where + count] = 0
    time_us[where : where + count] = streams.time_us[where - 1] + np.arange(1, count + 1)
    spam = replace(spam, user=user, time_us=time_us)
    before, after = inputs(streams)[0], inputs(spam)[0]
    spammed = int(streams.category[0])

    def share(of: Callable[[Streams], Any]) -> list[float]:
        return [float(of(s)[spammed] / of(s).sum()) for s in (streams, spam)]

    classes = len(_prototypes(ctx))
    by_event = share(lambda s: np.bincount(s.category, minlength=classes))
    by_user = share(
        lambda s: np.bincount(np.unique(s.user * classes + s.category) % classes, minlength=classes)
    )
    rows: list[list[Any]] = [
        ["largest change of another user's inputs", 0.0, float(np.abs(before - after)[1:].max())],
        ["share of the category in popularity by events", *by_event],
        ["share of the category in popularity by users", *by_user],
    ]
    note = f"User 1 of {len(streams.users)} sends {count} events of one category. Count users, not events."
    return Table("Spam by one user", ["measure", "before", "after"], rows, note)

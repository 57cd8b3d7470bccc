"""What comes next? Every way to make one vector of a user, judged on users that nothing was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression

from features.schema import DAY_S, HALF_LIVES_S, MODALITIES
from models import space
from models.evaluation.encoders.content import taxonomy_of
from models.evaluation.statistics import Paired, holm, mean_estimate, paired
from models.evaluation.step import Budget, Context, Section, Step, Table
from models.evaluation.users.streams import (
    EVENTS_FILE,
    NEXT_FILE,
    Bools,
    Floats,
    Ints,
    Streams,
    decayed,
    inputs,
    moments,
    newest,
    one_hot,
    read_streams,
)
from models.fusion import KINDS, load_fusion
from models.registry import LOADERS
from models.training.fusion.train import fit_fusions

FOLDS: Final = 5
"""Of users: each is judged by fusions and classifiers that were fitted on the others."""
TRAINED: Final = ("learned", "attention")
MAIN: Final = "fusion learned"
_CODE: Final = (
    "models.evaluation.users.streams",
    "models.fusion",
    "models.training.fusion.train",
    "models.evaluation.statistics",
)

Gains = dict[str, Floats]
"""Method → NDCG of each user."""


def user_steps(budget: Budget) -> tuple[Step, ...]:
    """Fitting by user folds; the table out of fold; the table of shipped encoders beside it."""
    needs = tuple(f"users-{modality}" for modality in LOADERS)
    make = partial(Step, files=(EVENTS_FILE, NEXT_FILE), code=_CODE)
    fits = ("users-fit",)
    return (
        make("users-fit", "users: fusions by user fold", _fit, needs=needs, seconds=260, shown=False),
        make(
            "users",
            "Joined users: what comes next, out of fold",
            partial(_table, "out_of_fold"),
            needs=(*needs, *fits),
            seconds=60,
        ),
        make(
            "users-in-sample",
            "Joined users: the same with the shipped encoders (in sample)",
            partial(_table, "shipped"),
            needs=(*needs, *fits),
            seconds=60,
        ),
    )


def user_folds(streams: Streams) -> Ints:
    """[u] fold of each user, by a fixed shuffle."""
    folds: Ints = np.random.default_rng(9).permutation(len(streams.users)) % FOLDS
    return folds


def fusion_file(ctx: Context, fold: int, seed: int) -> Path:
    """Weights of the trained kinds, fitted without the users of a fold."""
    return ctx.folders["users-fit"] / f"fusion-{fold}-{seed}.safetensors"


def _fit(ctx: Context) -> Section:
    streams = read_streams(ctx)
    told, _ = moments(streams, np.ones(len(streams.users), bool))
    fold_of = dict(zip(streams.users.tolist(), user_folds(streams).tolist(), strict=True))
    fold = np.array([fold_of[user] for user in told.user])
    tuning = np.array([hash_of(user) % 8 == 0 for user in told.user])
    prototypes = torch.from_numpy(_prototypes(ctx).copy())
    for k in range(FOLDS):
        train = _some(told, (fold != k) & ~tuning)
        dev = _some(told, (fold != k) & tuning)
        for seed in range(ctx.budget.fusion_seeds):
            ctx.say(f"users: fusions without users of fold {k + 1} of {FOLDS}, seed {seed}")
            file = ctx.folder / f"fusion-{k}-{seed}.safetensors"
            fit_fusions(file, [train], dev, {}, prototypes, lambda _: None, seed)
    return Section(figures={"moments": len(fold), "users": len(streams.users)})


def hash_of(user: str) -> int:
    """A number that depends on the name alone."""
    return int.from_bytes(user.encode()[-4:], "big") * 2_654_435_761 % 2**32 >> 8


def _some(told: Any, mask: Bools) -> Any:
    return type(told)(*(getattr(told, name)[mask] for name in told.__annotations__))


def _prototypes(ctx: Context) -> Floats:
    return space.category_prototypes(len(taxonomy_of(ctx.data).first_level))


def ndcg(scores: npt.NDArray[np.floating], wanted: Ints, k: int | None = None) -> Floats:
    """[n]: 1 / log2(1 + rank of the wanted column), or with ``k`` whether it is among the first k.

    Columns of equal score share their mean rank.
    """
    own = scores[np.arange(len(wanted)), wanted][:, None]
    rank = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    gain: Floats = (rank <= k).astype(np.float32) if k else (1 / np.log2(1 + rank)).astype(np.float32)
    return gain


def by_linear(vectors: Floats, wanted: Ints, folds: Ints, classes: int) -> Floats:
    """Scores [u, classes] of a linear classifier on other users' vectors: what a vector holds at all."""
    scores = np.zeros((len(vectors), classes), np.float32)
    for k in np.unique(folds):
        train = folds != k
        scale = float(np.sqrt(np.square(vectors[train]).mean())) or 1.0
        model = LogisticRegression(C=0.1, max_iter=500, tol=1e-3).fit(vectors[train] / scale, wanted[train])  # type: ignore[no-untyped-call]
        scores[np.ix_(folds == k, model.classes_)] = model.predict_log_proba(vectors[folds == k] / scale)
        missing = np.setdiff1d(np.arange(classes), model.classes_)
        scores[np.ix_(folds == k, missing)] = -99.0
    return scores


def fused(ctx: Context, kind: str, features: Floats, mask: Bools, folds: Ints, seed: int = 0) -> Floats:
    """[u, 64]: every user fused by weights fitted on the other folds' users."""
    vectors = np.zeros((len(features), features.shape[-1]), np.float32)
    for k in range(FOLDS):
        mine = folds == k
        fusion = load_fusion(fusion_file(ctx, k, seed) if kind in TRAINED else None, kind)
        vectors[mine] = fusion.fuse(features[mine], mask[mine])
    return vectors


def _table(which: str, ctx: Context) -> Section:
    streams, classes = read_streams(ctx, which), len(taxonomy_of(ctx.data).first_level)
    folds, wanted = user_folds(streams), streams.following
    features, mask = inputs(streams)
    vectors = _vectors(streams)
    for kind in KINDS:
        vectors[f"fusion {kind}"] = fused(ctx, kind, features, mask, folds)
    for m, name in enumerate(MODALITIES[:3]):
        alone = mask & (np.arange(mask.shape[1]) == m)
        vectors[f"only {name}, fusion learned"] = fused(ctx, "learned", features, alone, folds)
    scores: dict[str, Mapping[str, Floats]] = {"popular": {"linear": _popular(streams, folds, classes)}}
    for name, v in vectors.items():
        scores[name] = {"linear": by_linear(v, wanted, folds, classes)}
        if v.shape[1] == features.shape[-1]:
            scores[name] = {"prototypes": v @ _prototypes(ctx).T, **scores[name]}
    truth = one_hot(streams.category, classes)
    known = [decayed(streams, truth, h) for h in HALF_LIVES_S]
    ceiling = np.concatenate([*known, newest(streams, truth)], axis=1)
    scores["true labels (ceiling)"] = {"linear": by_linear(ceiling, wanted, folds, classes)}
    section = _judged(ctx, scores, wanted, streams)
    section.tables.append(_seeds(ctx, features, mask, folds, wanted))
    section.notes.append(_NOTES[which])
    return section


_NOTES: Final = {
    "out_of_fold": "Content, labels and persons are real; which user likes what, when, and what a spoken "
    "word stands for are simulated: a score says how well a planted preference is recovered. Every vector "
    "comes from an encoder that saw neither the item nor its title, sender or speaker.",
    "shipped": "The shipped encoders were trained on most of this content: the figures show how much too "
    "good that looks, and are no estimate for new users.",
}


def _vectors(streams: Streams) -> dict[str, Floats]:
    """Vectors without anything fitted."""
    v = streams.vector
    short, long = (decayed(streams, v, h) for h in HALF_LIVES_S)
    parts = [
        decayed(streams.of(streams.modality == m), streams.of(streams.modality == m).vector, HALF_LIVES_S[0])
        for m in range(3)
    ]
    return {
        "newest event": newest(streams, v),
        "mean pool": decayed(streams, v, np.inf),
        f"decayed mean, {HALF_LIVES_S[0] // DAY_S} days": space.unit(short),
        f"decayed mean, {HALF_LIVES_S[1] // DAY_S} days": space.unit(long),
        "[decay 10 | decay 40 | newest]": np.concatenate([short, long, newest(streams, v)], axis=1),
        "concatenated decayed means by modality": np.concatenate([space.unit(p) for p in parts], axis=1),
    }


def _popular(streams: Streams, folds: Ints, classes: int) -> Floats:
    scores = np.zeros((len(folds), classes), np.float32)
    for k in range(FOLDS):
        scores[folds == k] = np.bincount(streams.following[folds != k], minlength=classes)
    return scores


def _judged(
    ctx: Context, scores: Mapping[str, Mapping[str, Floats]], wanted: Ints, streams: Streams
) -> Section:
    """Tables of gains with intervals, and of paired tests of the default against the others."""
    repeats = ctx.budget.repeats
    gains: Gains = {}
    rows: list[list[Any]] = []
    for name, readings in scores.items():
        for reading, s in readings.items():
            gain = ndcg(s, wanted)
            gains[f"{name} ({reading})"] = gain
            hits = [mean_estimate(ndcg(s, wanted, k), None, repeats) for k in (1, 3)]
            split = [
                float(gain[streams.drifted == d].mean()) if (streams.drifted == d).any() else None
                for d in (True, False)
            ]
            rows.append([name, reading, len(wanted), *hits, mean_estimate(gain, None, repeats), *split])
    columns = ["user vector", "read by", "users", "hit@1", "hit@3", "NDCG", "NDCG, drifted", "NDCG, steady"]
    note = (
        "Prototypes: cosines to the category prototypes, as profiles are used. Linear: a classifier fitted "
        "on the vectors of other users. Brackets: 95 % bootstrap over users."
    )
    table, tests = _against(gains, repeats)
    section = Section([Table("Next category", columns, rows, note), table])
    section.figures = {name: mean_estimate(gain, None, repeats) for name, gain in gains.items()}
    section.figures["paired"] = tests
    return section


def _against(gains: Gains, repeats: int) -> tuple[Table, dict[str, Paired]]:
    main = f"{MAIN} (prototypes)"
    best: dict[str, str] = {}  # method → its better reading
    for name, gain in gains.items():
        method = name.rsplit(" (", 1)[0]
        if method != MAIN and (method not in best or gain.mean() > gains[best[method]].mean()):
            best[method] = name
    tests = {name: paired(gains[main], gains[name], None, repeats) for name in best.values()}
    corrected = holm([t.p for t in tests.values()])
    found = {
        name.rsplit(" (", 1)[0]: t._replace(p=p)
        for (name, t), p in zip(tests.items(), corrected, strict=True)
    }
    rows = [
        [f"{main} - {name}", {"value": t.difference, "low": t.low, "high": t.high}, t.p, p]
        for (name, t), p in zip(tests.items(), corrected, strict=True)
    ]
    note = (
        "NDCG of the same users; the other method in its better reading. p: sign flips; Holm over the rows."
    )
    return Table(
        "Paired tests of the default", ["difference", "NDCG", "p", "p after Holm"], rows, note
    ), found


def _seeds(ctx: Context, features: Floats, mask: Bools, folds: Ints, wanted: Ints) -> Table:
    rows: list[list[Any]] = []
    for kind in TRAINED:
        means = [
            float(ndcg(fused(ctx, kind, features, mask, folds, seed) @ _prototypes(ctx).T, wanted).mean())
            for seed in range(ctx.budget.fusion_seeds)
        ]
        spread = f" ± {np.std(means, ddof=1):.4f}" if len(means) > 1 else ""
        rows.append([f"fusion {kind}", len(means), f"{np.mean(means):.4f}{spread}"])
    return Table("Seeds of the trained fusions", ["user vector", "seeds", "NDCG by prototypes"], rows)

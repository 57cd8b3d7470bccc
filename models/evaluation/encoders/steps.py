"""The steps that every modality goes through: trainings, baselines, summary, explained verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.evaluation.encoders.content import Item, folds_of, standard_splits
from models.evaluation.encoders.predictions import (
    Key,
    Subsets,
    Verdicts,
    joined,
    load_verdicts,
    save_verdicts,
    verdicts,
)
from models.evaluation.encoders.retrain import VERDICTS, fold_names, items_of, seed_names, training_steps
from models.evaluation.encoders.summary import summarise
from models.evaluation.step import Budget, Context, Section, Step

Predict = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_], int], npt.NDArray[Any]]
"""(places to fit on, places to judge, seed) → labels said there."""
Baseline = Callable[[Sequence[Item], str], Predict]
"""(items with a label of the head, head) → what fits and predicts."""


@dataclass(frozen=True)
class Modality:
    """What differs between texts, photos and voices in these steps."""

    name: str
    files: tuple[str, ...]
    baselines: Mapping[str, Baseline]
    baseline_heads: tuple[str, ...]
    explain: Callable[[Context], Section]
    plots: tuple[Key, ...]
    """Heads whose confusion, calibration and coverage are drawn."""
    subsets: Subsets
    by_language: bool
    """Whether a baseline is fitted for each language alone."""
    baseline_s: float
    """Seconds of all baselines on one core."""


_CODE: Final = (
    "models.evaluation.encoders.content",
    "models.evaluation.encoders.predictions",
    "models.evaluation.statistics",
)


def steps_of(m: Modality, budget: Budget) -> tuple[Step, ...]:
    """All steps of a modality, in an order that respects their needs."""
    name = m.name
    module = f"models.evaluation.encoders.{name}"
    needs = (f"{name}-shipped", *seed_names(name, budget), *fold_names(name, budget), f"{name}-baselines")
    summary, baselines = partial(_summary, m), partial(_baselines, m)
    return (
        *training_steps(name, m.files, m.subsets, budget),
        Step(
            f"{name}-baselines",
            f"{name}: baselines",
            baselines,
            m.files,
            code=(module,),
            seconds=m.baseline_s,
            shown=False,
        ),
        Step(
            name,
            f"Encoder: {name}",
            summary,
            m.files,
            code=("models.evaluation.encoders.summary",),
            needs=needs,
            seconds=60,
        ),
        Step(
            f"{name}-attribution",
            f"What {name} verdicts rest on",
            m.explain,
            m.files,
            (name,),
            ("models.evaluation.encoders.attribution", "models.evaluation.encoders.explanations", *_CODE),
            seconds=90,
        ),
    )


def _baselines(m: Modality, ctx: Context) -> Section:
    """Every baseline on the usual split with each seed, and held out fold by fold."""
    items = items_of(ctx, m.name)
    splits = standard_splits(m.name, items)
    folds = folds_of(m.name, [i.group for i in items], ctx.budget.folds)
    for name, make in m.baselines.items():
        by_seed: list[dict[Key, Verdicts]] = [{} for _ in range(ctx.budget.seeds)]
        by_fold: list[dict[Key, Verdicts]] = [{} for _ in range(ctx.budget.folds)]
        for head, lang in _fits(m, items):
            ctx.say(f"{m.name}: baseline {name}, {head} {lang}")
            mine = np.array([i for i, x in enumerate(items) if head in x.labels and lang in (x.lang, "")])
            predict = make([items[i] for i in mine], head)
            for seed, found in enumerate(by_seed):
                test = splits[mine] == "test"
                found |= _by_source(items, mine[test], head, predict(~test, test, seed))
            for fold, found in enumerate(by_fold):
                held = folds[mine] == fold
                found |= _by_source(items, mine[held], head, predict(~held, held, 0))
        for seed, found in enumerate(by_seed):
            save_verdicts(ctx.folder / f"{name}-seed-{seed}.npz", found)
        save_verdicts(ctx.folder / f"{name}-folds.npz", joined(by_fold))
    return Section()


def _fits(m: Modality, items: Sequence[Item]) -> list[tuple[str, str]]:
    """(head, language) of every model to fit; an empty language stands for all."""
    pairs = {
        (head, i.lang if m.by_language else "")
        for i in items
        for head in i.labels
        if head in m.baseline_heads
    }
    return sorted(pairs)


def _by_source(
    items: Sequence[Item], places: npt.NDArray[np.intp], head: str, said: npt.NDArray[Any]
) -> dict[Key, Verdicts]:
    sources = np.array([items[i].source for i in places])
    return {
        (str(source), head): verdicts(items, places[sources == source], head, said[sources == source])
        for source in np.unique(sources)
    }


def _summary(m: Modality, ctx: Context) -> Section:
    baselines = ctx.folders[f"{m.name}-baselines"]

    def found(file: Path) -> dict[Key, Verdicts]:
        verdicts = load_verdicts(file)
        parts = {
            (key[0], name): verdicts[key].where(np.isin(verdicts[key].wanted, labels))
            for name, (key, labels) in m.subsets.items()
            if key in verdicts
        }
        return verdicts | {key: v for key, v in parts.items() if len(v.wanted)}

    return summarise(
        ctx,
        found(ctx.folders[f"{m.name}-shipped"] / VERDICTS),
        [found(ctx.folders[step] / VERDICTS) for step in seed_names(m.name, ctx.budget)],
        [found(ctx.folders[step] / VERDICTS) for step in fold_names(m.name, ctx.budget)],
        {
            name: (
                [found(baselines / f"{name}-seed-{s}.npz") for s in range(ctx.budget.seeds)],
                found(baselines / f"{name}-folds.npz"),
            )
            for name in m.baselines
        },
        m.plots,
    )

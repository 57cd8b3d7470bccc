"""The steps that every modality goes through: shipped weights, repeated seeds, folds, baselines, summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.evaluate_content import (
    Item,
    fold_split,
    folds_of,
    read_items,
    standard_splits,
    taxonomy_of,
)
from models.evaluate_heads import Key, Verdicts, joined, judge, load_verdicts, save_verdicts, verdicts
from models.evaluate_step import Budget, Context, Section, Step
from models.evaluate_summary import summarise
from models.registry import load_encoder
from models.splits import Split

VERDICTS: Final = "verdicts.npz"

Train = Callable[[Context, Path, int, Callable[[str], Split] | None], Any]
"""(context, weights to write, seed, split of a group or None for the usual one)."""
Predict = Callable[[npt.NDArray[np.bool_], npt.NDArray[np.bool_], int], npt.NDArray[Any]]
"""(places to fit on, places to judge, seed) → labels said there."""


@dataclass(frozen=True)
class Modality:
    """What differs between texts, photos and voices in these steps."""

    name: str
    files: tuple[str, ...]
    train: Train
    baselines: Mapping[str, Callable[[Sequence[Item], str], Predict]]
    """Name → (items with a label of the head, head) → what fits and predicts."""
    baseline_heads: tuple[str, ...]
    explain: Callable[[Context], Section]
    plots: tuple[Key, ...]
    """Heads whose confusion, calibration and coverage are drawn."""
    code: tuple[str, ...]
    by_language: bool
    """Whether a baseline is fitted for each language alone."""
    train_s: float
    """Seconds of one short training on one core."""
    judge_s: float
    baseline_s: float


_CODE: Final = ("models.evaluate_content", "models.evaluate_heads", "models.splits", "models.statistics")


def steps_of(m: Modality, budget: Budget) -> tuple[Step, ...]:
    """All steps of a modality, in an order that respects their needs."""
    name, code = m.name, (*_CODE, *m.code)
    folds = [f"{name}-fold-{k}" for k in range(budget.folds)]
    seeds = [f"{name}-seed-{s}" for s in range(budget.seeds)]
    train = partial(Step, files=m.files, code=code, seconds=m.train_s, shown=False)
    shipped = Step(
        f"{name}-shipped",
        f"{name}: the shipped weights",
        partial(_judge_shipped, m),
        m.files,
        (name,),
        code,
        seconds=m.judge_s,
        shown=False,
    )
    baselines = Step(
        f"{name}-baselines",
        f"{name}: baselines",
        partial(_baselines, m),
        m.files,
        code=code,
        seconds=m.baseline_s,
        shown=False,
    )
    return (
        shipped,
        *(train(s, f"{name}: seed {i}", partial(_seed, m, i)) for i, s in enumerate(seeds)),
        *(train(f, f"{name}: without fold {k}", partial(_fold, m, k)) for k, f in enumerate(folds)),
        baselines,
        Step(
            name,
            f"Encoder: {name}",
            partial(_summary, m),
            m.files,
            code=("models.evaluate_summary", *_CODE),
            needs=(shipped.name, *seeds, *folds, baselines.name),
            seconds=15,
        ),
        Step(
            f"{name}-attribution",
            f"What {name} verdicts rest on",
            m.explain,
            m.files,
            (name,),
            ("models.attribution", *_CODE),
            seconds=90,
        ),
    )


def items_of(ctx: Context, modality: str) -> list[Item]:
    """The content that this run judges on: a share of its groups, all speakers."""
    share = 1.0 if modality == "voice" else ctx.budget.share
    return read_items(ctx.data, modality, taxonomy_of(ctx.data), share)


def test_items(ctx: Context, modality: str) -> list[Item]:
    """Those of the test split that no shipped weights saw."""
    items = items_of(ctx, modality)
    splits = standard_splits(modality, items)
    return [item for item, split in zip(items, splits, strict=True) if split == "test"]


def _judge_shipped(m: Modality, ctx: Context) -> Section:
    taxonomy = taxonomy_of(ctx.data)
    encoder = load_encoder(m.name, ctx.weights / f"{m.name}.safetensors", "cpu", taxonomy.words, taxonomy)
    save_verdicts(ctx.folder / VERDICTS, judge(encoder, test_items(ctx, m.name)))
    return Section(figures={"fingerprint": encoder.fingerprint})


def _seed(m: Modality, seed: int, ctx: Context) -> Section:
    return _train_and_judge(m, ctx, seed, None, test_items(ctx, m.name))


def _fold(m: Modality, fold: int, ctx: Context) -> Section:
    items = items_of(ctx, m.name)
    groups = [item.group for item in items]
    held = folds_of(m.name, groups, ctx.budget.folds) == fold
    split = fold_split(m.name, groups, fold, ctx.budget.folds)
    return _train_and_judge(m, ctx, 0, split, [i for i, h in zip(items, held, strict=True) if h])


def _train_and_judge(
    m: Modality, ctx: Context, seed: int, split: Callable[[str], Split] | None, items: Sequence[Item]
) -> Section:
    weights, taxonomy = ctx.folder / f"{m.name}.safetensors", taxonomy_of(ctx.data)
    m.train(ctx, weights, seed, split)
    encoder = load_encoder(m.name, weights, "cpu", taxonomy.words, taxonomy)
    save_verdicts(ctx.folder / VERDICTS, judge(encoder, items))
    return Section(figures={"seed": seed, "judged": len(items)})


def fold_weights(ctx: Context, modality: str, fold: int) -> Path:
    """Weights that never saw the groups of a fold."""
    return ctx.folders[f"{modality}-fold-{fold}"] / f"{modality}.safetensors"


def _baselines(m: Modality, ctx: Context) -> Section:
    """Every baseline on the usual split with each seed, and held out fold by fold."""
    items = items_of(ctx, m.name)
    splits = standard_splits(m.name, items)
    folds = folds_of(m.name, [i.group for i in items], ctx.budget.folds)
    for name, make in m.baselines.items():
        ctx.say(f"{m.name}: baseline {name}")
        by_seed: list[dict[Key, Verdicts]] = [{} for _ in range(ctx.budget.seeds)]
        by_fold: list[dict[Key, Verdicts]] = [{} for _ in range(ctx.budget.folds)]
        for head, lang in _fits(m, items):
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
    budget = ctx.budget
    baselines = ctx.folders[f"{m.name}-baselines"]
    return summarise(
        ctx,
        load_verdicts(ctx.folders[f"{m.name}-shipped"] / VERDICTS),
        [load_verdicts(ctx.folders[f"{m.name}-seed-{s}"] / VERDICTS) for s in range(budget.seeds)],
        [load_verdicts(ctx.folders[f"{m.name}-fold-{k}"] / VERDICTS) for k in range(budget.folds)],
        {
            name: (
                [load_verdicts(baselines / f"{name}-seed-{s}.npz") for s in range(budget.seeds)],
                load_verdicts(baselines / f"{name}-folds.npz"),
            )
            for name in m.baselines
        },
        m.plots,
    )

"""Trainings of the report: repeated seeds on the usual split, and folds that are held out in turn.

The longest steps, so they depend on as little code as can be: what is read here, and what trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from models.evaluation.encoders.content import (
    Item,
    fold_split,
    folds_of,
    read_items,
    standard_splits,
    taxonomy_of,
)
from models.evaluation.encoders.predictions import Subsets, judge, save_verdicts
from models.evaluation.step import QUICK, Budget, Context, Section, Step
from models.registry import load_encoder
from models.training.dataset import dataset_taxonomy
from models.training.splits import Split, split_of

VERDICTS: Final = "verdicts.npz"
_QUICK_ROWS: Final = 1000
"""Photos of each file in a quick run's trainings."""
_SECONDS: Final = {"text": 130, "image": 750, "voice": 330}
"""Of one training and its judgement, one core."""


def training_steps(
    modality: str, files: tuple[str, ...], subsets: Subsets, budget: Budget
) -> tuple[Step, ...]:
    """A step for the shipped weights, one for every seed and one for every fold."""
    code = (
        "models.evaluation.encoders.content",
        "models.evaluation.encoders.predictions",
        f"models.training.{modality}.train",
    )
    make = partial(Step, files=files, code=code, seconds=_SECONDS[modality], shown=False)
    shipped = partial(_judge_shipped, modality, subsets)
    return (
        replace(
            make(f"{modality}-shipped", f"{modality}: the shipped weights", shipped),
            weights=(modality,),
            seconds=30,
        ),
        *(
            make(name, f"{modality}: seed {seed}", partial(_seed, modality, subsets, seed))
            for seed, name in enumerate(seed_names(modality, budget))
        ),
        *(
            make(name, f"{modality}: without fold {fold}", partial(_fold, modality, subsets, fold))
            for fold, name in enumerate(fold_names(modality, budget))
        ),
    )


def seed_names(modality: str, budget: Budget) -> tuple[str, ...]:
    """Names of the steps of repeated trainings."""
    return tuple(f"{modality}-seed-{seed}" for seed in range(budget.seeds))


def fold_names(modality: str, budget: Budget) -> tuple[str, ...]:
    """Names of the steps that each hold out a fold."""
    return tuple(f"{modality}-fold-{fold}" for fold in range(budget.folds))


def fold_weights(ctx: Context, modality: str, fold: int) -> Path:
    """Weights that never saw the groups of a fold."""
    return ctx.folders[f"{modality}-fold-{fold}"] / f"{modality}.safetensors"


def items_of(ctx: Context, modality: str) -> list[Item]:
    """The content that this run judges on: a share of its groups, all speakers.

    Senders of photos are few: a small run keeps more of them.
    """
    share = {"text": ctx.budget.share, "image": 4 * ctx.budget.share, "voice": 1.0}[modality]
    return read_items(ctx.data, modality, taxonomy_of(ctx.data), share)


def unseen_items(ctx: Context, modality: str) -> list[Item]:
    """Those of the test split that no shipped weights saw."""
    items = items_of(ctx, modality)
    splits = standard_splits(modality, items)
    return [item for item, split in zip(items, splits, strict=True) if split == "test"]


def _judge_shipped(modality: str, subsets: Subsets, ctx: Context) -> Section:
    taxonomy = taxonomy_of(ctx.data)
    weights = ctx.weights / f"{modality}.safetensors"
    encoder = load_encoder(modality, weights, "cpu", taxonomy.words, taxonomy)
    save_verdicts(ctx.folder / VERDICTS, judge(encoder, unseen_items(ctx, modality), subsets))
    return Section(figures={"fingerprint": encoder.fingerprint})


def _seed(modality: str, subsets: Subsets, seed: int, ctx: Context) -> Section:
    return _train_and_judge(modality, ctx, seed, None, unseen_items(ctx, modality), subsets)


def _fold(modality: str, subsets: Subsets, fold: int, ctx: Context) -> Section:
    items = items_of(ctx, modality)
    groups = [item.group for item in items]
    held = folds_of(modality, groups, ctx.budget.folds) == fold
    split = fold_split(modality, groups, fold, ctx.budget.folds)
    mine = [item for item, out in zip(items, held, strict=True) if out]
    return _train_and_judge(modality, ctx, 0, split, mine, subsets)


def _train_and_judge(
    modality: str,
    ctx: Context,
    seed: int,
    split: Callable[[str], Split] | None,
    items: Sequence[Item],
    subsets: Subsets,
) -> Section:
    weights, taxonomy = ctx.folder / f"{modality}.safetensors", taxonomy_of(ctx.data)
    _TRAIN[modality](ctx, weights, seed, split)
    encoder = load_encoder(modality, weights, "cpu", taxonomy.words, taxonomy)
    save_verdicts(ctx.folder / VERDICTS, judge(encoder, items, subsets))
    return Section(figures={"seed": seed, "judged": len(items)})


def _train_text(ctx: Context, out: Path, seed: int, split: Callable[[str], Split] | None) -> None:
    from models.training.text.data import read_texts
    from models.training.text.train import train_text

    taxonomy = dataset_taxonomy(ctx.data)
    rows = read_texts(ctx.data, taxonomy, split or split_of)
    if ctx.budget.share < 1:
        rows = rows.only(np.random.default_rng(0).random(len(rows.texts)) < ctx.budget.share)
    train_text(ctx.data, out, taxonomy, ctx.say, seed, rows)


def _train_image(ctx: Context, out: Path, seed: int, split: Callable[[str], Split] | None) -> None:
    from models.image.decode import SIDE_PX
    from models.training.image.data import load_images
    from models.training.image.train import DEFAULT_VARIANT, VARIANTS, train_image

    limit = _QUICK_ROWS if ctx.budget.name == QUICK.name else None
    side_px = VARIANTS[DEFAULT_VARIANT].side_px
    images = load_images(ctx.data, limit=limit, side_px=side_px, split=split or split_of)
    epochs = max(1, round(ctx.budget.image_epochs * (SIDE_PX / side_px) ** 2))  # the budget is in pixels
    train_image(ctx.data, out, epochs, seed, images=images)


def _train_voice(ctx: Context, out: Path, seed: int, split: Callable[[str], Split] | None) -> None:
    from models.training.voice.data import load_voices
    from models.training.voice.train import train_voice

    voices = load_voices(ctx.data, ctx.budget.voice_copies, seed, split)
    train_voice(ctx.data, out, ctx.budget.voice_epochs, seed, voices=voices)


_TRAIN: Final = {"text": _train_text, "image": _train_image, "voice": _train_voice}

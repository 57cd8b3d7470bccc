"""Do texts, photos and clips of one category meet? Cross-modal precision in all six directions."""

from __future__ import annotations

from itertools import product
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.encoder import OTHER
from models.evaluation.encoders.content import Item, decoded, files_of, standard_splits, taxonomy_of
from models.evaluation.encoders.retrain import items_of
from models.evaluation.encoders.separate_space import separate_embeddings
from models.evaluation.statistics import mean_estimate
from models.evaluation.step import Context, Section, Step, Table
from models.registry import LOADERS, load_encoder

NEAREST: Final = 10
PER_MODALITY: Final = 1500
Floats = npt.NDArray[np.float32]


def space_step(data: Any) -> Step:
    """Precision at 10 between modalities, beside spaces that were not made one."""
    files = tuple(dict.fromkeys(name for modality in LOADERS for name in files_of(data, modality)))
    code = (
        "models.evaluation.encoders.retrain",
        "models.evaluation.encoders.separate_space",
        "models.evaluation.statistics",
    )
    return Step("space", "One space for all modalities", _space, files, tuple(LOADERS), code, seconds=80)


class _Placed(NamedTuple):
    """Unseen content of a modality: its labels, its vectors, and those of a space of its own."""

    labels: npt.NDArray[np.str_]
    shared: Floats
    apart: Floats


def _space(ctx: Context) -> Section:
    placed = {m: _place(ctx, m, seed) for seed, m in enumerate(LOADERS)}
    rows: list[list[Any]] = []
    within: list[list[Any]] = []
    worst = 1.0
    for a, b in product(LOADERS, LOADERS):
        one, other = placed[a], placed[b]
        asked = np.isin(one.labels, other.labels)  # no photo is of a hotel: nothing could answer
        found, control = (
            precision(mine, one.labels, theirs, other.labels, skip_self=a == b)[asked]
            for mine, theirs in ((one.shared, other.shared), (one.apart, other.apart))
        )
        shares = {c: float((other.labels == c).mean()) for c in np.unique(other.labels)}
        chance = float(np.mean([shares[c] for c in one.labels[asked]]))
        estimates = [mean_estimate(x, None, ctx.budget.repeats) for x in (found, control)]
        (within if a == b else rows).append(
            [f"{a} to {b}", len(found), len(other.labels), *estimates, chance]
        )
        worst = worst if a == b else min(worst, estimates[0].value)
    note = (
        f"Of the {NEAREST} nearest contents of the other modality, the share of the query's category; test "
        "splits, shipped weights. Queries of categories that the other modality has none of are left out. "
        "Separate spaces: the same features, projected towards targets of each modality's own, fitted on the "
        "development split: as good within a modality, meaningless between."
    )
    columns = ["direction", "queries", "among", "precision@10", "separate spaces", "chance"]
    tables = [Table("Between modalities", columns, rows, note), Table("Within a modality", columns, within)]
    return Section(tables, figures={"worst direction": worst})


def _place(ctx: Context, modality: str, seed: int) -> _Placed:
    taxonomy = taxonomy_of(ctx.data)
    weights = ctx.weights / f"{modality}.safetensors"
    encoder: Any = load_encoder(modality, weights, "cpu", taxonomy.words, taxonomy)
    items = [i for i in items_of(ctx, modality) if i.labels.get("category", OTHER) != OTHER]
    splits = standard_splits(modality, items)
    tuning, unseen = (
        _some([i for i, s in zip(items, splits, strict=True) if s == w]) for w in ("dev", "test")
    )
    samples, fitted = decoded(encoder, unseen), decoded(encoder, tuning)
    categories = np.array([taxonomy.first_level.index(i.labels["category"]) for i in tuning], np.int64)
    return _Placed(
        np.array([i.labels["category"] for i in unseen]),
        encoder.encode(samples).embedding,
        separate_embeddings(encoder.features(fitted), categories, encoder.features(samples), seed),
    )


def _some(items: list[Item]) -> list[Item]:
    return [items[i] for i in np.random.default_rng(0).permutation(len(items))[:PER_MODALITY]]


def precision(
    queries: Floats,
    wanted: npt.NDArray[np.str_],
    among: Floats,
    labels: npt.NDArray[np.str_],
    skip_self: bool = False,
) -> npt.NDArray[np.float64]:
    """[queries]: share of the NEAREST rows of ``among`` by cosine that have the query's label.

    With ``skip_self``, row i of ``among`` is query i itself and does not count.
    """
    cosines = queries @ among.T
    if skip_self:
        np.fill_diagonal(cosines, -np.inf)
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST]
    shares: npt.NDArray[np.float64] = (labels[nearest] == wanted[:, None]).mean(1)
    return shares

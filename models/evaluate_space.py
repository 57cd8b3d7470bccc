"""Do texts, photos and clips of one category meet? Cross-modal precision in all six directions."""

from __future__ import annotations

from itertools import permutations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.schema import EMBEDDING_DIM
from models.encoder import OTHER
from models.evaluate_content import embeddings, files_of, taxonomy_of
from models.evaluate_step import Context, Section, Step, Table
from models.evaluate_training import unseen_items
from models.registry import LOADERS, load_encoder
from models.statistics import mean_estimate

NEAREST: Final = 10
PER_MODALITY: Final = 1500
Floats = npt.NDArray[np.float32]


def space_step(data: Any) -> Step:
    """Precision at 10 between modalities, beside spaces that were not made one."""
    files = tuple(dict.fromkeys(name for modality in LOADERS for name in files_of(data, modality)))
    code = ("models.evaluate_training", "models.statistics")
    return Step("space", "One space for all modalities", _space, files, tuple(LOADERS), code, seconds=60)


def _space(ctx: Context) -> Section:
    taxonomy = taxonomy_of(ctx.data)
    vectors: dict[str, Floats] = {}
    labels: dict[str, npt.NDArray[np.str_]] = {}
    rng = np.random.default_rng(0)
    for modality in LOADERS:
        items = [i for i in unseen_items(ctx, modality) if i.labels.get("category", OTHER) != OTHER]
        items = [items[i] for i in rng.permutation(len(items))[:PER_MODALITY]]
        weights = ctx.weights / f"{modality}.safetensors"
        encoder = load_encoder(modality, weights, "cpu", taxonomy.words, taxonomy)
        vectors[modality] = embeddings(encoder, items)
        labels[modality] = np.array([item.labels["category"] for item in items])
    apart = {m: v @ rotation(seed) for seed, (m, v) in enumerate(vectors.items())}
    rows: list[list[Any]] = []
    worst = 1.0
    for a, b in permutations(LOADERS, 2):
        found = precision(vectors[a], labels[a], vectors[b], labels[b])
        control = precision(apart[a], labels[a], apart[b], labels[b])
        shares = {c: float((labels[b] == c).mean()) for c in np.unique(labels[b])}
        chance = float(np.mean([shares.get(c, 0.0) for c in labels[a]]))
        estimates = [mean_estimate(x, None, ctx.budget.repeats) for x in (found, control)]
        rows.append([f"{a} to {b}", len(found), len(labels[b]), *estimates, chance])
        worst = min(worst, estimates[0].value)
    note = (
        f"Of the {NEAREST} nearest contents of the other modality, the share of the query's category; test "
        "splits, shipped weights. Control: each modality in a random rotation of its own, which is what "
        "training towards targets of its own gives (same accuracy within it, no common meaning)."
    )
    columns = ["direction", "queries", "among", "precision@10", "separate spaces", "chance"]
    return Section([Table("Cross-modal precision", columns, rows, note)], figures={"worst direction": worst})


def rotation(seed: int) -> Floats:
    """A random orthogonal matrix [64, 64]."""
    gauss = np.random.default_rng(seed).standard_normal((EMBEDDING_DIM, EMBEDDING_DIM))
    return np.linalg.qr(gauss)[0].astype(np.float32)


def precision(
    queries: Floats, wanted: npt.NDArray[np.str_], among: Floats, labels: npt.NDArray[np.str_]
) -> npt.NDArray[np.float64]:
    """[queries]: share of the NEAREST rows of ``among`` by cosine that have the query's label."""
    nearest = np.argsort(-(queries @ among.T), axis=1, kind="stable")[:, :NEAREST]
    shares: npt.NDArray[np.float64] = (labels[nearest] == wanted[:, None]).mean(1)
    return shares

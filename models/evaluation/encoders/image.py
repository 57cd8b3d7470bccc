"""Photos in the report: cross-fitted trainings, colours beside them, and what regions a verdict rests on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from models.encoder import OTHER, Encoder
from models.evaluation.encoders.attribution import (
    FRACTIONS,
    deletion_test,
    grid_regions,
    integrated_gradients,
    occlusion,
)
from models.evaluation.encoders.content import Item, files_of, taxonomy_of
from models.evaluation.encoders.explanations import Explained, explained_section, verdict_score
from models.evaluation.encoders.retrain import unseen_items
from models.evaluation.encoders.steps import Modality
from models.evaluation.step import Context, Section
from models.image.decode import decode_image
from models.image.encoder import load_network
from models.image.network import ImageNetwork
from models.registry import load_encoder
from models.training.image.metrics import TOP_10

GRID: Final = 8
"""Cells of a picture's side that are hidden one by one."""
_MEASURED: Final = {"catalogue": "sub", "user": "clothing_label", "grocery": "grocery_coarse"}


def image_modality(data: Path) -> Modality:
    """How the report treats photos."""
    return Modality(
        name="image",
        files=files_of(data, "image"),
        baselines={"colour histogram + linear": _colours},
        baseline_heads=("category", *_MEASURED.values()),
        explain=_explain,
        plots=(("catalogue", "category"), *_MEASURED.items()),
        subsets={"top-10": (("user", "clothing_label"), TOP_10)},
        by_language=False,
        baseline_s=150,
    )


def colour_histogram(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 [side, side, 3] → [64 + 3·16]: square roots of shares of joint and single colour values."""
    rgb = pixels.reshape(-1, 3).astype(int)
    joint = np.bincount((rgb // 64) @ (16, 4, 1), minlength=64)
    single = [np.bincount(rgb[:, c] // 16, minlength=16) for c in range(3)]
    shares: npt.NDArray[np.float32] = np.sqrt(np.concatenate([joint, *single]) / len(rgb)).astype(np.float32)
    return shares


def linear_on(features: npt.NDArray[np.float32], labels: npt.NDArray[Any]) -> Callable[..., npt.NDArray[Any]]:
    """A linear softmax classifier on features at unit variance, by averaged stochastic gradients."""

    def predict(fit: npt.NDArray[np.bool_], wanted: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[Any]:
        model = make_pipeline(
            StandardScaler(),  # type: ignore[no-untyped-call]
            SGDClassifier(  # type: ignore[no-untyped-call]
                loss="log_loss", alpha=1e-3, max_iter=15, tol=None, average=True, random_state=seed
            ),
        ).fit(features[fit], labels[fit])
        said: npt.NDArray[Any] = model.predict(features[wanted])
        return said

    return predict


def _colours(items: Sequence[Item], head: str) -> Callable[..., npt.NDArray[Any]]:
    features = np.stack([colour_histogram(decode_image(item.content)) for item in items])
    return linear_on(features, np.array([item.labels[head] for item in items]))


def _explain(ctx: Context) -> Section:
    """Occlusion of cells and integrated gradients on test photos, and the deletion test of both."""
    taxonomy, weights = taxonomy_of(ctx.data), ctx.weights / "image.safetensors"
    encoder = load_encoder("image", weights, "cpu", taxonomy.words, taxonomy)
    network = load_network(weights)[0].eval()
    rng = np.random.default_rng(0)
    items = unseen_items(ctx, "image")
    found: list[Explained] = []
    for place in rng.permutation(len(items)):
        item = items[int(place)]
        head = _MEASURED.get(item.source, "category")
        if item.labels.get(head, OTHER) != OTHER:
            found += _explain_one(encoder, network, item, head, rng)
        if len(found) >= 2 * ctx.budget.explained:
            break
    note = (
        f"Cells of a grid of {GRID} x {GRID} are filled with the picture's mean colour. Integrated gradients "
        "start from that colour everywhere; a cell's mark is the sum over its pixels."
    )
    return explained_section("cells of the picture", found, FRACTIONS, ctx.budget.repeats, note)


def _explain_one(
    encoder: Encoder, network: ImageNetwork, item: Item, head: str, rng: np.random.Generator
) -> list[Explained]:
    pixels: npt.NDArray[np.uint8] = encoder.decode(item.content)
    cells = grid_regions(pixels.shape[0], pixels.shape[1], GRID, GRID)
    blank = pixels.reshape(-1, 3).mean(0)

    def hide(hidden: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        return np.where(hidden[cells][:, :, None], blank, pixels).astype(np.uint8)

    score, said = verdict_score(encoder, head, lambda sample: sample, pixels)
    labels = encoder.heads[head].labels  # type: ignore[attr-defined]
    shares = gradient_shares(network, head, labels.index(said), pixels, blank)
    marks = {
        "occlusion": occlusion(score, hide, GRID * GRID),
        "integrated gradients": np.bincount(cells.ravel(), shares.sum(2).ravel(), GRID * GRID).astype(
            np.float64
        ),
    }
    explained = []
    for method, importance in marks.items():
        marked, random = deletion_test(score, hide, importance, rng)
        best = np.argsort(-importance)[:3]
        where = [(f"row {i // GRID + 1}, column {i % GRID + 1}", float(importance[i])) for i in best]
        explained.append(Explained(f"{head}, {method}", said, item.labels[head], where, marked, random))
    return explained


def gradient_shares(
    network: ImageNetwork,
    head: str,
    label: int,
    pixels: npt.NDArray[np.uint8],
    blank: npt.NDArray[np.floating],
) -> npt.NDArray[np.float64]:
    """Integrated gradients [side, side, 3] of one label's logit, from a picture of one colour."""

    def score(batch: Tensor) -> Tensor:
        logits: Tensor = network(batch)[1][head][:, label]
        return logits

    sample = torch.from_numpy(pixels.astype(np.float32))
    start = torch.from_numpy(np.broadcast_to(blank.astype(np.float32), pixels.shape).copy())
    shares: npt.NDArray[np.float64] = integrated_gradients(score, sample, start, 16).double().numpy()
    return shares

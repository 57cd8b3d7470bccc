"""Train and judge the image encoder: ``python -m models.train_image --data DIR [--evaluate]``."""

from __future__ import annotations

import argparse
import copy
import logging
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models import checkpoint
from models.averaging import as_shipped, blend
from models.calibration import calibration_error, fit_temperature, fit_threshold, macro_f1
from models.encoder import OTHER
from models.heads import Head, heads_from_config
from models.image import WIDTHS, ImageNetwork, config_of
from models.image_data import HEADS, NO_LABEL, ImageSet, blank_pictures, load_images
from models.training_command import run

log = logging.getLogger(__name__)

BATCH: Final = 96
LOSS_WEIGHTS: Final = {"colour": 0.4, "usage": 0.2, "master": 0.2, "art": 0.8}
REPEAT: Final = {"catalogue": 1, "user": 2, "grocery": 2}
"""How often an epoch shows each set: the natural photos are few."""
KEPT_ACCURACY: Final = 0.9
"""A head abstains below the score at which 90 % of what it says of development pictures is right."""


def train_image(
    data: Path,
    out: Path,
    epochs: int = 16,
    seed: int = 0,
    limit: int | None = None,
    device: str = "cpu",
    images: ImageSet | None = None,
) -> dict[str, Any]:
    """Train, calibrate on the development split, judge on the test split, write ``out``; → figures.

    ``images`` are used instead of those of ``data`` where given: other rows, or split otherwise.
    """
    torch.manual_seed(seed)
    images = images or load_images(data, limit=limit)
    network = ImageNetwork({h: len(images.names[h]) for h in HEADS}).to(device)
    network = as_shipped(_fit(network, images, epochs, seed, device))
    heads = calibrate(network, images, seed)
    figures = judge(network, heads, images, seed) | {"epochs": epochs, "seed": seed}
    config = config_of({n: h.to_config() for n, h in heads.items()}, WIDTHS, figures)
    checkpoint.save(out, network.state_dict(), config)
    return figures


def _fit(network: ImageNetwork, images: ImageSet, epochs: int, seed: int, device: str) -> ImageNetwork:
    """AdamW, one cycle of the learning rate, running average of the weights (returned)."""
    rng = np.random.default_rng(seed)
    places = np.concatenate([np.tile(images.where("train", s), n) for s, n in REPEAT.items()])
    blanks = blank_pictures(max(len(places) // 20, 1), seed)
    pixels = np.concatenate([images.pixels, blanks])
    labels = {
        h: np.concatenate([images.labels[h], np.full(len(blanks), len(images.names[h]) - 1)]) for h in HEADS
    }
    places = np.concatenate([places, np.arange(len(images.pixels), len(pixels))])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02)
    steps = max(len(places) // BATCH, 1)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=max(epochs * steps, 20), pct_start=0.15
    )
    average = copy.deepcopy(network)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(np.array_split(rng.permutation(places), steps)):
            seen = _augment(torch.from_numpy(pixels[batch]).to(device))
            loss = _loss(network(seen)[1], {h: torch.from_numpy(labels[h][batch]).to(device) for h in HEADS})
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            blend(average, network, epoch * steps + step, keep=0.998)
        dev = accuracies(average.eval(), images, "dev")
        log.info("epoch %d loss %.3f dev %s %.0f s", epoch + 1, total / steps, dev, time.monotonic() - start)
    return average


def _loss(logits: dict[str, Tensor], labels: dict[str, Tensor]) -> Tensor:
    parts = []
    for head, wanted in labels.items():
        if bool((wanted != NO_LABEL).any()):
            loss = F.cross_entropy(logits[head], wanted, ignore_index=NO_LABEL, label_smoothing=0.05)
            parts.append(LOSS_WEIGHTS.get(head, 1.0) * loss)
    return torch.stack(parts).sum()


def _augment(pixels: Tensor) -> Tensor:
    """uint8 [n, side, side, 3] → each turned, scaled, shifted, mirrored, tinted and in part hidden."""
    n, side = pixels.shape[0], pixels.shape[1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=pixels.device).uniform_(low, high)

    x = pixels.permute(0, 3, 1, 2).float()
    angle, scale, stretch = uniform(-0.2, 0.2), uniform(0.75, 1.15), uniform(0.9, 1.1)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    top = torch.stack([mirror * scale * stretch * angle.cos(), -scale * angle.sin(), uniform(-0.15, 0.15)], 1)
    low = torch.stack([mirror * scale * angle.sin(), scale / stretch * angle.cos(), uniform(-0.15, 0.15)], 1)
    grid = F.affine_grid(torch.stack([top, low], 1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    x = (x - 128) * uniform(0.8, 1.25, 1, 1, 1) + 128 + uniform(-25, 25, 1, 1, 1)
    x = x * uniform(0.93, 1.07, 3, 1, 1)
    ruler = torch.arange(side, device=pixels.device)
    left, high = uniform(-side / 2, side), uniform(-side / 2, side)
    width, height = uniform(8, side / 2), uniform(8, side / 2)
    across = (ruler >= left[:, None]) & (ruler < (left + width)[:, None])
    down = (ruler >= high[:, None]) & (ruler < (high + height)[:, None])
    hidden = (down[:, :, None] & across[:, None, :] & (uniform(0, 1) < 0.3)[:, None, None])[:, None]
    x = torch.where(hidden, uniform(0, 255, 3, 1, 1), x)
    return x.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def logits_of(network: ImageNetwork, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    """Head → [n, labels] without gradients, on the network's device."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network(chunk.to(device))[1] for chunk in torch.split(torch.from_numpy(pixels), 64)]
    return {h: torch.cat([part[h] for part in parts]).cpu().numpy() for h in parts[0]}


def calibrate(network: ImageNetwork, images: ImageSet, seed: int) -> dict[str, Head]:
    """Temperature and threshold of every head from the development split and pictures of no product."""
    logits = logits_of(network, images.pixels[images.where("dev")])
    nothing = logits_of(network, blank_pictures(120, seed + 1))
    heads = {}
    for name in HEADS:
        wanted = images.labels[name][images.where("dev")]
        known = wanted != NO_LABEL
        x = np.concatenate([logits[name][known], nothing[name]])
        y = np.concatenate([wanted[known], np.full(len(nothing[name]), len(images.names[name]) - 1)])
        head = Head(images.names[name], fit_temperature(x, y))
        threshold = fit_threshold(head.probabilities(x), y, KEPT_ACCURACY, 0.8)
        heads[name] = Head(head.labels, head.temperature, max(threshold, 0.4 if name == "category" else 0.3))
    return heads


_MEASURED: Final = (
    *(("catalogue", h) for h in ("category", "sub", "art", "colour", "usage", "master")),
    ("user", "category"),
    ("user", "clothing_label"),
    ("grocery", "category"),
    ("grocery", "grocery_coarse"),
)


def accuracies(network: ImageNetwork, images: ImageSet, split: Any) -> dict[str, float]:
    """Plain accuracy (no abstention) by ``source/head``."""
    found = {}
    for source, head in _MEASURED:
        places = images.where(split, source)
        wanted = images.labels[head][places]
        known = wanted != NO_LABEL
        if known.any():
            best = logits_of(network, images.pixels[places[known]])[head].argmax(1)
            found[f"{source}/{head}"] = round(float((best == wanted[known]).mean()), 4)
    return found


TOP_10: Final = (
    "T-Shirt",
    "Longsleeve",
    "Pants",
    "Shoes",
    "Shirt",
    "Dress",
    "Outwear",
    "Shorts",
    "Hat",
    "Skirt",
)


def judge(network: ImageNetwork, heads: dict[str, Head], images: ImageSet, seed: int) -> dict[str, Any]:
    """Figures on the test split: accuracy, macro F1, coverage and accuracy of what is not ``other``, ECE."""
    figures: dict[str, Any] = {}
    for source, name in _MEASURED:
        places = images.where("test", source)
        places = places[images.labels[name][places] != NO_LABEL]
        if len(places):
            logits = logits_of(network, images.pixels[places])[name]
            figures[f"{source}/{name}"] = _judge_head(heads[name], logits, images.labels[name][places])
    places = images.where("test", "user")
    names = images.names["clothing_label"]
    ten = [names.index(label) for label in TOP_10 if label in names]
    places = places[np.isin(images.labels["clothing_label"][places], ten)]
    if len(places):
        logits = logits_of(network, images.pixels[places])["clothing_label"]
        wanted = images.labels["clothing_label"][places]
        among = np.array(ten)[logits[:, ten].argmax(1)]
        figures["user/top10"] = {
            "n": len(places),
            "accuracy": round(float((logits.argmax(1) == wanted).mean()), 4),
            "accuracy_among_ten": round(float((among == wanted).mean()), 4),
        }
    nothing = logits_of(network, blank_pictures(300, seed + 2))
    figures["blank/abstains"] = {
        n: round(float(np.mean([label == OTHER for label in h.judge(nothing[n]).labels])), 3)
        for n, h in heads.items()
    }
    return figures


def _judge_head(
    head: Head, logits: npt.NDArray[np.float32], wanted: npt.NDArray[np.int64]
) -> dict[str, float]:
    p = head.probabilities(logits)
    said = np.array([head.labels.index(label) for label in head.judge(logits).labels])
    kept = said != len(head.labels) - 1
    return {
        "n": len(wanted),
        "accuracy": round(float((p.argmax(1) == wanted).mean()), 4),
        "macro_f1": round(macro_f1(p.argmax(1), wanted), 4),
        "coverage": round(float(kept.mean()), 4),
        "accuracy_of_kept": round(float((said == wanted)[kept].mean()), 4) if kept.any() else 0.0,
        "calibration_error": round(calibration_error(p, wanted), 4),
    }


def _train(options: argparse.Namespace) -> dict[str, Any]:
    return train_image(options.data, options.weights, options.epochs, options.seed, device=options.device)


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    state, config = checkpoint.load(options.weights, architecture="image-")
    heads = heads_from_config(config)
    network = ImageNetwork({n: len(h.labels) for n, h in heads.items()}, config["widths"]).eval()
    network.load_state_dict(checkpoint.full_precision(state))
    return judge(network, heads, load_images(options.data), options.seed)


if __name__ == "__main__":
    run(__doc__, "image", 16, _train, _evaluate)

"""Train and judge the image encoder: ``python -m models.train_image --data DIR [--evaluate]``."""

from __future__ import annotations

import argparse
import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from features.taxonomy import Taxonomy
from models import checkpoint
from models.averaging import as_shipped, blend
from models.calibration import calibration_error, fit_temperature, fit_threshold, macro_f1
from models.encoder import OTHER
from models.heads import Head, heads_from_config
from models.image import config_of, load_network, network_of
from models.image_augment import augment, mix
from models.image_data import NO_LABEL, ImageSet, blank_pictures, load_images
from models.image_network import ImageNetwork
from models.image_resnet import WIDTHS
from models.local_folder import LocalFolder, folder_side_px
from models.resume import Resume
from models.splits import Split
from models.title_contrast import WEIGHT, EmbedTitles, TitleTargets
from models.training_command import run

log = logging.getLogger(__name__)

BATCH: Final = 96
LOSS_WEIGHTS: Final = {"colour": 0.4, "usage": 0.2, "master": 0.2, "art": 0.8}
KEPT_ACCURACY: Final = 0.9
"""A head abstains below the score at which 90 % of what it says of development pictures is right."""


@dataclass(frozen=True)
class Recipe:
    """What a variant is made of. A model of a folder says itself which side it takes."""

    side_px: int
    widths: tuple[int, ...]
    epochs: int
    architecture: str = "image-resnet"


VARIANTS: Final[Mapping[str, Recipe]] = {
    "resnet96": Recipe(96, (32, 64, 96, 192), 18),
    "resnet64": Recipe(64, WIDTHS, 16),
    "hf": Recipe(0, (), 10, "image-hf"),
}
DEFAULT_VARIANT: Final = "resnet64"


def train_image(
    data: Path,
    out: Path,
    epochs: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    device: str = "cpu",
    images: ImageSet | None = None,
    variant: str = DEFAULT_VARIANT,
    titles: EmbedTitles | None = None,
    taxonomy: Taxonomy | None = None,
    folder: LocalFolder | None = None,
) -> dict[str, Any]:
    """Train, calibrate on the development split, judge on the test split, write ``out``; → figures.

    ``images`` are used instead of those of ``data`` where given: other rows, or split otherwise.
    ``titles`` places product titles: with it the network also learns from pairs of title and photo.
    ``folder`` holds the model of the variant ``hf``.
    """
    torch.manual_seed(seed)
    recipe = VARIANTS[variant]
    side_px = images.pixels.shape[1] if images else folder_side_px(folder) if folder else recipe.side_px
    images, epochs = images or load_images(data, taxonomy, limit, side_px), epochs or recipe.epochs
    untrained = {name: Head(labels) for name, labels in images.names.items()}
    bare = config_of(untrained, recipe.widths, {}, side_px, recipe.architecture)
    bare |= folder.to_config(out.parent) if folder else {}
    network = network_of(bare, out.parent).to(device)
    if network.frozen is not None:
        network.frozen.to(device)
        images = seen_by(images, network)
    titled = TitleTargets(images.titles, titles)
    network, resume = _fit(network, images, titled, epochs, seed, device, out)
    network = as_shipped(network)
    heads = calibrate(network, images, seed)
    figures = judge(network, heads, images, seed) | {"epochs": epochs, "seed": seed}
    config = bare | {"heads": {n: h.to_config() for n, h in heads.items()}, "figures": figures}
    checkpoint.save(out, network.state_dict(), config)
    resume.forget()
    return figures


def seen_by(images: ImageSet, network: ImageNetwork) -> ImageSet:
    """The set with what a frozen model says of each picture in place of its pixels."""
    side_px = images.pixels.shape[1]

    def blank(count: int, seed: int) -> npt.NDArray[Any]:
        return network.see(blank_pictures(count, seed, side_px))

    return replace(images, pixels=network.see(images.pixels), blank=blank)


def _fit(
    network: ImageNetwork,
    images: ImageSet,
    titles: TitleTargets,
    epochs: int,
    seed: int,
    device: str,
    out: Path,
) -> tuple[ImageNetwork, Resume]:
    """AdamW, one cycle of the learning rate, running average of the weights (returned)."""
    rng = np.random.default_rng(seed)
    shown = _Shown(images, seed)
    steps = max(len(shown.places(rng)) // BATCH, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.03)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=max(epochs * steps, 20), pct_start=0.15
    )
    average = copy.deepcopy(network)
    what = {"image": sorted(images.names), "pictures": len(images.pixels), "epochs": epochs, "seed": seed}
    what |= {"shape": images.pixels.shape[1:], "titles": titles.used}
    networks = {"network": network, "average": average}
    resume = Resume(out, what, networks, optimiser, cycle, rng)
    for epoch in range(resume.restore(), epochs):
        start, total = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(np.array_split(rng.permutation(shown.places(rng)), steps)):
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = _step_loss(network, shown, batch, titles, device)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            blend(average, network, epoch * steps + step, keep=0.998)
        dev = accuracies(average.eval(), images, "dev")
        resume.store(epoch + 1)
        log.info("epoch %d loss %.3f dev %s %.0f s", epoch + 1, total / steps, dev, time.monotonic() - start)
    return average, resume


class _Shown:
    """The training pictures, and pictures of no product among them."""

    def __init__(self, images: ImageSet, seed: int) -> None:
        self._images = images
        count = sum(int(len(images.where("train", s)) * p.repeat) for s, p in images.parts.items())
        blanks = images.blanks(max(count // 20, 1), seed)
        self.pixels = np.concatenate([images.pixels, blanks])
        self.labels = {
            head: torch.from_numpy(
                np.concatenate([images.labels[head], np.full(len(blanks), len(names) - 1)])
            )
            for head, names in images.names.items()
        }
        self._blanks = np.arange(len(images.pixels), len(self.pixels))

    def places(self, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """What one epoch shows: every part as often as its dataset says, and all the blanks."""
        found = [self._blanks]
        for source, part in self._images.parts.items():
            mine = self._images.where("train", source)
            whole, rest = divmod(part.repeat, 1)
            found += [np.tile(mine, int(whole)), rng.permutation(mine)[: int(rest * len(mine))]]
        return np.concatenate(found)

    def any_colour(self, batch: npt.NDArray[np.intp]) -> Tensor:
        """Of which pictures no colour is asked."""
        if "colour" not in self.labels:
            return torch.zeros(len(batch), dtype=torch.bool)
        wanted, other = self.labels["colour"][batch], len(self._images.names["colour"]) - 1
        return (wanted == NO_LABEL) | (wanted == other)


def _step_loss(
    network: ImageNetwork, shown: _Shown, batch: npt.NDArray[np.intp], titles: TitleTargets, device: str
) -> Tensor:
    """Loss of one augmented batch; pairs with titles count where pictures are not blended."""
    pixels = torch.from_numpy(shown.pixels[batch]).to(device)
    if pixels.dim() == 4:  # what a frozen model says of pictures stays as it is
        pixels = augment(pixels, shown.any_colour(batch).to(device))
    seen, order, share = mix(pixels)
    embedding, logits = network(seen)
    labels = {head: y[batch].to(device) for head, y in shown.labels.items()}
    loss = _loss(logits, labels)
    if share < 1:
        return share * loss + (1 - share) * _loss(logits, {head: y[order] for head, y in labels.items()})
    return loss + WEIGHT * titles.loss(embedding, batch)


def _loss(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for head, wanted in labels.items():
        if bool((wanted != NO_LABEL).any()):
            loss = F.cross_entropy(logits[head], wanted, ignore_index=NO_LABEL, label_smoothing=0.05)
            parts.append(LOSS_WEIGHTS.get(head, 1.0) * loss)
    return torch.stack(parts).sum()


def logits_of(network: ImageNetwork, pixels: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
    """Head → [n, labels] without gradients, on the network's device."""
    device = network.project.weight.device
    with torch.inference_mode():
        parts = [network(chunk.to(device))[1] for chunk in torch.split(torch.from_numpy(pixels), 64)]
    return {h: torch.cat([part[h] for part in parts]).cpu().numpy() for h in parts[0]}


def calibrate(network: ImageNetwork, images: ImageSet, seed: int) -> dict[str, Head]:
    """Temperature and threshold of every head from the development split and pictures of no product.

    Labels that stand in for others (see :meth:`ImageSet.stands_in`) train, but do not calibrate.
    """
    logits = logits_of(network, images.pixels[images.where("dev")])
    nothing = logits_of(network, images.blanks(120, seed + 1))
    heads = {}
    for name in images.names:
        wanted = images.labels[name][images.where("dev")]
        known = (wanted != NO_LABEL) & ~images.stands_in(name)[images.where("dev")]
        x = np.concatenate([logits[name][known], nothing[name]])
        y = np.concatenate([wanted[known], np.full(len(nothing[name]), len(images.names[name]) - 1)])
        head = Head(images.names[name], fit_temperature(x, y))
        threshold = fit_threshold(head.probabilities(x), y, KEPT_ACCURACY, 0.8)
        heads[name] = Head(head.labels, head.temperature, max(threshold, 0.4 if name == "category" else 0.3))
    return heads


def accuracies(network: ImageNetwork, images: ImageSet, split: Split) -> dict[str, float]:
    """Plain accuracy (no abstention) by ``source/head``."""
    found = {}
    for source in images.parts:
        places = images.where(split, source)
        logits = logits_of(network, images.pixels[places]) if len(places) else {}
        for _, head in (pair for pair in images.measured() if pair[0] == source and len(places)):
            wanted = images.labels[head][places]
            known = wanted != NO_LABEL
            if known.any():
                right = logits[head].argmax(1)[known] == wanted[known]
                found[f"{source}/{head}"] = round(float(right.mean()), 4)
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
    for source, name in images.measured():
        places = images.where("test", source)
        places = places[images.labels[name][places] != NO_LABEL]
        if len(places):
            logits = logits_of(network, images.pixels[places])[name]
            figures[f"{source}/{name}"] = _judge_head(heads[name], logits, images.labels[name][places])
    if "clothing_label" in images.names and "user" in images.parts:
        figures |= _judge_top_10(network, images)
    nothing = logits_of(network, images.blanks(300, seed + 2))
    figures["blank/abstains"] = {
        n: round(float(np.mean([label == OTHER for label in h.judge(nothing[n]).labels])), 3)
        for n, h in heads.items()
    }
    return figures


def _judge_top_10(network: ImageNetwork, images: ImageSet) -> dict[str, Any]:
    """Of user photos of the ten commonest garments: with all labels to choose from, and with these only."""
    names = images.names["clothing_label"]
    ten = [names.index(label) for label in TOP_10 if label in names]
    places = images.where("test", "user")
    places = places[np.isin(images.labels["clothing_label"][places], ten)]
    if not len(places):
        return {}
    logits = logits_of(network, images.pixels[places])["clothing_label"]
    wanted = images.labels["clothing_label"][places]
    among = np.array(ten)[logits[:, ten].argmax(1)]
    found = {
        "n": len(places),
        "accuracy": round(float((logits.argmax(1) == wanted).mean()), 4),
        "accuracy_among_ten": round(float((among == wanted).mean()), 4),
    }
    return {"user/top10": found}


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
    network, config, _ = load_network(options.weights)
    images = load_images(options.data, side_px=config["side_px"])
    images = seen_by(images, network) if network.frozen else images
    return judge(network.eval(), heads_from_config(config), images, options.seed)


if __name__ == "__main__":
    run(__doc__, "image", VARIANTS[DEFAULT_VARIANT].epochs, _train, _evaluate)

"""Train the image encoder, or judge its weights: ``portrait train --data DIR --only image [--judge]``."""

from __future__ import annotations

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
from models.device import trains_in_bf16
from models.heads import Head, heads_from_config
from models.image.encoder import config_of, load_network, network_of
from models.image.network import ImageNetwork
from models.image.resnet import WIDTHS
from models.pretrained import LocalFolder, folder_side_px
from models.training.averaging import as_shipped, blend
from models.training.image.augment import augment
from models.training.image.data import NO_LABEL, ImageSet, blank_pictures, load_images
from models.training.image.metrics import accuracies, calibrate, judge
from models.training.image.titles import WEIGHT, EmbedTitles, TitleTargets
from models.training.muon import MuonAdamW
from models.training.resume import Resume

log = logging.getLogger(__name__)

BATCH: Final = 96
KERNELS_LR: Final = 0.02
LR: Final = 4e-3
"""Where the cycles of the learning rates end their rise: that of Muon and that of AdamW."""
LOSS_WEIGHTS: Final = {"colour": 0.4, "usage": 0.2, "master": 0.2, "art": 0.8, "clothing_label": 2.0}


@dataclass(frozen=True)
class Recipe:
    """What a variant is made of. A model of a folder says itself which side it takes."""

    side_px: int
    widths: tuple[int, ...]
    epochs: int
    architecture: str = "image-resnet"
    titles: bool = False
    """Learns from pairs of title and photo too."""


VARIANTS: Final[Mapping[str, Recipe]] = {
    "resnet64": Recipe(64, WIDTHS, 20),
    "resnet96": Recipe(96, WIDTHS, 20, titles=True),
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
    ``titles`` places product titles, for variants that learn from pairs of title and photo.
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
    titled = TitleTargets(images.titles, titles if recipe.titles else None)
    network, resume = _fit(network, _Shown(images, seed), titled, epochs, seed, device, out)
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
    shown: _Shown,
    titles: TitleTargets,
    epochs: int,
    seed: int,
    device: str,
    out: Path,
) -> tuple[ImageNetwork, Resume]:
    """Muon, one cycle of the learning rate, running average of the weights (returned)."""
    rng = np.random.default_rng(seed)
    images = shown.images
    steps = max(len(shown.places(rng)) // BATCH, 1)
    optimiser = MuonAdamW(network, KERNELS_LR, LR, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=max(epochs * steps, 20),
        pct_start=0.15,
        cycle_momentum=False,
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
            loss = _step_loss(network, shown, batch, titles, device)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
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
        self.images = images
        self._repeats = {source: part.repeat for source, part in images.parts.items()}
        count = sum(int(len(images.where("train", s)) * times) for s, times in self._repeats.items())
        blanks = images.blanks(max(count // 20, 1), seed)
        self.pixels = np.concatenate([images.pixels, blanks])
        self.labels = {
            head: torch.from_numpy(np.concatenate([y, np.full(len(blanks), len(images.names[head]) - 1)]))
            for head, y in images.labels.items()
        }
        natural = [source for source, part in images.parts.items() if part.natural]
        self.natural = torch.from_numpy(
            np.append(np.isin(images.source, natural), np.zeros(len(blanks), bool))
        )
        self._blanks = np.arange(len(images.pixels), len(self.pixels))

    def places(self, rng: np.random.Generator) -> npt.NDArray[np.intp]:
        """What one epoch shows: every part as often as its dataset says, and all the blanks."""
        found = []
        for source, times in self._repeats.items():
            mine = self.images.where("train", source)
            whole, rest = divmod(times, 1)
            found.append(np.tile(mine, int(whole)))
            if rest:
                found.append(rng.permutation(mine)[: int(rest * len(mine))])
        return np.concatenate([*found, self._blanks])


def _step_loss(
    network: ImageNetwork, shown: _Shown, batch: npt.NDArray[np.intp], titles: TitleTargets, device: str
) -> Tensor:
    """Loss of one augmented batch."""
    pixels = torch.from_numpy(shown.pixels[batch]).to(device)
    if pixels.dim() == 4:  # what a frozen model says of pictures stays as it is
        pixels = augment(pixels, shown.natural[batch].to(device))
    with torch.autocast(device, torch.bfloat16, enabled=trains_in_bf16(device)):
        embedding, logits = network(pixels)
    loss = _loss(logits, {head: y[batch].to(device) for head, y in shown.labels.items()})
    return loss + WEIGHT * titles.loss(embedding, batch)


def _loss(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> Tensor:
    parts = []
    for head, wanted in labels.items():
        if bool((wanted != NO_LABEL).any()):
            loss = F.cross_entropy(logits[head], wanted, ignore_index=NO_LABEL, label_smoothing=0.05)
            parts.append(LOSS_WEIGHTS.get(head, 1.0) * loss)
    return torch.stack(parts).sum()


def judge_image(data: Path, weights: Path) -> dict[str, Any]:
    """Figures of these weights on the test split of a folder. Raises CheckpointError."""
    network, config, _ = load_network(weights)
    images = load_images(data, side_px=config["side_px"])
    images = seen_by(images, network) if network.frozen else images
    return judge(network.eval(), heads_from_config(config), images, seed=0)

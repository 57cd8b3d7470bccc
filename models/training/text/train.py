"""Train a text encoder (``portrait train --data DIR --only text``), or judge its weights (``--judge``).

Linear models fill the tables (``tables``), AdamW trains the network over them, and the reader of a variant
that has one (``reader``).

Development texts stop the network, calibrate it and set the thresholds, all on evidence out of fold; so
the tables that ship may learn from them too. Test texts only judge.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.taxonomy import Taxonomy
from models import checkpoint
from models.heads import Head, heads_from_config
from models.pretrained import LocalFolder
from models.text.encoder import config_of, load_network, network_of
from models.text.network import SCRIPTS, TextNetwork
from models.training.averaging import as_shipped, blend
from models.training.calibration import fit_temperature, fit_threshold
from models.training.text.data import NONE, TextRows, read_texts
from models.training.text.losses import class_weights, loss_of
from models.training.text.metrics import judge
from models.training.text.reader import train_reader, with_reader
from models.training.text.tables import SEED, Columns, columns_of, fit_tables, scripts_of

Progress = Callable[[str], None]
Floats = npt.NDArray[np.float32]

EPOCHS: Final = 10
BATCH: Final = 512
MIN_STEPS: Final = 200
"""Small folders take more epochs, so that the network leaves its start."""
COVERAGE: Final = {"category": 0.97, "sentiment": 1.0}
"""Least share of known development texts on which a head speaks; 0.99 for the others."""


class Recipe(NamedTuple):
    """What a variant is made of: architecture, tables beside it or not, what its reader is built with."""

    architecture: str
    wide: bool
    reader: dict[str, Any] | None = None
    epochs: int = 4


_READERS: Final[Mapping[str, dict[str, Any]]] = {
    "bigru": {"cell": "gru"},
    "lstm": {"cell": "lstm"},
    "transformer": {},
}
VARIANTS: Final[Mapping[str, Recipe]] = {
    "bag": Recipe("text-bag", wide=True),
    **{name: Recipe(f"text-{name}", False, reader) for name, reader in _READERS.items()},
    **{f"{name}-wide": Recipe(f"text-{name}", True, reader) for name, reader in _READERS.items()},
    "hf": Recipe("text-hf", wide=False),
    "hf-wide": Recipe("text-hf", wide=True),
}
DEFAULT_VARIANT: Final = "bag"


def train_text(
    data: Path,
    out: Path,
    taxonomy: Taxonomy,
    progress: Progress,
    seed: int = SEED,
    rows: TextRows | None = None,
    recipe: Recipe = VARIANTS[DEFAULT_VARIANT],
    device: str = "cpu",
    folder: LocalFolder | None = None,
) -> dict[str, Any]:
    """Train on a folder, write ``out`` and return the figures on its test texts.

    ``seed`` is the network's (the tables have none that matters). ``rows`` are used instead of the
    folder's where given: other texts, or split otherwise. ``folder`` holds the model of ``text-hf``.
    """
    started_s = time.monotonic()
    torch.manual_seed(seed)
    rows = rows or read_texts(data, taxonomy)
    progress(f"text: {len(rows.texts)} samples, heads {sorted(rows.names)}")
    scripts = scripts_of(rows)
    columns = columns_of(rows) if recipe.wide else None
    empty = {name: Head(tuple(labels)).to_config() for name, labels in _heads(rows)}
    bare = config_of(columns, empty, scripts, {}, recipe.architecture, recipe.reader)
    bare |= folder.to_config(out.parent) if folder else {}
    network = network_of(bare, out.parent)
    if columns is None:
        evidence = torch.from_numpy(
            np.stack([rows.han == (script == "han") for script in SCRIPTS], 1)
        ).float()
    else:
        evidence = fit_tables(rows, columns, network, progress)
        _start_from_evidence(rows, columns, network)
    frozen = getattr(network.reader, "frozen", None)
    if frozen is not None:
        frozen.to(device)
    resume = None
    if "reader" in dict(network.named_children()):
        if recipe.wide:
            network = _before_reader(rows, evidence, network, progress, seed)
        network, resume = train_reader(rows, evidence, network, recipe.epochs, seed, device, out, progress)
        network = as_shipped(network)
        seen = with_reader(rows, evidence, network, np.flatnonzero(rows.where("dev")))
    else:
        features = with_reader(rows, evidence, network, np.arange(len(rows.texts)))
        network = as_shipped(_deep(rows, features, network, progress, seed))
        seen = features[rows.where("dev")]
    with torch.inference_mode():
        logits = {h: x.numpy() for h, x in network(seen)[1].items()}
    heads = {n: h.to_config() for n, h in _calibrate(rows, scripts, logits).items()}
    figures = judge(rows, scripts, heads_from_config({"heads": heads}), network) | {"seed": seed}
    checkpoint.save(out, network.state_dict(), bare | {"heads": heads, "figures": figures})
    if resume is not None:
        resume.forget()
    progress(f"text: {out.name} written after {time.monotonic() - started_s:.0f} s")
    return figures


def judge_text(data: Path, weights: Path, taxonomy: Taxonomy) -> dict[str, Any]:
    """Figures of these weights on the test split of a folder. Raises CheckpointError."""
    network, config, _ = load_network(weights)
    return judge(read_texts(data, taxonomy), config["scripts"], heads_from_config(config), network.eval())


def _heads(rows: TextRows) -> list[tuple[str, list[str]]]:
    return sorted(rows.names.items())


_TABLES: Final = ("topics", "mood", "bias")
"""How the names of the wide part's parameters begin."""


def _deep(
    rows: TextRows, features: Tensor, network: TextNetwork, progress: Progress, seed: int
) -> TextNetwork:
    """AdamW on the network above the tables, cosine schedule, running average; best epoch on dev."""
    rng = np.random.default_rng(seed)
    deep = [p for name, p in network.named_parameters() if not name.startswith(_TABLES)]
    optimiser = torch.optim.AdamW(deep, lr=2e-3, weight_decay=0.02)
    train = np.flatnonzero(rows.where("train"))
    steps = max(1, len(train) // BATCH)
    epochs = max(EPOCHS, -(-MIN_STEPS // steps))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * steps, pct_start=0.1)
    labels = {head: torch.from_numpy(rows.labels[head]) for head in network.head_sizes}
    weights = {head: class_weights(rows, head) for head in network.head_sizes}
    small = copy.deepcopy(network.cpu())
    best, best_loss = small.state_dict(), float("inf")
    dev = torch.from_numpy(np.flatnonzero(rows.where("dev")))
    for epoch in range(epochs):
        for step, places in enumerate(np.array_split(rng.permutation(train), steps)):
            batch = torch.from_numpy(places)
            seen = features[batch]
            loss = loss_of(network, seen, {h: y[batch] for h, y in labels.items()}, weights)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            cycle.step()
            _blend_deep(small, network, epoch * steps + step)
        with torch.inference_mode():
            dev_loss = float(loss_of(small, features[dev], {h: y[dev] for h, y in labels.items()}, weights))
        if dev_loss < best_loss:
            best_loss = dev_loss
            best = {n: t if n.startswith(_TABLES) else t.clone() for n, t in small.state_dict().items()}
        progress(f"text: epoch {epoch + 1} of {epochs}, development loss {dev_loss:.4f}")
    small.load_state_dict(best)
    return small


def _before_reader(
    rows: TextRows, evidence: Tensor, network: TextNetwork, progress: Progress, seed: int
) -> TextNetwork:
    """The network as trained over the tables alone: what the reader says counts for nothing yet."""
    silent = evidence.new_zeros(len(evidence), network.hidden.in_features - network.evidence_width)
    network = _deep(rows, torch.cat((evidence, silent), 1), network, progress, seed)
    with torch.no_grad():
        for layer in (network.hidden, network.heads_direct, network.place_direct):
            layer.weight[:, network.evidence_width :] = 0
    return network


def _start_from_evidence(rows: TextRows, columns: Columns, network: TextNetwork) -> None:
    """The direct layer begins as what the tables say: logit of a class = 3 times its margins."""
    sizes = list(network.head_sizes.values())
    first = dict(zip(network.head_sizes, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    direct, place = torch.zeros_like(network.heads_direct.weight), 0
    for script in SCRIPTS:
        for i, (head, label) in enumerate(columns[script]):
            direct[first[head] + rows.names[head].index(label), place + i] = 3
        place += len(columns[script])
        if "sentiment" in first:
            direct[first["sentiment"] : first["sentiment"] + 2, place] = torch.tensor([-1.5, 1.5])
        place += 2  # mood, and which script it is
    with torch.no_grad():
        network.heads_direct.weight.copy_(direct)
        network.heads.weight.mul_(0.1)


def _blend_deep(average: TextNetwork, network: TextNetwork, step: int) -> None:
    """Running average of what is trained here; the tables are the same in both."""
    for name in ("hidden", "heads", "heads_direct", "place", "place_direct"):
        blend(getattr(average, name), getattr(network, name), step, keep=0.99)


def _calibrate(rows: TextRows, scripts: Mapping[str, str], logits: Mapping[str, Floats]) -> dict[str, Head]:
    """Temperature and threshold of each head, from development texts of its script."""
    dev = rows.where("dev")
    heads = {}
    for name, labels in _heads(rows):
        wanted = rows.labels[name][dev]
        in_script = (
            np.ones(len(wanted), bool) if name not in scripts else rows.han[dev] == (scripts[name] == "han")
        )
        known = wanted != NONE
        head = Head(tuple(labels), fit_temperature(logits[name][known], wanted[known]))
        p = head.probabilities(logits[name])
        asked = known & in_script
        threshold = fit_threshold(p[asked], wanted[asked], 0.99, COVERAGE.get(name, 0.99))
        heads[name] = Head(head.labels, head.temperature, threshold)
    return heads

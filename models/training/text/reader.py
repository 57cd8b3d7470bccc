"""Train a text network whose reader learns too: units hashed once, batches of like length."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.text.network import TextNetwork
from models.text.ngrams import Units, hash_units
from models.text.units import UnitEmbedding, pad_units
from models.training.averaging import blend
from models.training.resume import Resume
from models.training.text.data import NONE, TextRows
from models.training.text.losses import class_weights, loss_of

Progress = Callable[[str], None]
Places = npt.NDArray[np.intp]

BATCH: Final = 64
RATE: Final = 2e-3
RATE_BESIDE_TABLES: Final = 3e-4
CHUNK: Final = 256
_TRAINED: Final = ("reader", "hidden", "heads", "heads_direct", "place", "place_direct")
"""Parts of the network that learn here; the tables are fitted before."""


def train_reader(
    rows: TextRows,
    evidence: Tensor,
    network: TextNetwork,
    epochs: int,
    seed: int,
    device: str,
    out: Path,
    progress: Progress,
) -> tuple[TextNetwork, Resume]:
    """AdamW, one cycle of the learning rate; → the best running average of the weights, and how to go on.

    The best is by mean accuracy of the heads on development texts, before all and after each epoch. Their
    loss would stop readers too early: it rises with overconfidence, which calibration takes away later.
    """
    rng = np.random.default_rng(seed)
    network = network.to(device)
    train = np.flatnonzero(rows.where("train"))
    units = _Ragged(rows, network)
    steps = len(_batches(units, train, rng))
    learning = [p for name in _TRAINED for p in getattr(network, name).parameters()]
    rate = RATE_BESIDE_TABLES if network.wide else RATE
    optimiser = torch.optim.AdamW(learning, lr=rate, weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=max(epochs * steps, 20), pct_start=0.1
    )
    labels = {head: torch.from_numpy(rows.labels[head]) for head in network.head_sizes}
    weights = {head: class_weights(rows, head).to(device) for head in network.head_sizes}
    average = copy.deepcopy(network).eval()
    best = copy.deepcopy(average)
    what = {"text": sorted(rows.names), "texts": len(rows.texts), "epochs": epochs, "seed": seed}
    what |= {"reader": type(network.reader).__name__, "features": network.hidden.in_features}
    resume = Resume(out, what, {"network": network, "average": average, "best": best}, optimiser, cycle, rng)
    done = resume.restore()
    best_accuracy = _development_accuracy(rows, evidence, best)
    progress(f"text: before epoch {done + 1}, best development accuracy {best_accuracy:.4f}")
    for epoch in range(done, epochs):
        start_s, total = time.monotonic(), 0.0
        network.train()
        for step, batch in enumerate(_batches(units, rng.permutation(train), rng)):
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                read = _reader(network)(*(x.to(device) for x in units.padded(batch)))
            features = torch.cat((evidence[batch].to(device), read.float()), 1)
            loss = loss_of(network, features, {h: y[batch].to(device) for h, y in labels.items()}, weights)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(learning, 2.0)
            optimiser.step()
            cycle.step()
            total += float(loss.detach())
            for name in _TRAINED:
                blend(getattr(average, name), getattr(network, name), epoch * steps + step, keep=0.99)
        accuracy = _development_accuracy(rows, evidence, average)
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            best.load_state_dict(average.state_dict())
        resume.store(epoch + 1)
        progress(
            f"text: epoch {epoch + 1} of {epochs}, loss {total / steps:.4f}, "
            f"development accuracy {accuracy:.4f}, {time.monotonic() - start_s:.0f} s"
        )
    return best, resume


def with_reader(rows: TextRows, evidence: Tensor, network: TextNetwork, places: Places) -> Tensor:
    """What ``forward`` takes of the texts at ``places``: evidence, and what the reader makes of them."""
    if network.reader is None:
        return evidence[places]
    with torch.inference_mode():
        parts = [
            network.reader.read([rows.texts[i] for i in places[start : start + CHUNK]]).cpu().float()
            for start in range(0, len(places), CHUNK)
        ]
    read = torch.cat(parts) if parts else torch.zeros(0, network.reader.width)
    return torch.cat((evidence[places], read), 1)


def _development_accuracy(rows: TextRows, evidence: Tensor, network: TextNetwork) -> float:
    """Mean over the heads that have labels on development texts; 0 where none has."""
    places = np.flatnonzero(rows.where("dev"))
    seen = with_reader(rows, evidence, network, places)
    with torch.inference_mode():
        logits = network(seen.to(network.hidden.weight.device))[1]
    found = []
    for head, x in logits.items():
        wanted = rows.labels[head][places]
        known = wanted != NONE
        if known.any():
            found.append((x.argmax(1).cpu().numpy() == wanted)[known].mean())
    return float(np.mean(found)) if found else 0.0


def _reader(network: TextNetwork) -> nn.Module:
    return network.get_submodule("reader")


class _Ragged:
    """The units of all texts, hashed once."""

    def __init__(self, rows: TextRows, network: TextNetwork) -> None:
        embed = network.get_submodule("reader.embed")
        if not isinstance(embed, UnitEmbedding):
            raise TypeError(f"reader.embed: expected UnitEmbedding, got {type(embed).__name__}")
        parts = [
            hash_units(rows.texts[i : i + 1024], embed.buckets, embed.limit)
            for i in range(0, len(rows.texts), 1024)
        ]
        self._ids = np.concatenate([p.ids for p in parts]).astype(np.int32)
        self.lengths = np.concatenate([p.lengths for p in parts])
        self._starts = np.cumsum(self.lengths) - self.lengths

    def padded(self, places: Places) -> tuple[Tensor, Tensor]:
        """[n, longest, slots], [n] of the texts at ``places``."""
        rows = [self._ids[self._starts[i] : self._starts[i] + self.lengths[i]] for i in places]
        return pad_units(Units(np.concatenate(rows).astype(np.int64), self.lengths[places]))


def _batches(units: _Ragged, places: Places, rng: np.random.Generator) -> list[Places]:
    """Shuffled places in batches of about BATCH; texts of like length meet, so that little is padding."""
    batches: list[Places] = []
    for pool in np.array_split(places, max(len(places) // (BATCH * 50), 1)):
        by_length = pool[np.argsort(units.lengths[pool], kind="stable")]
        batches += np.array_split(by_length, max(len(pool) // BATCH, 1))
    return [batches[i] for i in rng.permutation(len(batches))]

"""Train and judge the fusion head on the joined users: what category comes next?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import MODALITIES
from features.taxonomy import Taxonomy
from models import checkpoint, space
from models.encoder import Encoder
from models.fusion import ARCHITECTURE, KINDS, AttentionFusion, LearnedFusion, load_fusion
from models.training.averaging import as_shipped
from models.training.fusion.data import Snapshots, content_pools, read_streams, tell

Progress = Callable[[str], None]
Floats = npt.NDArray[np.float32]
Fuse = Callable[[Floats, npt.NDArray[np.bool_]], Floats]

SEED: Final = 5
EPOCHS: Final = 15
BATCH: Final = 256
DROPPED: Final = 0.25
"""Share of present modalities hidden from a training user, who keeps at least one."""
TELLINGS: Final = 3
"""How often a training stream is told with other content."""


def train_fusion(
    data: Path, out: Path, encoders: Mapping[str, Encoder], taxonomy: Taxonomy, progress: Progress
) -> dict[str, Any]:
    """Train ``learned`` and ``attention``, write ``out``, return figures of every kind on test users.

    ``taxonomy`` must map the spoken words: without it voice says nothing of categories.
    """
    pools = content_pools(data, encoders, taxonomy, progress)
    streams = read_streams(data, taxonomy)
    train = [tell(streams, "train", pools, taxonomy, seed) for seed in range(TELLINGS)]
    dev = tell(streams, "dev", pools, taxonomy, 100)
    progress(f"fusion: {sum(len(t.following) for t in train)} training moments, {len(dev.following)} to tune")
    prototypes = torch.from_numpy(space.category_prototypes(len(taxonomy.first_level)).copy())
    prints = {modality: encoder.fingerprint for modality, encoder in encoders.items()}
    state, config = fit_fusions(out, train, dev, prints, prototypes, progress)
    figures = judge(out, train[0], tell(streams, "test", pools, taxonomy, 200), prototypes.numpy())
    checkpoint.save(out, state, config | {"figures": figures})
    return figures


def fit_fusions(
    out: Path,
    train: list[Snapshots],
    dev: Snapshots,
    encoders: Mapping[str, str],
    prototypes: Tensor,
    progress: Progress,
    seed: int = SEED,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fit both trained kinds and write them to ``out``; ``encoders`` is modality → fingerprint."""
    torch.manual_seed(seed)
    state: dict[str, Tensor] = {}
    networks: dict[str, nn.Module] = {"learned": LearnedFusion(), "attention": AttentionFusion()}
    for kind, network in networks.items():
        fitted = as_shipped(_fit(network, train, dev, prototypes, partial(_say, progress, kind), seed))
        state |= {f"{kind}.{name}": tensor for name, tensor in fitted.state_dict().items()}
    config: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "version": 1,
        "preprocessing": "none",
        "space": space.SPACE_VERSION,
        "heads": {},
        "encoders": dict(encoders),
        "figures": {},
    }
    checkpoint.save(out, state, config)
    return state, config


def _say(progress: Progress, kind: str, message: str) -> None:
    progress(f"fusion: {kind} {message}")


def _fit(
    network: nn.Module,
    train: list[Snapshots],
    dev: Snapshots,
    prototypes: Tensor,
    progress: Progress,
    seed: int,
) -> nn.Module:
    """AdamW with a cosine schedule and modality dropout; the best epoch on the development users."""
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(np.concatenate([t.features for t in train]))
    mask = torch.from_numpy(np.concatenate([t.mask for t in train]))
    wanted = torch.from_numpy(np.concatenate([t.following for t in train]))
    steps = max(1, len(wanted) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    cycle = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS * steps)
    best, best_score = copy.deepcopy(network), -1.0
    for epoch in range(EPOCHS):
        network.train()
        for places in np.array_split(rng.permutation(len(wanted)), steps):
            seen = _drop_modalities(mask[places])
            fused = F.normalize(network(features[places] * seen[:, :, None, None], seen.float()), dim=1)
            loss = F.cross_entropy(_SHARPNESS * fused @ prototypes.T, wanted[places])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            cycle.step()
        score = ranking(_fused(network.eval(), dev) @ prototypes.numpy().T, dev.following)["ndcg"]
        progress(f"epoch {epoch + 1} of {EPOCHS}, development NDCG {score:.4f}")
        if score > best_score:
            best, best_score = copy.deepcopy(network), score
    return best


_SHARPNESS: Final = 6.0
"""Factor on cosines: lower than the encoders', since what comes next is far less certain."""


def _drop_modalities(mask: Tensor) -> Tensor:
    """Hide each present modality with probability DROPPED; a row that would lose all keeps all."""
    kept = mask & (torch.rand(mask.shape) >= DROPPED)
    return torch.where(kept.any(1, keepdim=True), kept, mask)


def _fused(network: nn.Module, moments: Snapshots) -> Floats:
    with torch.inference_mode():
        vectors: Floats = network(
            torch.from_numpy(moments.features), torch.from_numpy(moments.mask.astype(np.float32))
        ).numpy()
    return space.unit(vectors)


def judge(weights: Path, train: Snapshots, test: Snapshots, prototypes: Floats) -> dict[str, Any]:
    """Ranking of the category of the last, unseen event of test users, from their vectors.

    Two readings of each vector: its cosines to the prototypes (as a profile is used) and a linear
    classifier fitted on training users (what the vector holds, also outside the shared space).
    """
    last = np.flatnonzero(test.last)
    wanted = test.following[last]
    popular = np.bincount(train.following, minlength=len(prototypes)).astype(np.float32)
    figures: dict[str, Any] = {
        "users": len(last),
        "popular": ranking(np.tile(popular, (len(last), 1)), wanted),
    }
    vectors: dict[str, Fuse] = {f"fusion {kind}": load_fusion(weights, kind).fuse for kind in KINDS}
    vectors["newest event"] = _newest_event
    vectors["decayed mean, 10 days"] = lambda f, _: space.unit(f[:, :, 0].sum(1))
    vectors["decayed mean, 40 days"] = lambda f, _: space.unit(f[:, :, 1].sum(1))
    for place, name in enumerate(MODALITIES[:3]):
        vectors[f"only {name}, fusion learned"] = _only(place, load_fusion(weights, "learned").fuse)
    for name, fuse in vectors.items():
        seen = fuse(test.features[last], test.mask[last])
        scores = _probe(fuse(train.features, train.mask), train.following, seen)
        figures[name] = {
            "by prototypes": ranking(seen @ prototypes.T, wanted),
            "by linear classifier": ranking(scores, wanted),
        }
    return figures


def _newest_event(features: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """The one newest event: the newest part of full length."""
    newest = features[:, :, -1]
    place = (newest * newest).sum(2).argmax(1)
    vectors: Floats = newest[np.arange(len(newest)), place]
    return vectors


def _only(place: int, fuse: Fuse) -> Fuse:
    def fused(features: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
        return fuse(features, mask & (np.arange(mask.shape[1]) == place))

    return fused


def ranking(scores: Floats, wanted: npt.NDArray[np.int64]) -> dict[str, float]:
    """hit@1, hit@3 and NDCG (one relevant item: 1 / log2(1 + rank)) of the wanted class."""
    own = scores[np.arange(len(wanted)), wanted][:, None]
    rank = 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
    return {
        "hit@1": round(float((rank <= 1).mean()), 4),
        "hit@3": round(float((rank <= 3).mean()), 4),
        "ndcg": round(float((1 / np.log2(1 + rank)).mean()), 4),
    }


def _probe(seen: Floats, wanted: npt.NDArray[np.int64], unseen: Floats) -> Floats:
    """Scores [n, classes] of a linear softmax classifier (L-BFGS, mild decay)."""
    x, y = torch.from_numpy(seen), torch.from_numpy(wanted)
    layer = nn.Linear(seen.shape[1], int(wanted.max()) + 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimiser = torch.optim.LBFGS(layer.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(layer(x), y) + 1e-4 * layer.weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        scores: Floats = layer(torch.from_numpy(unseen)).numpy()
    return scores

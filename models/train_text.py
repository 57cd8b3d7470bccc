"""Train and judge the text encoder: linear tables by liblinear, then the network over them by AdamW.

The network is fitted on evidence *out of fold*: each training text is read by tables that have not seen
it, so that it learns how far evidence can be trusted. Development texts stop it, calibrate it and set
the thresholds, on such evidence too; so the tables that ship may learn from both. Test texts only judge.
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
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from sklearn.svm import LinearSVC
from torch import Tensor

from features.taxonomy import Taxonomy
from models import checkpoint, space
from models.averaging import as_shipped, blend
from models.calibration import fit_temperature, fit_threshold
from models.heads import Head
from models.judge_text import judge
from models.text import SCRIPTS, TextNetwork, config_of
from models.text_data import FOLDS, NONE, TextRows, read_texts
from models.text_features import BUCKETS, gram_weights, hash_ngrams

Progress = Callable[[str], None]
Floats = npt.NDArray[np.float32]

SEED: Final = 11
REGULARISATION: Final = {
    ("topics", "han"): 0.5,
    ("topics", "latin"): 0.3,
    ("mood", "han"): 0.4,
    ("mood", "latin"): 0.2,
}
"""C of liblinear."""
RARITY_POWER: Final = {"topics": 0.5, "mood": 1.0}
"""How much rare n-grams weigh: the power of their inverse document frequency."""
EPOCHS: Final = 10
BATCH: Final = 512
MIN_STEPS: Final = 200
"""Small folders take more epochs, so that the network leaves its start."""
SPACE_WEIGHT: Final = 0.7
COVERAGE: Final = {"category": 0.97, "sentiment": 1.0}
"""Least share of known development texts on which a head speaks; 0.99 for the others."""


class Tables(NamedTuple):
    """The linear part of one script: [BUCKETS / 2, k], [BUCKETS, 1] and [k + 1]."""

    topics: Floats
    mood: Floats
    bias: Floats


def train_text(data: Path, out: Path, taxonomy: Taxonomy, progress: Progress) -> dict[str, Any]:
    """Train on a folder, write ``out`` and return the figures on its test texts."""
    started_s = time.monotonic()
    torch.manual_seed(SEED)
    rows = read_texts(data, taxonomy)
    progress(f"text: {len(rows.texts)} samples, heads {sorted(rows.names)}")
    scripts = scripts_of(rows)
    columns = {s: _columns(rows, scripts, s) for s in SCRIPTS}
    network = TextNetwork({s: len(c) for s, c in columns.items()}, {h: len(n) for h, n in _heads(rows)})
    evidence = _wide(rows, columns, network, progress)
    network = as_shipped(_deep(rows, evidence, network, progress))
    with torch.inference_mode():
        logits = {h: x.numpy() for h, x in network(evidence[rows.where("dev")])[1].items()}
    heads = _calibrate(rows, scripts, logits)
    figures = judge(rows, scripts, heads, network) | {"seed": SEED}
    config = config_of(columns, {n: h.to_config() for n, h in heads.items()}, scripts, figures)
    checkpoint.save(out, network.state_dict(), config)
    progress(f"text: {out.name} written after {time.monotonic() - started_s:.0f} s")
    return figures


def scripts_of(rows: TextRows) -> dict[str, str]:
    """Head → the only script it was trained on; heads of both scripts are left out."""
    found = {}
    for head in rows.names:
        if head not in ("category", "sentiment"):
            han = rows.han[rows.labels[head] != NONE]
            found[head] = "han" if han.mean() > 0.5 else "latin"
    return found


def _heads(rows: TextRows) -> list[tuple[str, list[str]]]:
    return sorted(rows.names.items())


def _columns(rows: TextRows, scripts: Mapping[str, str], script: str) -> list[tuple[str, str]]:
    heads = [h for h in sorted(rows.names) if h == "category" or scripts.get(h) == script]
    return [(head, label) for head in heads for label in rows.names[head]]


# --- the wide part ---------------------------------------------------------------------------------


def _wide(
    rows: TextRows, columns: Mapping[str, list[tuple[str, str]]], network: TextNetwork, progress: Progress
) -> Tensor:
    """Fit the tables into ``network``; evidence of every row, out of fold for all but the test rows."""
    evidence = torch.zeros(len(rows.texts), network.evidence_width)
    for script in SCRIPTS:
        mine = np.flatnonzero(rows.han == (script == "han"))
        topics, mood = _sparse([rows.texts[i] for i in mine])
        known = rows.split[mine] != "test"
        final = _fit_tables(rows, mine, known, topics, mood, columns[script], script)
        with torch.no_grad():
            getattr(network, f"topics_{script}").copy_(torch.from_numpy(final.topics))
            getattr(network, f"mood_{script}").copy_(torch.from_numpy(final.mood))
            getattr(network, f"bias_{script}").copy_(torch.from_numpy(final.bias))
        margins = _margins(final, topics, mood)
        for fold in range(FOLDS):
            progress(f"text: {script} tables without fold {fold + 1} of {FOLDS}")
            out = known & (rows.fold[mine] == fold)
            if out.any():
                held = _fit_tables(rows, mine, known & ~out, topics, mood, columns[script], script)
                margins[out] = _margins(held, topics[out], mood[out])
        evidence[mine] = network.assemble(torch.from_numpy(margins), script)
    return evidence


def _sparse(texts: list[str]) -> tuple[csr_matrix, csr_matrix]:
    """Weighted n-grams of texts in coarse and in fine buckets."""
    parts = [hash_ngrams(texts[i : i + 1024]) for i in range(0, len(texts), 1024)]
    fine = np.concatenate([p.buckets for p in parts]).astype(np.int32)
    weights = np.concatenate([gram_weights(p) for p in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(p.offsets) for p in parts]))])
    mood = csr_matrix((weights, fine, offsets), shape=(len(texts), BUCKETS))  # type: ignore[no-untyped-call]
    topics = csr_matrix((weights.copy(), fine >> 1, offsets), shape=(len(texts), BUCKETS // 2))  # type: ignore[no-untyped-call]
    topics.sum_duplicates()  # type: ignore[no-untyped-call]
    return topics, mood


def _fit_tables(
    rows: TextRows,
    mine: npt.NDArray[np.intp],
    train: npt.NDArray[np.bool_],
    topics: csr_matrix,
    mood: csr_matrix,
    columns: list[tuple[str, str]],
    script: str,
) -> Tables:
    """Linear classifiers of every head of a script; what was never seen stays 0."""
    table = np.zeros((BUCKETS // 2, len(columns)), np.float32)
    fine = np.zeros((BUCKETS, 1), np.float32)
    bias = np.zeros(len(columns) + 1, np.float32)
    rarity = {"topics": _rarity(topics[train], "topics"), "mood": _rarity(mood[train], "mood")}
    for head in sorted({head for head, _ in columns} | ({"sentiment"} & set(rows.names))):
        labels = rows.labels[head][mine]
        chosen = np.flatnonzero(train & (labels != NONE))
        if len(set(labels[chosen].tolist())) < 2:
            continue
        kind, grams = ("mood", mood) if head == "sentiment" else ("topics", topics)
        x = grams[chosen].multiply(rarity[kind]).tocsr()
        classes, weights, offsets = _fit_head(
            x, labels[chosen], REGULARISATION[kind, script], kind == "topics"
        )
        weights = (weights * rarity[kind]).T
        if head == "sentiment":
            fine[:, 0], bias[-1] = weights[:, 1], offsets[1]
        else:
            places = columns.index((head, rows.names[head][0])) + classes
            table[:, places], bias[places] = weights, offsets
    return Tables(table, fine, bias)


def _fit_head(
    x: csr_matrix, labels: npt.NDArray[np.int64], c: float, balance: bool
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """One-against-rest squared hinge → classes that occur, their weights [k, buckets] and offsets [k].

    ``balance`` goes half way: rare classes count more, common ones still decide.
    """
    classes, counts = np.unique(labels, return_counts=True)
    share = np.sqrt(len(labels) / (len(classes) * counts))
    model = LinearSVC(  # type: ignore[no-untyped-call]
        C=c,
        tol=1e-3,
        random_state=SEED,
        class_weight=dict(zip(classes.tolist(), share.tolist(), strict=True)) if balance else None,
    ).fit(x, labels)
    weights, offsets = model.coef_, model.intercept_
    if len(classes) == 2:
        weights, offsets = np.concatenate((-weights, weights)), np.concatenate((-offsets, offsets))
    return classes, weights.astype(np.float32), offsets.astype(np.float32)


def _rarity(grams: csr_matrix, kind: str) -> Floats:
    """A power of the smoothed inverse document frequency, about 1 for what one text in 300 has."""
    n, frequency = grams.shape[0], np.bincount(grams.indices, minlength=grams.shape[1])
    inverse = (np.log((1 + n) / (1 + frequency)) + 1) / 6.5
    rarity: Floats = (inverse ** RARITY_POWER[kind]).astype(np.float32)
    return rarity


def _margins(tables: Tables, topics: csr_matrix, mood: csr_matrix) -> Floats:
    margins: Floats = np.concatenate((topics @ tables.topics, mood @ tables.mood), axis=1) + tables.bias
    return margins


# --- the deep part ---------------------------------------------------------------------------------


_TABLES: Final = ("topics", "mood", "bias")
"""How the names of the wide part's parameters begin."""


def _deep(rows: TextRows, evidence: Tensor, network: TextNetwork, progress: Progress) -> TextNetwork:
    """AdamW on the network above the tables, cosine schedule, running average; best epoch on dev."""
    rng = np.random.default_rng(SEED)
    _start_from_evidence(rows, network)
    deep = [p for name, p in network.named_parameters() if not name.startswith(_TABLES)]
    optimiser = torch.optim.AdamW(deep, lr=2e-3, weight_decay=0.02)
    train = np.flatnonzero(rows.where("train"))
    steps = max(1, len(train) // BATCH)
    epochs = max(EPOCHS, -(-MIN_STEPS // steps))
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=epochs * steps, pct_start=0.1)
    labels = {head: torch.from_numpy(rows.labels[head]) for head in network.head_sizes}
    weights = {head: _class_weights(rows, head) for head in network.head_sizes}
    small = copy.deepcopy(network.cpu())
    best, best_loss = small.state_dict(), float("inf")
    dev = torch.from_numpy(np.flatnonzero(rows.where("dev")))
    for epoch in range(epochs):
        for step, places in enumerate(np.array_split(rng.permutation(train), steps)):
            batch = torch.from_numpy(places)
            seen = evidence[batch]
            loss = _loss(network, seen, {h: y[batch] for h, y in labels.items()}, weights)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            cycle.step()
            _blend_deep(small, network, epoch * steps + step)
        with torch.inference_mode():
            dev_loss = float(_loss(small, evidence[dev], {h: y[dev] for h, y in labels.items()}, weights))
        if dev_loss < best_loss:
            best_loss = dev_loss
            best = {n: t if n.startswith(_TABLES) else t.clone() for n, t in small.state_dict().items()}
        progress(f"text: epoch {epoch + 1} of {epochs}, development loss {dev_loss:.4f}")
    small.load_state_dict(best)
    return small


def _start_from_evidence(rows: TextRows, network: TextNetwork) -> None:
    """The direct layer begins as what the tables say: logit of a class = 3 times its margins."""
    at = {}
    place = 0
    for script in SCRIPTS:
        heads = [h for h in sorted(rows.names) if h == "category" or scripts_of(rows).get(h) == script]
        for head in heads:
            at[script, head] = place
            place += len(rows.names[head])
        at[script, "sentiment"] = place
        place += 2  # mood and the script's flag
    with torch.no_grad():
        network.heads_direct.weight.zero_()
        network.heads.weight.mul_(0.1)
        row = 0
        for head, size in network.head_sizes.items():
            for script in SCRIPTS:
                if (script, head) in at and head != "sentiment":
                    network.heads_direct.weight[
                        row : row + size, at[script, head] : at[script, head] + size
                    ] += 3 * torch.eye(size)
                if head == "sentiment":
                    negative_positive = torch.tensor([-1.5, 1.5])
                    network.heads_direct.weight[row : row + size, at[script, head]] = negative_positive
            row += size


def _class_weights(rows: TextRows, head: str) -> Tensor:
    """Half way to balance, of mean 1 over the training rows."""
    labels = rows.labels[head][rows.where("train")]
    counts = np.bincount(labels[labels != NONE], minlength=len(rows.names[head])).astype(np.float64)
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    if head == "sentiment":
        weights[:] = 1
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))


def _loss(
    network: TextNetwork, evidence: Tensor, labels: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Tensor:
    """Cross entropies of the heads, and of cosines to the prototypes (towards none for ``other``)."""
    embedding, logits = network(evidence)
    parts = []
    for head, wanted in labels.items():
        known = wanted != NONE
        if bool(known.any()):
            parts.append(
                F.cross_entropy(logits[head][known], wanted[known], weights[head], label_smoothing=0.02)
            )
    count = len(weights["category"]) - 1
    cosines = embedding @ torch.from_numpy(space.category_prototypes(count).copy()).T
    nothing = torch.full((len(cosines), 1), 0.5)  # the cosine that a category must beat
    target = space.SCALE * torch.cat((cosines, nothing), 1)
    parts.append(SPACE_WEIGHT * F.cross_entropy(target, labels["category"]))
    return torch.stack(parts).sum()


def _blend_deep(average: TextNetwork, network: TextNetwork, step: int) -> None:
    """Running average of what is trained here; the tables are the same in both."""
    for name in ("hidden", "heads", "heads_direct", "place", "place_direct"):
        blend(getattr(average, name), getattr(network, name), step, keep=0.99)


# --- calibration -----------------------------------------------------------------------------------


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

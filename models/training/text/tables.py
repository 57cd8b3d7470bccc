"""The wide part of the text encoder: linear classifiers over hashed n-grams, one table per script.

Fitted by liblinear on training and development texts; what the network above learns from is evidence
*out of fold*: each of those texts is read by tables that have not seen it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix
from sklearn.svm import LinearSVC
from torch import Tensor

from models.text.network import SCRIPTS, TextNetwork
from models.text.ngrams import BUCKETS, COARSE_BUCKETS, COARSE_SHIFT, gram_weights, hash_ngrams
from models.training.text.data import FOLDS, NONE, TextRows

Progress = Callable[[str], None]
Floats = npt.NDArray[np.float32]
Columns = dict[str, list[tuple[str, str]]]
"""Script → (head, label) of each topic column."""

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


class Tables(NamedTuple):
    """The linear part of one script: [COARSE_BUCKETS, k], [BUCKETS, 1] and [k + 1]."""

    topics: Floats
    mood: Floats
    bias: Floats


def scripts_of(rows: TextRows) -> dict[str, str]:
    """Head → the only script it was trained on; heads of both scripts are left out."""
    found = {}
    for head in rows.names:
        if head not in ("category", "sentiment"):
            han = rows.han[rows.labels[head] != NONE]
            found[head] = "han" if han.mean() > 0.5 else "latin"
    return found


def columns_of(rows: TextRows) -> Columns:
    """The columns of each script: its own heads and ``category``."""
    scripts = scripts_of(rows)
    heads = {s: [h for h in sorted(rows.names) if h == "category" or scripts.get(h) == s] for s in SCRIPTS}
    return {s: [(head, label) for head in heads[s] for label in rows.names[head]] for s in SCRIPTS}


def fit_tables(rows: TextRows, columns: Columns, network: TextNetwork, progress: Progress) -> Tensor:
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
    topics = csr_matrix((weights.copy(), fine >> COARSE_SHIFT, offsets), shape=(len(texts), COARSE_BUCKETS))  # type: ignore[no-untyped-call]
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
    table = np.zeros((COARSE_BUCKETS, len(columns)), np.float32)
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

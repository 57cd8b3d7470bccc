"""What a text network is worth on texts it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from models import space
from models.encoder import OTHER
from models.heads import Head
from models.text.network import SCRIPTS, TextNetwork
from models.training.calibration import calibration_error, macro_f1
from models.training.text.data import NONE, TextRows

Floats = npt.NDArray[np.float32]
EMBEDDING = "embedding"


def logits_of(network: TextNetwork, rows: TextRows, split: str) -> dict[str, Floats]:
    """Head → [m, labels] of the m rows of a split, in order; ``embedding`` → [m, 64]."""
    places = np.flatnonzero(rows.where(split))
    found: dict[str, Floats] = {}
    with torch.inference_mode():
        for i, script in enumerate(SCRIPTS):
            mine = np.flatnonzero(rows.han[places] == bool(i))
            for start in range(0, len(mine), 512):
                part = mine[start : start + 512]
                texts = [rows.texts[places[p]] for p in part]
                embedding, logits = network(network.features(texts, script))
                for name, values in (logits | {EMBEDDING: embedding}).items():
                    whole = found.setdefault(name, np.zeros((len(places), values.shape[1]), np.float32))
                    whole[part] = values.numpy()
    return found


def judge(
    rows: TextRows, scripts: Mapping[str, str], heads: Mapping[str, Head], network: TextNetwork
) -> dict[str, Any]:
    """Figures on the test split, by source of the texts and head."""
    logits = logits_of(network, rows, "test")
    test = rows.where("test")
    figures: dict[str, Any] = {}
    for source in sorted(set(rows.source[test].tolist())):
        here = rows.source[test] == source
        for name, head in heads.items():
            wanted = rows.labels[name][test]
            known = here & (wanted != NONE)
            if known.any():
                figures[f"{source}/{name}"] = _judge_head(head, logits[name][known], wanted[known])
    figures["space"] = _judge_space(
        logits[EMBEDDING], rows.labels["category"][test], len(heads["category"].labels)
    )
    return figures


def _judge_head(head: Head, logits: Floats, wanted: npt.NDArray[np.int64]) -> dict[str, float]:
    p = head.probabilities(logits)
    said = np.array(head.judge(logits).labels)
    right = said == np.array(head.labels)[wanted]
    kept = p.max(axis=1) >= head.threshold
    found = {
        "n": len(wanted),
        "accuracy": _round((p.argmax(1) == wanted).mean()),
        "macro_f1": _round(macro_f1(p.argmax(1), wanted)),
        "coverage": _round(kept.mean()),
        "accuracy_of_kept": _round(right[kept].mean()) if kept.any() else 0.0,
        "accuracy_as_said": _round(right.mean()),
        "calibration_error": _round(calibration_error(p, wanted)),
    }
    if len(head.labels) == 2 and len(set(wanted.tolist())) == 2:
        found["auc"] = _round(area_under_curve(p[:, 1], wanted == 1))
    return found


def _judge_space(embedding: Floats, wanted: npt.NDArray[np.int64], classes: int) -> dict[str, float]:
    """How often the nearest prototype is the category's, and how near ``other`` texts come to any."""
    cosines = embedding @ space.category_prototypes(classes - 1).T
    of_a_category = wanted < classes - 1
    return {
        "nearest_prototype": _round((cosines.argmax(1) == wanted)[of_a_category].mean()),
        "cosine_to_own": _round(cosines[of_a_category, wanted[of_a_category]].mean()),
        f"cosine_of_{OTHER}_to_nearest": _round(cosines[~of_a_category].max(1).mean())
        if (~of_a_category).any()
        else 0.0,
    }


def area_under_curve(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Probability that a positive sample scores above a negative one (Mann-Whitney; ties count half)."""
    _, rank, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    n = int(positive.sum())
    return float((middle[rank][positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))


def _round(value: Any) -> float:
    return round(float(value), 4)

"""What an image network is worth on pictures it has not seen, and when its heads shall abstain."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from models.encoder import OTHER
from models.heads import Head
from models.image.network import ImageNetwork
from models.training.calibration import calibration_error, fit_temperature, fit_threshold, macro_f1
from models.training.image.data import NO_LABEL, ImageSet
from models.training.splits import Split

KEPT_ACCURACY: Final = 0.9
"""A head abstains below the score at which 90 % of what it says of development pictures is right."""


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
"""The commonest labels of the users' photos, by which the set is usually judged."""


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

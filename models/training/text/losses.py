"""What text networks are trained against: labels of the heads, and places in the shared space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models import space
from models.text.network import TextNetwork
from models.training.text.data import NONE, TextRows

SPACE_WEIGHT: Final = 0.7


def class_weights(rows: TextRows, head: str) -> Tensor:
    """Half way to balance, of mean 1 over the training rows."""
    labels = rows.labels[head][rows.where("train")]
    counts = np.bincount(labels[labels != NONE], minlength=len(rows.names[head])).astype(np.float64)
    weights = 1 / np.sqrt(np.maximum(counts, 1))
    if head == "sentiment":
        weights[:] = 1
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))


def loss_of(
    network: TextNetwork, features: Tensor, labels: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> Tensor:
    """Cross entropies of the heads, and of cosines to the prototypes (towards none for ``other``)."""
    embedding, logits = network(features)
    parts = []
    for head, wanted in labels.items():
        known = wanted != NONE
        if bool(known.any()):
            parts.append(
                F.cross_entropy(logits[head][known], wanted[known], weights[head], label_smoothing=0.02)
            )
    count = len(weights["category"]) - 1
    cosines = embedding @ torch.from_numpy(space.category_prototypes(count).copy()).to(embedding.device).T
    nothing = cosines.new_full((len(cosines), 1), 0.5)  # the cosine that a category must beat
    target = space.SCALE * torch.cat((cosines, nothing), 1)
    placed = labels["category"]
    if bool((placed == NONE).any()):
        target, placed = target[placed != NONE], placed[placed != NONE]
    if len(placed):
        parts.append(SPACE_WEIGHT * F.cross_entropy(target, placed))
    return torch.stack(parts).sum()

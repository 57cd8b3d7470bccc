"""What a head says of a batch: calibrated probabilities, and ``other`` where it is not sure enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.encoder import OTHER, HeadScores

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """Labels in the order of the logits, the temperature that calibrates them, and when to abstain."""

    labels: tuple[str, ...]
    temperature: float = 1.0
    threshold: float = 0.0
    """Least calibrated probability at which the head commits itself; below it the label is ``other``."""

    def probabilities(self, logits: npt.NDArray[np.floating]) -> Floats:
        """[n, k] logits → [n, k] float32 calibrated probabilities."""
        scaled = np.asarray(logits, dtype=np.float32) / np.float32(self.temperature)
        scaled -= scaled.max(axis=1, keepdims=True, initial=-np.inf)
        np.exp(scaled, out=scaled)
        scaled /= scaled.sum(axis=1, keepdims=True)
        return scaled

    def judge(self, logits: npt.NDArray[np.floating]) -> HeadScores:
        """[n, k] logits → a label and its probability for each row.

        The score is always the probability of the best label, also where the label says ``other``.
        """
        p = self.probabilities(logits)
        if not len(p):
            return HeadScores([], np.zeros(0, np.float32))
        best = p.argmax(axis=1)
        scores = p[np.arange(len(p)), best]
        labels = [self.labels[i] if s >= self.threshold else OTHER for i, s in zip(best, scores, strict=True)]
        return HeadScores(labels, scores)

    def to_config(self) -> dict[str, Any]:
        """JSON for a checkpoint's ``heads``."""
        return {"labels": list(self.labels), "temperature": self.temperature, "threshold": self.threshold}


def heads_from_config(config: Mapping[str, Any]) -> dict[str, Head]:
    """The heads of a checkpoint's config, in their order (sorted by name)."""
    return {
        name: Head(tuple(h["labels"]), float(h["temperature"]), float(h["threshold"]))
        for name, h in sorted(config["heads"].items())
    }

"""What every encoder is: bytes or text in, unit vectors of one shared space and labels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

OTHER = "other"
"""Label of a head that abstains; it adds no tag."""


class ContentError(ValueError):
    """Content that this encoder cannot take.

    ``code`` is the value of a reason code (``unsupported_format``, ``corrupt_media``,
    ``media_too_large``, ``media_too_small``, ``empty_text``, ``no_sound``). The message says what was
    expected and got and never quotes the content.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class HeadScores:
    """One head's verdicts on a batch."""

    labels: list[str]  # OTHER where it abstains
    scores: npt.NDArray[np.float32]  # [n], calibrated probability of the label


@dataclass(slots=True)
class Encoded:
    """What an encoder says of a batch of n samples, in their order."""

    embedding: npt.NDArray[np.float32]  # [n, EMBEDDING_DIM], rows of unit length
    heads: dict[str, HeadScores]
    sentiment: npt.NDArray[np.float32] | None = None  # [n] in -1..1, NaN = none judged
    lang: list[str] | None = None  # of features.schema.LANGUAGES
    aspects: list[dict[str, int]] = field(default_factory=list)  # per sample: aspect → -1, 0, 1


class Encoder(Protocol):
    """One modality's preprocessing and model.

    ``decode`` is what may fail on bad content and runs per item; ``encode`` runs on a batch and gives
    for each sample what it would give for that sample alone (within 1e-4).
    """

    modality: str
    fingerprint: str  # hex sha256 over weights, config and preprocessing version: part of event_space
    device: str  # "cpu" or "cuda"

    def decode(self, content: Any) -> Any:
        """Content (text: ``TextContent``; image, voice: bytes) → a sample ready to batch.

        Raises ContentError.
        """

    def sample_bytes(self, sample: Any) -> int:
        """Memory of one decoded sample in the batch, in bytes."""

    def encode(self, samples: Sequence[Any]) -> Encoded:
        """Batch of samples → embeddings and heads; works for an empty batch and for one item."""


@dataclass(frozen=True, slots=True)
class TextContent:
    """A review as it came: text, and what its sender said about it."""

    text: str
    lang: str | None = None
    rating: float | None = None

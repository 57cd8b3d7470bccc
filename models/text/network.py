"""Every text network: n-gram tables and a reader of whole texts, either or both, under the same heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import EMBEDDING_DIM
from models.text.ngrams import BUCKETS, COARSE_BUCKETS, COARSE_SHIFT, gram_weights, hash_ngrams

SCRIPTS: Final = ("latin", "han")
"""Which table reads a text: 1 = written in Chinese characters, whatever its sender says."""
HIDDEN: Final = 128


class Reader(Protocol):
    """What reads whole texts: a sequence network, or a model of a local folder."""

    width: int

    def read(self, texts: Sequence[str]) -> Tensor:
        """Normalised texts → [n, width], each as if it were alone."""


class TextNetwork(nn.Module):
    """Features of a text → head logits and unit embedding.

    The features are the evidence of the tables (the *wide* part; none with ``columns`` None), and what
    a ``reader`` makes of the text, where there is one. ``columns`` is script → number of topic columns.
    ``topics_<script>`` is [COARSE_BUCKETS, columns] and ``mood_<script>`` [BUCKETS, 1] (sentiment needs
    finer n-grams than topics do).
    """

    def __init__(
        self, columns: Mapping[str, int] | None, heads: Mapping[str, int], reader: Reader | None = None
    ) -> None:
        super().__init__()
        self.wide = columns is not None
        self.columns, self.head_sizes = dict(columns or dict.fromkeys(SCRIPTS, 0)), dict(heads)
        for script in SCRIPTS if self.wide else ():
            k = self.columns[script]
            self.register_parameter(f"topics_{script}", nn.Parameter(torch.zeros(COARSE_BUCKETS, k)))
            self.register_parameter(f"mood_{script}", nn.Parameter(torch.zeros(BUCKETS, 1)))
            self.register_parameter(f"bias_{script}", nn.Parameter(torch.zeros(k + 1)))
        width = self.evidence_width + (reader.width if reader else 0)
        self.hidden = nn.Linear(width, HIDDEN)
        self.heads = nn.Linear(HIDDEN, sum(heads.values()))
        self.heads_direct = nn.Linear(width, sum(heads.values()))
        self.place = nn.Linear(HIDDEN, EMBEDDING_DIM)
        self.place_direct = nn.Linear(width, EMBEDDING_DIM, bias=False)
        self.reader = reader

    @property
    def evidence_width(self) -> int:
        """Columns of both scripts, a mood each, and which script it is; the last alone without tables."""
        return sum(self.columns.values()) + 2 * len(SCRIPTS) if self.wide else len(SCRIPTS)

    def features(self, texts: Sequence[str], script: str) -> Tensor:
        """Normalised texts of one script → what ``forward`` takes."""
        evidence = self.evidence(texts, script)
        if self.reader is None:
            return evidence
        return torch.cat((evidence, self.reader.read(texts).to(evidence.device)), 1)

    def evidence(self, texts: Sequence[str], script: str) -> Tensor:
        """Normalised texts of one script → [n, evidence_width]; the other script's columns are 0."""
        if not self.wide:
            return self.assemble(self.hidden.weight.new_zeros(len(texts), 0), script)
        grams = hash_ngrams(texts)
        device = self.hidden.weight.device
        buckets = torch.from_numpy(grams.buckets).to(device)
        offsets = torch.from_numpy(grams.offsets[:-1].copy()).to(device)
        weights = torch.from_numpy(gram_weights(grams)).to(device)

        def bag(table: Tensor, rows: Tensor) -> Tensor:
            return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=weights)

        topics = bag(getattr(self, f"topics_{script}"), buckets >> COARSE_SHIFT)
        mood = bag(getattr(self, f"mood_{script}"), buckets)
        return self.assemble(torch.cat((topics, mood), 1) + getattr(self, f"bias_{script}"), script)

    def assemble(self, margins: Tensor, script: str) -> Tensor:
        """[n, columns + 1] of one script → [n, evidence_width]."""
        parts = []
        for name in SCRIPTS:
            mine, width = name == script, (self.columns[name] + 1) * self.wide
            parts.append(margins if mine else margins.new_zeros(len(margins), width))
            parts.append(margins.new_full((len(margins), 1), float(mine)))
        return torch.cat(parts, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, evidence_width + reader's] → unit embedding [n, 64] and logits by head."""
        hidden = F.relu(self.hidden(features))
        logits = self.heads(hidden) + self.heads_direct(features)
        embedding = F.normalize(self.place(hidden) + self.place_direct(features), dim=1)
        parts = torch.split(logits, list(self.head_sizes.values()), dim=1)
        return embedding, dict(zip(self.head_sizes, parts, strict=True))

"""The text encoder: hashed n-grams → linear evidence → a small network → shared space and heads.

Chinese and English reviews have a table each: a row per n-gram bucket, a column per class, fitted as
linear classifiers (the *wide* part; nothing small beats it on reviews). A residual network over the
columns turns that evidence into calibrated heads and the 64-d embedding (the *deep* part).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from features.schema import EMBEDDING_DIM
from models import checkpoint, space
from models.device import require_device
from models.encoder import OTHER, ContentError, Encoded, HeadScores, TextContent
from models.heads import heads_from_config
from models.text_aspects import aspects_of
from models.text_features import BUCKETS, PREPROCESSING, gram_weights, hash_ngrams, normalise
from models.text_language import EN, OTHER_LANGUAGE, ZH, is_mostly_han, language_of

ARCHITECTURE: Final = "text-bag"
SCRIPTS: Final = ("latin", "han")
"""Which table reads a text: 1 = written in Chinese characters, whatever its sender says."""
HIDDEN: Final = 128
CHUNK_TEXTS: Final = 256
"""Texts hashed at once: beyond it the arrays leave the processor's cache and each text takes longer."""


class TextSample(NamedTuple):
    """A decoded review."""

    text: str  # normalised, not empty
    han: bool
    lang: str  # of features.schema.LANGUAGES
    aspects: dict[str, int]


class TextNetwork(nn.Module):
    """Evidence columns → head logits and unit embedding.

    ``columns`` is script → number of topic columns. ``topics_<script>`` is [BUCKETS / 2, columns] and
    ``mood_<script>`` [BUCKETS, 1] (sentiment needs finer n-grams than topics do).
    """

    def __init__(self, columns: Mapping[str, int], heads: Mapping[str, int]) -> None:
        super().__init__()
        self.columns, self.head_sizes = dict(columns), dict(heads)
        for script in SCRIPTS:
            k = self.columns[script]
            self.register_parameter(f"topics_{script}", nn.Parameter(torch.zeros(BUCKETS // 2, k)))
            self.register_parameter(f"mood_{script}", nn.Parameter(torch.zeros(BUCKETS, 1)))
            self.register_parameter(f"bias_{script}", nn.Parameter(torch.zeros(k + 1)))
        width = self.evidence_width
        self.hidden = nn.Linear(width, HIDDEN)
        self.heads = nn.Linear(HIDDEN, sum(heads.values()))
        self.heads_direct = nn.Linear(width, sum(heads.values()))
        self.place = nn.Linear(HIDDEN, EMBEDDING_DIM)
        self.place_direct = nn.Linear(width, EMBEDDING_DIM, bias=False)

    @property
    def evidence_width(self) -> int:
        """Columns of both scripts, a mood each, and which script it is."""
        return sum(self.columns.values()) + 2 * len(SCRIPTS)

    def evidence(self, texts: Sequence[str], script: str) -> Tensor:
        """Normalised texts of one script → [n, evidence_width]; the other script's columns are 0."""
        grams = hash_ngrams(texts)
        device = self.hidden.weight.device
        buckets = torch.from_numpy(grams.buckets).to(device)
        offsets = torch.from_numpy(grams.offsets[:-1].copy()).to(device)
        weights = torch.from_numpy(gram_weights(grams)).to(device)

        def bag(table: Tensor, rows: Tensor) -> Tensor:
            return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=weights)

        topics = bag(getattr(self, f"topics_{script}"), buckets >> 1)
        mood = bag(getattr(self, f"mood_{script}"), buckets)
        return self.assemble(torch.cat((topics, mood), 1) + getattr(self, f"bias_{script}"), script)

    def assemble(self, margins: Tensor, script: str) -> Tensor:
        """[n, columns + 1] of one script → [n, evidence_width]."""
        parts = []
        for name in SCRIPTS:
            mine = name == script
            parts.append(margins if mine else margins.new_zeros(len(margins), self.columns[name] + 1))
            parts.append(margins.new_full((len(margins), 1), float(mine)))
        return torch.cat(parts, 1)

    def forward(self, evidence: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """[n, evidence_width] → unit embedding [n, 64] and logits by head."""
        hidden = F.relu(self.hidden(evidence))
        logits = self.heads(hidden) + self.heads_direct(evidence)
        embedding = F.normalize(self.place(hidden) + self.place_direct(evidence), dim=1)
        parts = torch.split(logits, list(self.head_sizes.values()), dim=1)
        return embedding, dict(zip(self.head_sizes, parts, strict=True))


class TextEncoder:
    """Reviews in Chinese and English → :class:`models.encoder.Encoded`.

    Heads: ``category``, the labels of each training file (``zh_cat``, ``en_cat``; they speak only of
    texts in their script) and ``sentiment``, whose score is the probability of ``positive``. In another
    language every head abstains and no sentiment is judged; the embedding is still a unit vector.

    Raises CheckpointError for weights that cannot be used, DeviceError for a device that is not there.
    """

    modality = "text"

    def __init__(
        self,
        weights: str | Path = checkpoint.WEIGHTS_DIR / "text.safetensors",
        device: str = "cpu",
        sha256: str | None = None,
    ) -> None:
        self.device = require_device(device)
        state, config = checkpoint.load(weights, sha256, ARCHITECTURE)
        self.fingerprint = checkpoint.fingerprint(state, config)
        self.config: dict[str, Any] = config
        self.heads = heads_from_config(config)
        self._network = network_of(config)
        self._network.load_state_dict(checkpoint.full_precision(state))
        self._network.eval().to(self.device)

    def decode(self, content: Any) -> TextSample:
        """A :class:`TextContent` → sample.

        Raises ContentError ``empty_text`` where nothing visible is left.
        """
        content = content if isinstance(content, TextContent) else TextContent(str(content))
        text = normalise(content.text)
        if not text:
            raise ContentError(
                "empty_text", "text: expected something visible, got blanks and control characters"
            )
        han, lang = is_mostly_han(text), language_of(text, content.lang)
        aspects = {} if lang == OTHER_LANGUAGE else aspects_of(text, ZH if han else EN)
        return TextSample(text, han, lang, aspects)

    def sample_bytes(self, sample: TextSample) -> int:
        """Bytes while its n-grams are hashed: about 100 a character."""
        return 500 + 100 * len(sample.text)

    def encode(self, samples: Sequence[TextSample]) -> Encoded:
        """Samples of ``decode`` → embedding, heads, sentiment, languages and aspects, in their order."""
        embedding = np.zeros((len(samples), EMBEDDING_DIM), np.float32)
        logits = {name: np.zeros((len(samples), len(h.labels)), np.float32) for name, h in self.heads.items()}
        han = np.array([s.han for s in samples], bool)
        with torch.inference_mode():
            for i, script in enumerate(SCRIPTS):
                mine = np.flatnonzero(han == bool(i))
                for rows in np.split(mine, range(CHUNK_TEXTS, len(mine), CHUNK_TEXTS)) if len(mine) else []:
                    texts = [samples[row].text for row in rows]
                    vectors, parts = self._network(self._network.evidence(texts, script))
                    embedding[rows] = vectors.cpu().numpy()
                    for name, part in parts.items():
                        logits[name][rows] = part.cpu().numpy()
        return self._verdicts(samples, han, embedding, logits)

    def _verdicts(
        self,
        samples: Sequence[TextSample],
        han: npt.NDArray[np.bool_],
        embedding: npt.NDArray[np.float32],
        logits: dict[str, npt.NDArray[np.float32]],
    ) -> Encoded:
        foreign = np.array([s.lang == OTHER_LANGUAGE for s in samples], bool)
        heads = {name: head.judge(logits[name]) for name, head in self.heads.items()}
        for name, judged in heads.items():
            script = self.config["scripts"].get(name)
            silent = foreign if script is None else foreign | (han != (script == "han"))
            judged.labels[:] = [OTHER if s else x for s, x in zip(silent, judged.labels, strict=True)]
        sentiment = None
        if "sentiment" in self.heads:
            head = self.heads["sentiment"]
            positive = head.probabilities(logits["sentiment"])[:, head.labels.index("positive")]
            heads["sentiment"] = HeadScores(heads["sentiment"].labels, positive)
            sentiment = np.where(foreign, np.float32("nan"), 2 * positive - 1).astype(np.float32)
        return Encoded(embedding, heads, sentiment, [s.lang for s in samples], [s.aspects for s in samples])


def network_of(config: Mapping[str, Any]) -> TextNetwork:
    """An empty network of a checkpoint's shape."""
    return TextNetwork(
        {script: len(names) for script, names in config["columns"].items()},
        {name: len(head["labels"]) for name, head in sorted(config["heads"].items())},
    )


def config_of(
    columns: Mapping[str, Sequence[Sequence[str]]],
    heads: Mapping[str, Any],
    scripts: Mapping[str, str],
    figures: Mapping[str, Any],
) -> dict[str, Any]:
    """The checkpoint's config; see :mod:`models.checkpoint`.

    ``columns`` is script → (head, label) of each topic column, ``scripts`` head → the only script it
    speaks of.
    """
    return {
        "architecture": ARCHITECTURE,
        "version": 1,
        "preprocessing": PREPROCESSING,
        "space": space.SPACE_VERSION,
        "columns": {script: [list(c) for c in names] for script, names in columns.items()},
        "heads": dict(heads),
        "scripts": dict(scripts),
        "figures": dict(figures),
    }

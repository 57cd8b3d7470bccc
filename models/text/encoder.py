"""The text encoder: hashed n-grams → linear evidence → a small network → shared space and heads.

Chinese and English reviews have a table each: a row per n-gram bucket, a column per class, fitted as
linear classifiers (the *wide* part; nothing small beats it on reviews). A residual network over the
columns turns that evidence into calibrated heads and the 64-d embedding (the *deep* part).

=====================  ==============================================================================
``text-bag``           the tables alone: the default, and by far the fastest
``text-bigru``         bidirectional GRU and attention over hashed units (:mod:`models.text.recurrent`)
``text-lstm``          the same with an LSTM
``text-transformer``   Transformer encoder over hashed units (:mod:`models.text.transformer`)
``text-hf``            frozen language model of a local folder (:mod:`models.text.pretrained`)
=====================  ==============================================================================

All but the first may have the tables beside them (``columns`` in the config).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from features.schema import EMBEDDING_DIM
from models import checkpoint, space
from models.device import require_device
from models.encoder import OTHER, ContentError, Encoded, HeadScores, TextContent
from models.heads import heads_from_config
from models.text.aspects import aspects_of
from models.text.language import EN, OTHER_LANGUAGE, ZH, is_mostly_han, language_of
from models.text.network import SCRIPTS, Reader, TextNetwork
from models.text.ngrams import PREPROCESSING, normalise

Config = dict[str, Any]

CHUNK_TEXTS: Final = 256
"""Texts hashed at once: beyond it the arrays leave the processor's cache and each text takes longer."""


class TextSample(NamedTuple):
    """A decoded review."""

    text: str  # normalised, not empty
    han: bool
    lang: str  # of features.schema.LANGUAGES
    aspects: dict[str, int]


def load_network(weights: str | Path, sha256: str | None = None) -> tuple[TextNetwork, Config, str]:
    """The network of a checkpoint, its config and its fingerprint. Raises CheckpointError."""
    state, config = checkpoint.load(weights, sha256, "text-", PREPROCESSING)
    checkpoint.choose(READERS, weights, config)
    network = network_of(config, Path(weights).parent)
    network.load_state_dict(checkpoint.full_precision(state))
    return network, config, checkpoint.fingerprint(state, config)


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
        network, config, self.fingerprint = load_network(weights, sha256)
        self.config: dict[str, Any] = config
        self.heads = heads_from_config(config)
        self._network = network.eval().to(self.device)
        frozen = getattr(self._network.reader, "frozen", None)
        if frozen is not None:
            frozen.to(self.device)

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
                    vectors, parts = self._network(self._network.features(texts, script))
                    embedding[rows] = vectors.cpu().numpy()
                    for name, part in parts.items():
                        logits[name][rows] = part.cpu().numpy()
        return self._verdicts(samples, han, embedding, logits)

    def features(self, samples: Sequence[TextSample]) -> npt.NDArray[np.float32]:
        """[n, width] what the network reads in texts before it places them."""
        found = np.zeros((len(samples), self._network.hidden.in_features), np.float32)
        with torch.inference_mode():
            for script in SCRIPTS:
                mine = [i for i, s in enumerate(samples) if s.han == (script == "han")]
                for start in range(0, len(mine), CHUNK_TEXTS):
                    rows = mine[start : start + CHUNK_TEXTS]
                    read = self._network.features([samples[i].text for i in rows], script)
                    found[rows] = read.cpu().numpy()
        return found

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


def _recurrent(config: Config, near: Path) -> Reader:
    from models.text.recurrent import RecurrentReader

    return RecurrentReader(**config["reader"])


def _transformer(config: Config, near: Path) -> Reader:
    from models.text.transformer import TransformerReader

    return TransformerReader(**config["reader"])


def _folder(config: Config, near: Path) -> Reader:
    from models.pretrained import folder_of
    from models.text.pretrained import FolderReader

    return FolderReader(folder_of(config, near))


READERS: Final[Mapping[str, Callable[[Config, Path], Reader] | None]] = {
    "text-bag": None,
    "text-bigru": _recurrent,
    "text-lstm": _recurrent,
    "text-transformer": _transformer,
    "text-hf": _folder,
}
"""Architecture → what builds its reader from a config; the second argument is the folder of the weights."""


def network_of(config: Mapping[str, Any], near: Path = checkpoint.WEIGHTS_DIR) -> TextNetwork:
    """An empty network of a checkpoint's shape; ``near`` is the folder that its paths count from."""
    columns = config["columns"]
    build = READERS[config["architecture"]]
    return TextNetwork(
        None if columns is None else {script: len(names) for script, names in columns.items()},
        {name: len(head["labels"]) for name, head in sorted(config["heads"].items())},
        build and build(dict(config), near),
    )


def config_of(
    columns: Mapping[str, Sequence[Sequence[str]]] | None,
    heads: Mapping[str, Any],
    scripts: Mapping[str, str],
    figures: Mapping[str, Any],
    architecture: str = "text-bag",
    reader: Mapping[str, Any] | None = None,
) -> Config:
    """The checkpoint's config; see :mod:`models.checkpoint`.

    ``columns`` is script → (head, label) of each topic column, None without tables; ``scripts`` head →
    the only script it speaks of; ``reader`` what the architecture's reader is built with.
    """
    found = {
        "architecture": architecture,
        "version": 1,
        "preprocessing": PREPROCESSING,
        "space": space.SPACE_VERSION,
        "columns": columns and {script: [list(c) for c in names] for script, names in columns.items()},
        "heads": dict(heads),
        "scripts": dict(scripts),
        "figures": dict(figures),
    }
    return found if reader is None else found | {"reader": dict(reader)}

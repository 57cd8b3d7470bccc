"""Voice clips: one spoken word, recognised by a small network and placed by what it stands for.

=====================  ==============================================================================
``voice-gru``          three convolutions, bidirectional GRU, attention (:mod:`models.voice.gru`)
``voice-cnn``          convolutions, mean and maximum over time (:mod:`models.voice.cnn`)
``voice-transformer``  convolutions, Transformer encoder (:mod:`models.voice.transformer`)
``voice-hf``           frozen audio model of a local folder (:mod:`models.voice.pretrained`)
=====================  ==============================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from features.taxonomy import Taxonomy, load_taxonomy
from models import checkpoint, space
from models.device import require_device
from models.encoder import OTHER, Encoded, HeadScores
from models.heads import heads_from_config
from models.voice.cnn import CnnVoice
from models.voice.decode import DECODER_VERSION, Wave, decode_voice
from models.voice.gru import HIDDEN, WIDTHS, GruVoice
from models.voice.mel import pad_waves
from models.voice.network import VoiceNetwork
from models.voice.transformer import TransformerVoice

CHUNK: Final = 32
"""Clips per forward pass; clips of like length share one, so that little of it is padding."""

Config = dict[str, Any]
HeadSizes = Mapping[str, int]


SIZES: Final[Mapping[str, Mapping[str, Any]]] = {
    "voice-gru": {"widths": list(WIDTHS), "hidden": HIDDEN},
    "voice-cnn": {"widths": [24, 48, 96], "hidden": 128},
    "voice-transformer": {"widths": [24, 40, 56], "hidden": 96},
    "voice-hf": {},
}
"""Architecture → what its network is built with; part of the config."""


def _gru(config: Config, head_sizes: HeadSizes, near: Path) -> VoiceNetwork:
    return GruVoice(head_sizes, config["widths"], config["hidden"])


def _cnn(config: Config, head_sizes: HeadSizes, near: Path) -> VoiceNetwork:
    return CnnVoice(head_sizes, config["widths"], config["hidden"])


def _transformer(config: Config, head_sizes: HeadSizes, near: Path) -> VoiceNetwork:
    return TransformerVoice(head_sizes, config["widths"], config["hidden"])


def _folder(config: Config, head_sizes: HeadSizes, near: Path) -> VoiceNetwork:
    from models.pretrained import folder_of
    from models.voice.pretrained import FolderVoiceNetwork

    return FolderVoiceNetwork(head_sizes, folder_of(config, near))


ARCHITECTURES: Final[Mapping[str, Callable[[Config, HeadSizes, Path], VoiceNetwork]]] = {
    "voice-gru": _gru,
    "voice-cnn": _cnn,
    "voice-transformer": _transformer,
    "voice-hf": _folder,
}
"""Architecture → what builds its empty network from a config; ``near`` is the folder of the weights."""


def network_of(config: Config, near: Path) -> VoiceNetwork:
    """An empty network of a checkpoint's shape."""
    sizes = {name: len(head["labels"]) for name, head in config["heads"].items()}
    return ARCHITECTURES[config["architecture"]](config, {"word": sizes.pop("word"), **sizes}, near)


def load_network(weights: str | Path, sha256: str | None = None) -> tuple[VoiceNetwork, Config, str]:
    """The network of a checkpoint, its config and its fingerprint. Raises CheckpointError."""
    state, config = checkpoint.load(weights, sha256, "voice-", DECODER_VERSION)
    checkpoint.choose(ARCHITECTURES, weights, config)
    network = network_of(config, Path(weights).parent)
    network.load_state_dict(checkpoint.full_precision(state))
    return network, config, checkpoint.fingerprint(state, config)


class VoiceEncoder:
    """Clips as they come (WAV, FLAC, Ogg, MP3 bytes) → :class:`models.encoder.Encoded`.

    ``words`` maps spoken words to category ids of ``taxonomy`` and is data: it is part of the
    fingerprint, and changing it needs no training. A word's place in the space is the prototype of its
    category, or one of its own where it has none; the embedding is the mean of these places weighted
    by the words' probabilities, at unit length. A clip of no known word (both heads abstain)
    stands at the place of ``other``, which no category is near.

    ``emotion`` reports that head too: a sensitive inference, off unless the weights were trained with it
    *and* it is switched on here.

    Raises CheckpointError, DeviceError, and ValueError for a word or category that is not known.
    """

    modality = "voice"

    def __init__(
        self,
        weights: str | Path = checkpoint.WEIGHTS_DIR / "voice.safetensors",
        device: str = "cpu",
        sha256: str | None = None,
        words: Mapping[str, str] | None = None,
        taxonomy: Taxonomy | None = None,
        emotion: bool = False,
    ) -> None:
        self.device = require_device(device)
        network, config, fingerprint = load_network(weights, sha256)
        self.config: dict[str, Any] = config
        self.heads = heads_from_config(config)
        self.words = dict(words or {})
        self.emotion = emotion
        if emotion and "emotion" not in self.heads:
            raise checkpoint.CheckpointError(
                f"{weights}: expected weights with an emotion head, got none; train them with --emotion"
            )
        self.fingerprint = hashlib.sha256(
            f"{fingerprint} {json.dumps(self.words, sort_keys=True)}".encode()
        ).hexdigest()
        self._places = self._place_words(taxonomy or load_taxonomy())
        self._network = network.eval().to(self.device)
        if network.frozen is not None:
            network.frozen.to(self.device)

    def _place_words(self, taxonomy: Taxonomy) -> npt.NDArray[np.float32]:
        """[words, EMBEDDING_DIM] unit vectors: a category's prototype or a word's own."""
        labels = self.heads["word"].labels
        if unknown := sorted(set(self.words) - set(labels[:-1])):
            raise ValueError(f"words: expected words of {list(labels[:-1])}, got {unknown}; correct the map")
        if unknown := sorted(set(self.words.values()) - set(taxonomy.slots)):
            raise ValueError(f"words: expected category ids of the taxonomy, got {unknown}; correct the map")
        top = [c.id for c in taxonomy.categories if c.parent is None]
        categories, places = space.category_prototypes(len(top)), space.word_prototypes(len(labels)).copy()
        for word, wanted in self.words.items():
            category = taxonomy.categories[taxonomy.slots[wanted]]
            places[labels.index(word)] = categories[top.index(category.parent or category.id)]
        return places

    def decode(self, content: Any) -> Wave:
        """Bytes → float32 mono at 16 kHz; see :func:`models.voice.decode.decode_voice`."""
        return decode_voice(content)

    def sample_bytes(self, sample: Any) -> int:
        """Bytes of one waveform: 64 kB a second, at most 192 kB."""
        return int(sample.nbytes)

    def encode(self, samples: Sequence[Wave]) -> Encoded:
        """Waveforms of ``decode`` → embedding and heads (``word``, ``category``), in their order."""
        logits = self._logits(samples)
        word = self.heads["word"]
        p = word.probabilities(logits["word"])
        said = word.judge(logits["word"])
        categories = self._categories(p)
        unplaced = (np.array(said.labels, np.str_) == OTHER) & (np.array(categories.labels, np.str_) == OTHER)
        weights = np.where(unplaced[:, None], np.eye(len(word.labels), dtype=np.float32)[-1], p)
        langs = self.config["langs"]
        heads = {"word": said, "category": categories}
        if self.emotion:
            heads["emotion"] = self.heads["emotion"].judge(logits["emotion"])
        return Encoded(
            space.unit(weights @ self._places), heads, lang=[langs.get(w, "other") for w in said.labels]
        )

    def features(self, samples: Sequence[Wave]) -> npt.NDArray[np.float32]:
        """[n, width] what the network hears in clips before it names words."""
        heard = np.zeros((len(samples), self._network.width), np.float32)
        order = sorted(range(len(samples)), key=lambda i: len(samples[i]))
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            waves, lengths = pad_waves([samples[i] for i in places])
            with (
                torch.inference_mode(),
                torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"),
            ):
                part = self._network.hear(waves.to(self.device), lengths.to(self.device))
            heard[places] = part.float().cpu().numpy()
        return heard

    def _logits(self, samples: Sequence[Wave]) -> dict[str, npt.NDArray[np.float32]]:
        heard = torch.from_numpy(self.features(samples)).to(self.device)
        with torch.inference_mode():
            return {name: x.cpu().numpy() for name, x in self._network.judge(heard).items()}

    def _categories(self, p: npt.NDArray[np.float32]) -> HeadScores:
        """A category's probability is the sum of its words'; it abstains below the threshold of ``word``."""
        labels = [*dict.fromkeys(self.words.values()), OTHER]
        share = np.zeros((len(self.heads["word"].labels), len(labels)), np.float32)
        for i, word in enumerate(self.heads["word"].labels):
            share[i, labels.index(self.words.get(word, OTHER))] = 1
        sums = p @ share
        best = sums.argmax(1)
        scores = sums[np.arange(len(p)), best]
        sure = scores >= self.heads["word"].threshold
        said = [labels[i] if s else OTHER for i, s in zip(best, sure, strict=True)]
        return HeadScores(said, scores)


def config_of(
    heads: Mapping[str, Any],
    langs: Mapping[str, str],
    figures: Mapping[str, Any],
    architecture: str = "voice-gru",
    network: Mapping[str, Any] | None = None,
) -> Config:
    """The checkpoint's config; see :mod:`models.checkpoint`.

    ``langs``: word → zh or en; ``network``: sizes other than the usual.
    """
    return {
        "architecture": architecture,
        "version": 1,
        "preprocessing": DECODER_VERSION,
        "space": space.SPACE_VERSION,
        **SIZES[architecture],
        **(network or {}),
        "heads": dict(heads),
        "langs": dict(langs),
        "figures": dict(figures),
    }

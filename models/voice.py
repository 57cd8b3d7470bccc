"""Voice clips: one spoken word, recognised by a small recurrent network and placed by what it stands for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import librosa
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from features.taxonomy import Taxonomy, load_taxonomy
from models import checkpoint, space
from models.device import require_device
from models.encoder import OTHER, Encoded, HeadScores
from models.heads import heads_from_config
from models.voice_decode import DECODER_VERSION, RATE_HZ, Wave, decode_voice

ARCHITECTURE: Final = "voice-gru"
WIDTHS: Final = (24, 40, 56)
HIDDEN: Final = 96
_TIME_STEPS: Final = (1, 2, 1)  # strides of the convolutions in time; in frequency each is 2
MELS: Final = 40
FFT: Final = 512
WINDOW: Final = RATE_HZ * 25 // 1000  # 400 samples
HOP: Final = RATE_HZ * 10 // 1000  # 160 samples
FRAME_STEP: Final = 32
CHUNK: Final = 32
"""Clips per forward pass; clips of like length share one, so that little of it is padding."""


class LogMel(nn.Module):
    """Waveforms → log-mel frames, the same for a clip alone and for one padded in a batch."""

    window: Tensor
    bank: Tensor

    def __init__(self) -> None:
        super().__init__()
        bank = librosa.filters.mel(sr=RATE_HZ, n_fft=FFT, n_mels=MELS, fmin=40, fmax=7600)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank), persistent=False)

    def forward(self, waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[n, samples] padded, [n] samples → log-mel [n, MELS, frames] (zeros past the end), [n] frames.

        Every clip has mean 0 and variance 1 over its own frames: level and microphone gain fall out.
        """
        frames = waves.unfold(1, WINDOW, HOP) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames, FFT))
        power = spectrum.square().sum(3)
        mel = (power @ self.bank.T).clamp_min(1e-6).log().transpose(1, 2)
        counts = (lengths - WINDOW) // HOP + 1
        return standardise(mel, counts), counts


def standardise(mel: Tensor, counts: Tensor) -> Tensor:
    """[n, MELS, frames] → mean 0 and variance 1 over each clip's first ``counts`` frames, zeros after."""
    mask = frame_mask(counts, mel.shape[2])[:, None]
    cells = (counts * mel.shape[1])[:, None, None]
    mean = (mel * mask).sum((1, 2), keepdim=True) / cells
    centred = (mel - mean) * mask
    return centred / (centred.square().sum((1, 2), keepdim=True) / cells).sqrt().clamp_min(1e-3)


def frame_mask(counts: Tensor, frames: int) -> Tensor:
    """[n] → float [n, frames], 1 where a clip has a frame."""
    return (torch.arange(frames, device=counts.device) < counts[:, None]).float()


class VoiceNetwork(nn.Module):
    """Log-mel frames → word logits: three convolutions, a bidirectional GRU, attention over time.

    What lies past a clip's end is zeroed before every convolution and never reaches the GRU, so
    padding changes nothing.
    """

    def __init__(
        self, words: int, widths: Sequence[int] = WIDTHS, hidden: int = HIDDEN, dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(width_in, width, 3, stride=(2, step), padding=1, bias=False)
            for width_in, width, step in zip((1, *widths), widths, _TIME_STEPS, strict=False)
        )
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths])
        self.squeeze = nn.Linear(widths[-1] * MELS // 8, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * hidden, 1)
        self.dropout = nn.Dropout(dropout)
        self.word = nn.Linear(2 * hidden, words)

    def forward(self, mel: Tensor, counts: Tensor) -> Tensor:
        """[n, MELS, frames], [n] → logits [n, words]."""
        x = mel[:, None]
        for conv, norm, step in zip(self.convs, self.norms, _TIME_STEPS, strict=True):
            x = F.relu(norm(conv(x)))
            counts = (counts + step - 1) // step
            x = x * frame_mask(counts, x.shape[3])[:, None, None]
        steps = F.relu(self.squeeze(self.dropout(x.flatten(1, 2).transpose(1, 2))))
        packed = pack_padded_sequence(steps, counts.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        mask = frame_mask(counts, states.shape[1])
        weight = self.attend(states).squeeze(2).float().masked_fill(mask == 0, -torch.inf).softmax(1)
        logits: Tensor = self.word(self.dropout((states * weight[:, :, None]).sum(1)))
        return logits.float()


class VoiceEncoder:
    """Clips as they come (WAV, FLAC, Ogg, MP3 bytes) → :class:`models.encoder.Encoded`.

    ``words`` maps spoken words to category ids of ``taxonomy`` and is data: it is part of the
    fingerprint, and changing it needs no training. A word's place in the space is the prototype of its
    category, or one of its own where it has none; the embedding is the mean of these places weighted
    by the words' probabilities, at unit length. A clip of no known word (both heads abstain)
    stands at the place of ``other``, which no category is near.

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
    ) -> None:
        self.device = require_device(device)
        state, config = checkpoint.load(weights, sha256, ARCHITECTURE)
        self.config: dict[str, Any] = config
        self.heads = heads_from_config(config)
        self.words = dict(words or {})
        self.fingerprint = hashlib.sha256(
            f"{checkpoint.fingerprint(state, config)} {json.dumps(self.words, sort_keys=True)}".encode()
        ).hexdigest()
        self._places = self._place_words(taxonomy or load_taxonomy())
        self._mel = LogMel().to(self.device)
        network = VoiceNetwork(len(self.heads["word"].labels), config["widths"], config["hidden"])
        network.load_state_dict(checkpoint.full_precision(state))
        self._network = network.eval().to(self.device)

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
        """Bytes → float32 mono at 16 kHz; see :func:`models.voice_decode.decode_voice`."""
        return decode_voice(content)

    def sample_bytes(self, sample: Any) -> int:
        """Bytes of one waveform: 64 kB a second, at most 192 kB."""
        return int(sample.nbytes)

    def encode(self, samples: Sequence[Wave]) -> Encoded:
        """Waveforms of ``decode`` → embedding and the heads ``word`` and ``category``, in their order."""
        word = self.heads["word"]
        order = sorted(range(len(samples)), key=lambda i: len(samples[i]))
        logits = np.zeros((len(samples), len(word.labels)), np.float32)
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            logits[places] = self._logits([samples[i] for i in places])
        p = word.probabilities(logits)
        said = word.judge(logits)
        categories = self._categories(p)
        unplaced = (np.array(said.labels, np.str_) == OTHER) & (np.array(categories.labels, np.str_) == OTHER)
        weights = np.where(unplaced[:, None], np.eye(len(word.labels), dtype=np.float32)[-1], p)
        langs = self.config["langs"]
        heads = {"word": said, "category": categories}
        return Encoded(
            space.unit(weights @ self._places), heads, lang=[langs.get(w, "other") for w in said.labels]
        )

    def _logits(self, samples: Sequence[Wave]) -> npt.NDArray[np.float32]:
        waves, lengths = pad_waves(samples)
        with (
            torch.inference_mode(),
            torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"),
        ):
            with torch.autocast(self.device, enabled=False):
                mel, counts = self._mel(waves.to(self.device), lengths.to(self.device))
            logits: npt.NDArray[np.float32] = self._network(mel, counts).cpu().numpy()
        return logits

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
        return HeadScores([labels[i] if s else OTHER for i, s in zip(best, sure, strict=True)], scores)


def pad_waves(samples: Sequence[Wave]) -> tuple[Tensor, Tensor]:
    """→ float32 [n, samples] with zeros after each end, int64 [n] lengths.

    The width gives a multiple of FRAME_STEP frames: every new width costs the convolutions 0.1 s and
    some megabytes for a plan of their own.
    """
    lengths = torch.tensor([len(s) for s in samples])
    steps = ((int(lengths.max()) - WINDOW) // HOP) // FRAME_STEP + 1
    padded = torch.zeros(len(samples), WINDOW + HOP * (steps * FRAME_STEP - 1))
    for row, sample in zip(padded, samples, strict=True):
        heard = sample[: padded.shape[1]]  # less than a hop may be left over at the end: no frame
        row[: len(heard)] = torch.from_numpy(heard)
    return padded, lengths


def config_of(
    heads: Mapping[str, Any],
    langs: Mapping[str, str],
    figures: Mapping[str, Any],
    widths: Sequence[int] = WIDTHS,
    hidden: int = HIDDEN,
) -> dict[str, Any]:
    """The checkpoint's config; see :mod:`models.checkpoint`. ``langs``: word → zh or en."""
    return {
        "architecture": ARCHITECTURE,
        "version": 1,
        "preprocessing": DECODER_VERSION,
        "space": space.SPACE_VERSION,
        "widths": list(widths),
        "hidden": hidden,
        "heads": dict(heads),
        "langs": dict(langs),
        "figures": dict(figures),
    }

"""Clips heard all at once: convolutions over log-mel frames, a Transformer encoder, the mean over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from models.positional_encoding import sinusoids
from models.voice.decode import MAX_SAMPLE_S, RATE_HZ
from models.voice.mel import FRAME_STEP, HOP, MELS, frame_mask
from models.voice.network import VoiceNetwork, convolutions, convolve

WIDTHS: Final = (24, 40, 56)
_TIME_STEPS: Final = (1, 2, 2)
_MAX_STEPS: Final = int(2 * MAX_SAMPLE_S * RATE_HZ) // HOP // 4 + FRAME_STEP
"""Twice the longest clip, for slowed ones in training, and its padding."""


class TransformerVoice(VoiceNetwork):
    """No step attends to what lies behind a clip's end."""

    places: Tensor

    def __init__(
        self,
        head_sizes: Mapping[str, int],
        widths: Sequence[int] = WIDTHS,
        hidden: int = 96,
        layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.convs = convolutions(widths, _TIME_STEPS)
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths])
        self.squeeze = nn.Linear(widths[-1] * MELS // 8, hidden)
        layer = nn.TransformerEncoderLayer(hidden, 4, 2 * hidden, dropout, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.register_buffer("places", sinusoids(_MAX_STEPS, hidden), persistent=False)
        self.add_heads(head_sizes, hidden, dropout)

    def features(self, mel: Tensor, counts: Tensor) -> Tensor:
        x, counts = convolve(mel, counts, self.convs, self.norms, _TIME_STEPS)
        steps = self.squeeze(x.flatten(1, 2).transpose(1, 2))
        mask = frame_mask(counts, steps.shape[1]) > 0
        states = self.encoder(self.dropout(steps + self.places[: steps.shape[1]]), src_key_padding_mask=~mask)
        kept = torch.where(mask[:, :, None], states, states.new_zeros(()))
        heard: Tensor = kept.sum(1) / counts[:, None]
        return heard

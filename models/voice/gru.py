"""Clips heard in order: three convolutions, a bidirectional GRU, attention over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.voice.mel import MELS, frame_mask
from models.voice.network import VoiceNetwork, convolutions, convolve

WIDTHS: Final = (24, 40, 56)
HIDDEN: Final = 96
_TIME_STEPS: Final = (1, 2, 1)  # strides of the convolutions in time; in frequency each is 2


class GruVoice(VoiceNetwork):
    """What lies past a clip's end is zeroed after every convolution and never reaches the GRU."""

    def __init__(
        self,
        head_sizes: Mapping[str, int],
        widths: Sequence[int] = WIDTHS,
        hidden: int = HIDDEN,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.convs = convolutions(widths, _TIME_STEPS)
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths])
        self.squeeze = nn.Linear(widths[-1] * MELS // 8, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * hidden, 1)
        self.add_heads(head_sizes, 2 * hidden, dropout)

    def features(self, mel: Tensor, counts: Tensor) -> Tensor:
        x, counts = convolve(mel, counts, self.convs, self.norms, _TIME_STEPS)
        steps = F.relu(self.squeeze(self.dropout(x.flatten(1, 2).transpose(1, 2))))
        packed = pack_padded_sequence(steps, counts.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        mask = frame_mask(counts, states.shape[1])
        weight = self.attend(states).squeeze(2).float().masked_fill(mask == 0, -torch.inf).softmax(1)
        heard: Tensor = (states * weight[:, :, None]).sum(1)
        return heard

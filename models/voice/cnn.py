"""Clips heard as pictures: convolutions over log-mel frames, mean and maximum over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from models.voice.mel import MELS, frame_mask
from models.voice.network import VoiceNetwork, convolutions, convolve

WIDTHS: Final = (24, 48, 96)
_TIME_STEPS: Final = (1, 2, 2)


class CnnVoice(VoiceNetwork):
    """Three strided convolutions, one along time over all mels, then mean and maximum over a clip's steps."""

    def __init__(
        self,
        head_sizes: Mapping[str, int],
        widths: Sequence[int] = WIDTHS,
        hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.convs = convolutions(widths, _TIME_STEPS)
        self.norms = nn.ModuleList([nn.BatchNorm2d(w) for w in widths])
        self.along = nn.Conv1d(widths[-1] * MELS // 8, hidden, 3, padding=1, bias=False)
        self.along_norm = nn.BatchNorm1d(hidden)
        self.add_heads(head_sizes, 2 * hidden, dropout)

    def features(self, mel: Tensor, counts: Tensor) -> Tensor:
        x, counts = convolve(mel, counts, self.convs, self.norms, _TIME_STEPS)
        steps = torch.relu(self.along_norm(self.along(self.dropout(x.flatten(1, 2)))))
        mask = frame_mask(counts, steps.shape[2])[:, None]
        steps = steps * mask  # nothing is below 0, so zeros past the end never are the maximum
        return torch.cat((steps.sum(2) / counts[:, None], steps.amax(2)), 1)

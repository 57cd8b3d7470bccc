"""What every voice network shares: what is heard → features → which word, and with which emotion if asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pretrained import Frozen
from models.voice.decode import Wave
from models.voice.mel import LogMel, frame_mask, log_mel, pad_mels


class VoiceNetwork(nn.Module):
    """Log-mel frames → features → logits of each head.

    What lies past a clip's end changes nothing. An architecture builds what it needs, then calls
    :meth:`add_heads`, and gives :meth:`features`.
    """

    frozen: Frozen | None = None
    """A model of a local folder that is part of it, but not trained or stored with it."""

    def add_heads(self, head_sizes: Mapping[str, int], width: int, dropout: float) -> None:
        """Linear heads over ``width`` features, by name; ``word`` is always there."""
        self.width, self.head_names = width, tuple(head_sizes)
        self.dropout = nn.Dropout(dropout)
        for name, labels in head_sizes.items():
            self.add_module(name, nn.Linear(width, labels))
        self.mel = LogMel()

    def features(self, mel: Tensor, counts: Tensor) -> Tensor:
        """[n, MELS, frames], [n] → [n, width]."""
        raise NotImplementedError

    def forward(self, mel: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """[n, MELS, frames], [n] → logits by head [n, labels]."""
        return self.judge(self.features(mel, counts))

    def judge(self, features: Tensor) -> dict[str, Tensor]:
        """Features [n, width] → as ``forward``."""
        features = self.dropout(features)
        return {name: self.get_submodule(name)(features).float() for name in self.head_names}

    def hear(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """[n, samples] padded, [n] → features [n, width]."""
        with torch.autocast(waves.device.type, enabled=False):
            mel, counts = self.mel(waves, lengths)
        return self.features(mel, counts)

    def listen(self, wave: Wave) -> npt.NDArray[np.float32]:
        """One waveform → what :meth:`gather` takes of it: log-mels [MELS, frames]."""
        return log_mel(self.mel, wave)

    def gather(self, heard: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Log-mels [MELS, frames] of clips → what ``forward`` takes."""
        return pad_mels(heard)


def convolve(
    mel: Tensor, counts: Tensor, convs: nn.ModuleList, norms: nn.ModuleList, time_steps: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """[n, MELS, frames], [n] → [n, width, mels, steps], [n]; zeros past each end after every layer."""
    x = mel[:, None]
    for conv, norm, step in zip(convs, norms, time_steps, strict=True):
        x = F.relu(norm(conv(x)))
        counts = (counts + step - 1) // step
        x = x * frame_mask(counts, x.shape[3])[:, None, None]
    return x, counts


def convolutions(widths: Sequence[int], time_steps: Sequence[int]) -> nn.ModuleList:
    """3x3 layers that halve the mels, and take ``time_steps`` in time."""
    return nn.ModuleList(
        nn.Conv2d(width_in, width, 3, stride=(2, step), padding=1, bias=False)
        for width_in, width, step in zip((1, *widths), widths, time_steps, strict=False)
    )

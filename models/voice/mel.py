"""Waveforms → log-mel frames, the same for a clip alone and for one padded in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import librosa
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.voice.decode import RATE_HZ, Wave

MELS: Final = 40
FFT: Final = 512
WINDOW: Final = RATE_HZ * 25 // 1000  # 400 samples
HOP: Final = RATE_HZ * 10 // 1000  # 160 samples
FRAME_STEP: Final = 32


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


def log_mel(layer: LogMel, wave: Wave) -> npt.NDArray[np.float32]:
    """One waveform → its log-mel frames [MELS, frames], as a batch would hold them."""
    with torch.inference_mode():
        mel, counts = layer(*pad_waves([wave]))
    return np.asarray(mel[0, :, : counts[0]].numpy(), dtype=np.float32).copy()


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


def pad_mels(mels: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """→ float32 [n, MELS, longest] with zeros after each end, int64 [n]; frames: a multiple of FRAME_STEP."""
    counts = torch.tensor([m.shape[1] for m in mels])
    padded = torch.zeros(len(mels), MELS, -(-int(counts.max()) // FRAME_STEP) * FRAME_STEP)
    for row, mel in zip(padded, mels, strict=True):
        row[:, : mel.shape[1]] = torch.from_numpy(mel)
    return padded, counts

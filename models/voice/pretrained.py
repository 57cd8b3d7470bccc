"""Clips heard by a frozen audio model of a local folder: mean of its states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.pretrained import FolderError, Frozen, LocalFolder, load_transformers, pool
from models.voice.decode import RATE_HZ
from models.voice.network import VoiceNetwork


class FrozenEar:
    """Waveforms → features of a frozen model that takes 16 kHz sound."""

    def __init__(self, folder: LocalFolder) -> None:
        self.frozen = Frozen(folder)
        self.width = self.frozen.width
        try:
            self._prepare = load_transformers().AutoFeatureExtractor.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever a library raises on files of others
            raise FolderError(
                f"{folder.path}: expected a feature extractor for sound, got {type(error).__name__}"
            ) from error
        if (rate := getattr(self._prepare, "sampling_rate", None)) != RATE_HZ:
            raise FolderError(f"{folder.path}: expected a model of {RATE_HZ} Hz sound, got {rate}")

    def hear(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """[n, samples] padded, [n] → [n, width].

        Clips of one length run together and are not padded: many of these models (those with group
        normalisation) hear padding, whatever mask they are given.
        """
        heard = torch.zeros(len(waves), self.width)
        for length in sorted(set(lengths.tolist())):
            mine = torch.nonzero(lengths == length).flatten()
            clips = [waves[i, :length].cpu().numpy() for i in mine.tolist()]
            inputs = self._prepare(clips, sampling_rate=RATE_HZ, return_tensors="pt")
            heard[mine.cpu()] = pool(self.frozen(inputs)).cpu()
        return heard.to(waves.device)

    def __call__(self, wave: Any) -> Any:
        """One clip → float32 [width]."""
        samples = torch.from_numpy(np.asarray(wave, np.float32))[None]
        return self.hear(samples, torch.tensor([samples.shape[1]]))[0].numpy()


class FolderVoiceNetwork(VoiceNetwork):
    """Heads over a frozen model. In training it takes what the model already said of clips."""

    def __init__(self, head_sizes: Mapping[str, int], folder: LocalFolder, dropout: float = 0.1) -> None:
        super().__init__()
        self.ear = FrozenEar(folder)
        self.frozen = self.ear.frozen
        self.add_heads(head_sizes, self.ear.width, dropout)

    def features(self, mel: Tensor, counts: Tensor) -> Tensor:
        """[n, width] of :meth:`gather` → the same."""
        return mel

    def hear(self, waves: Tensor, lengths: Tensor) -> Tensor:
        return self.ear.hear(waves, lengths)

    def listen(self, wave: Any) -> Any:
        return self.ear(wave)

    def gather(self, heard: Sequence[Any]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.stack(heard)), torch.ones(len(heard), dtype=torch.int64)

"""Texts read by a frozen language model of a local folder: mean of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from models.pretrained import FolderError, Frozen, LocalFolder, load_transformers, pool

MAX_TOKENS: Final = 512
CHUNK: Final = 32


class FolderReader:
    """See :class:`models.text.network.Reader`. Texts beyond the model's longest are cut."""

    def __init__(self, folder: LocalFolder) -> None:
        self.frozen = Frozen(folder, "text_model")
        self.width = self.frozen.width
        try:
            self._tokenizer = load_transformers().AutoTokenizer.from_pretrained(
                folder.path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever a library raises on files of others
            raise FolderError(
                f"{folder.path}: expected a tokenizer that transformers loads, got {type(error).__name__}"
            ) from error
        places = int(folder.config.get("max_position_embeddings") or MAX_TOKENS)
        self._longest = min(MAX_TOKENS, places, int(self._tokenizer.model_max_length))

    def read(self, texts: Sequence[str]) -> Tensor:
        """Normalised texts → [n, width] on the CPU."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        read = torch.zeros(len(texts), self.width)
        for start in range(0, len(order), CHUNK):
            places = order[start : start + CHUNK]
            tokens = self._tokenizer(
                [texts[i] for i in places],
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            )
            read[places] = pool(self.frozen(tokens).cpu(), tokens["attention_mask"])
        return read

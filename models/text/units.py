"""Texts as padded sequences of hashed units, and their embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from models.text.ngrams import Units, hash_units

_SPREAD: Final = 0.08
"""Standard deviation of new embeddings: with 1 the n-grams seen once drown the others."""
_DROPPED: Final = 0.5
"""Share of what units are read by that training hides (Iyyer et al. 2015): rare n-grams tell texts apart."""


class UnitEmbedding(nn.Module):
    """Sum of the embeddings of what a unit is read by; see :func:`models.text.ngrams.hash_units`."""

    def __init__(self, buckets: int, dim: int, limit: int) -> None:
        super().__init__()
        self.buckets, self.limit = buckets, limit
        self.table = nn.Embedding(buckets, dim, padding_idx=0)
        with torch.no_grad():
            self.table.weight.normal_(0, _SPREAD)[0] = 0

    def forward(self, ids: Tensor) -> Tensor:
        """[n, longest, slots] → [n, longest, dim]."""
        if self.training:
            ids = ids * (torch.rand(ids.shape, device=ids.device) >= _DROPPED)
        summed: Tensor = self.table(ids).sum(2)
        return summed

    def padded(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Normalised texts → ids [n, longest, slots] with zeros after each end, lengths [n]."""
        ids, lengths = pad_units(hash_units(texts, self.buckets, self.limit))
        return ids.to(self.table.weight.device), lengths.to(self.table.weight.device)


def pad_units(units: Units) -> tuple[Tensor, Tensor]:
    """Ragged units of n texts → int64 [n, longest, slots], [n]."""
    lengths = torch.from_numpy(units.lengths)
    rows = torch.split(torch.from_numpy(units.ids), units.lengths.tolist())
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


def mask_of(lengths: Tensor, longest: int) -> Tensor:
    """[n] → bool [n, longest], true where a text has a unit."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]

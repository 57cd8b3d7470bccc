"""Texts read unit by unit: hashed embeddings, a bidirectional GRU or LSTM, attention over what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.text.units import UnitEmbedding, mask_of

CELLS: Final = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentReader(nn.Module):
    """Normalised texts → [n, 2 * hidden]: states of both directions, weighted by attention.

    A text's states end where it ends, so padding changes nothing.
    """

    def __init__(
        self,
        cell: Literal["gru", "lstm"],
        buckets: int = 1 << 16,
        dim: int = 64,
        hidden: int = 96,
        limit: int = 256,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.width = 2 * hidden
        self.embed = UnitEmbedding(buckets, dim, limit)
        self.dropout = nn.Dropout(dropout)
        self.cell = CELLS[cell](dim, hidden, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(2 * hidden, 1)

    def read(self, texts: Sequence[str]) -> Tensor:
        """See :class:`models.text.network.Reader`."""
        read: Tensor = self(*self.embed.padded(texts))
        return read

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[n, longest, slots], [n] → [n, width]."""
        x = self.dropout(self.embed(ids))
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.cell(packed)[0], batch_first=True)
        weight = self.attend(states).squeeze(2).float()
        weight = weight.masked_fill(~mask_of(lengths, states.shape[1]), -torch.inf).softmax(1)
        read: Tensor = self.dropout((states * weight[:, :, None]).sum(1))
        return read

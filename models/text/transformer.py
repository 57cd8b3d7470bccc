"""Texts read all at once: hashed embeddings with their places, a Transformer encoder, the mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.positional_encoding import sinusoids
from models.text.units import UnitEmbedding, mask_of


class TransformerReader(nn.Module):
    """Normalised texts → [n, dim]: mean of the encoder's states (Vaswani et al. 2017, normalised first).

    No unit attends to what lies behind a text's end, so padding changes nothing.
    """

    def __init__(
        self,
        buckets: int = 1 << 16,
        dim: int = 128,
        layers: int = 2,
        attention_heads: int = 4,
        limit: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.width = dim
        self.embed = UnitEmbedding(buckets, dim, limit)
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            dim, attention_heads, 2 * dim, dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.register_buffer("places", sinusoids(limit, dim), persistent=False)

    places: Tensor

    def read(self, texts: Sequence[str]) -> Tensor:
        """See :class:`models.text.network.Reader`."""
        read: Tensor = self(*self.embed.padded(texts))
        return read

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[n, longest, slots], [n] → [n, width]."""
        mask = mask_of(lengths, ids.shape[1])
        x = self.dropout(self.embed(ids) + self.places[: ids.shape[1]])
        states = self.encoder(x, src_key_padding_mask=~mask)
        kept = torch.where(mask[:, :, None], states, states.new_zeros(()))
        read: Tensor = kept.sum(1) / lengths[:, None]
        return read

"""The one space of all modalities: fixed unit vectors that encoders are trained towards.

Every modality is trained alone against the *same* targets, so texts, photos and clips of one category
meet without ever being trained together, and one encoder can be replaced without the others.

The targets are rows of one seeded orthonormal basis: categories count from its first row, spoken words
from its last. They depend on nothing but the constants below, so they are never stored or learned.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from features.schema import EMBEDDING_DIM

SPACE_VERSION: Final = 1
"""Part of every encoder's config: changing the basis makes another space."""

_SEED: Final = 20_240_611
SCALE: Final = 16.0
"""Factor on cosines before a softmax over prototypes, in training (``cosine_logits``)."""

Vectors = npt.NDArray[np.float32]


@cache
def _basis() -> Vectors:
    """[64, 64] float32, orthonormal rows.

    Rounded to 1e-6, so that another LAPACK gives the same bytes; lengths are one within 1e-6.
    """
    gauss = np.random.Generator(np.random.PCG64(_SEED)).standard_normal((EMBEDDING_DIM, EMBEDDING_DIM))
    q, r = np.linalg.qr(gauss)
    rows = np.round((q * np.sign(np.diag(r))).T, 6).astype(np.float32)
    rows.setflags(write=False)
    return rows


def category_prototypes(count: int) -> Vectors:
    """[count, 64] float32 unit rows; row i belongs to first-level category i of the taxonomy, in its order.

    Row i does not depend on ``count``: appending categories moves none. Raises ValueError above 64.
    """
    return _rows("categories", count)[:count]


def word_prototypes(count: int) -> Vectors:
    """[count, 64] float32 unit rows for spoken words without a category, taken from the other end.

    Orthogonal to the category prototypes as long as categories + words <= 64. Raises ValueError above 64.
    """
    return _rows("words", count)[::-1][:count]


def _rows(what: str, count: int) -> Vectors:
    if not 0 <= count <= EMBEDDING_DIM:
        raise ValueError(f"space: expected 0 to {EMBEDDING_DIM} {what}, got {count}; shorten the list")
    return _basis()


def unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    """[..., d] → float32 rows of length one; a row of zeros stays zeros."""
    x = np.asarray(vectors, dtype=np.float32)
    length = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    scaled: Vectors = np.divide(x, length, out=np.zeros_like(x), where=length > 1e-12)
    return scaled

"""Made-up profiles whose every part says which revision it belongs to."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from features.online.values import encode_views
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS

NOW_US = 1_750_000_000_123_456
"""Some instant of 2025."""


def columns_of(revisions: list[int]) -> dict[str, Any]:
    """All columns of one profile a revision; numbers and texts are derived from it."""
    make = {
        "vector": lambda r: np.full(EMBEDDING_DIM, r, "f4"),
        "float": lambda r: r / 8,
        "int": lambda r: r,
        "string": lambda r: f"text {r} 文",
        "json": lambda r: f'[{{"id": "r{r}"}}]',
        "strings": lambda r: [f"tag{r}", "书"],
        "time": lambda r: NOW_US + r * 1_000_000,
    }
    return {field.name: [make[field.type](r) for r in revisions] for field in PROFILE_FIELDS}


@lru_cache(maxsize=4096)
def views_of(revision: int) -> dict[str, dict[str, bytes]]:
    return encode_views(columns_of([revision]))[0]

"""Made-up profiles whose every part says which revision it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from features.online import ProfileWrite
from features.online.encode import encode_views
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS

NOW_US = 1_750_000_000_123_456
"""Some instant of 2025."""


def columns_of(revisions: list[int]) -> dict[str, Any]:
    """All columns of one profile a revision; numbers and texts are derived from it."""
    make: dict[str, Callable[[int], Any]] = {
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
    """What is served of :func:`columns_of`."""
    return encode_views(columns_of([revision]))[0]


def record_of(revision: int) -> bytes:
    return b"record %d" % revision


def revision_in(record: bytes | None) -> int:
    """The revision that a record was made of; 0 for none."""
    return 0 if record is None else int(record.split()[1])


def write_of(
    user_id: str, expected: int, revision: int | None = None, *, erased: bool = False
) -> ProfileWrite:
    """A write whose record and views both say its revision; erased: a tombstone."""
    revision = expected + 1 if revision is None else revision
    time_us = NOW_US + revision % 1_000_000_000 * 1_000_000
    return ProfileWrite(
        user_id=user_id,
        expected_revision=expected,
        revision=revision,
        record=record_of(revision),
        views=None if erased else views_of(revision),
        event_timestamp_us=time_us,
        created_us=time_us,
    )

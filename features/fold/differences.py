"""Whether two states say the same: integers, times and evidence exactly, decayed sums within a tolerance."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from features.fold.packed_state import Array
from features.schema import HEAD_DTYPE

TOLERANCE: Final = 1e-3
"""Largest difference of a decayed sum, absolute and relative; the fold's own is far below it."""

_BOOKKEEPING: Final = frozenset({"revision", "created_us", "profile_space", "half_life_s", "reserved"})
"""Fields that say how a state was written, not what it knows."""


def differing(a: Array, b: Array) -> dict[str, npt.NDArray[np.bool_]]:
    """Field → bool [n]: for which of the n users the heads (HEAD_DTYPE [n]) differ; fields that agree are
    left out."""
    found = {name: _differ(a[name], b[name]) for name in HEAD_DTYPE.names or () if name not in _BOOKKEEPING}
    return {name: users for name, users in found.items() if users.any()}


def differing_numbers(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    """bool [n]: rows that differ by more than the tolerance; not a number equals not a number."""
    near = np.isclose(a.astype(np.float64), b.astype(np.float64), TOLERANCE, TOLERANCE, equal_nan=True)
    return _any(~near)


def _differ(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    if a.dtype.names:
        found = np.zeros(len(a), bool)
        for name in a.dtype.names:
            found |= _any(_differ_each(a[name], b[name]))
        return found
    return differing_numbers(a, b) if a.dtype.kind == "f" else _any(a != b)


def _differ_each(a: Array, b: Array) -> npt.NDArray[np.bool_]:
    """bool, of the shape of the arrays."""
    if a.dtype.kind != "f":
        return np.asarray(a != b, bool)
    return ~np.isclose(a.astype(np.float64), b.astype(np.float64), TOLERANCE, TOLERANCE, equal_nan=True)


def _any(found: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """bool [n]: any along the other axes."""
    if not found.size:
        return np.zeros(len(found), bool)
    return np.asarray(found.reshape(len(found), -1).any(axis=1), bool)

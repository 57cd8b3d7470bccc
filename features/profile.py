"""States → the columns of a profile."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from features.record import States
from features.taxonomy import Taxonomy


def profile_columns(
    states: States,
    embedding: npt.NDArray[np.float32],
    taxonomy: Taxonomy,
    event_space: str,
    profile_space: str,
) -> dict[str, Any]:
    """Columns of PROFILE_FIELDS and ``event_timestamp``, ``created`` (µs), one entry a user.

    ``embedding`` is the fused vector, float32 [n, 64]; the spaces are full hex fingerprints. Vectors and
    floats are arrays, the rest lists. A pure function of the state: weights are as of the newest event.
    """
    raise NotImplementedError

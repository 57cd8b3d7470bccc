"""Drift of the vectors in the parquet tables, by modality: of content, and of the users' profiles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import duckdb
import numpy as np

from features.report.activity import Activity, take_share
from features.report.vector_drift import Drift, Vectors, measure_drift
from features.schema import EMBEDDING_DIM, MODALITIES

PAIRS: Final = 3_000
"""Users that are compared with themselves."""
CONTENT_VECTORS: Final = 30_000
_SHORTEST_HISTORY: Final = timedelta(days=1)
"""Profiles written within less are one state of affairs, not two."""


@dataclass(frozen=True, slots=True)
class DriftTable:
    """Drift by modality between two times; None where there are too few vectors."""

    before: datetime
    after: datetime
    rows: dict[str, Drift | None]


_WRITTEN: Final = "SELECT min(created), max(created) FROM profiles WHERE created <= getvariable('as_of')"
_PAIRS: Final = """
SELECT a.text_embedding, b.text_embedding, a.image_embedding, b.image_embedding,
    a.voice_embedding, b.voice_embedding, a.embedding, b.embedding, a.profile_space = b.profile_space
FROM (FROM profiles_as_of(getvariable('before')) WHERE hash(user_id) <= getvariable('share_pairs')) a
JOIN (FROM profiles_as_of(getvariable('as_of')) WHERE hash(user_id) <= getvariable('share_pairs')) b
USING (user_id) LEFT JOIN erased_users USING (user_id)
WHERE a.event_space = $space AND b.event_space = $space AND a.incarnation >= coalesce(counts_from, 0)
ORDER BY hash(user_id) LIMIT $pairs
"""
_CONTENT: Final = """
SELECT modality, event_time >= getvariable('middle') AS late, embedding
FROM events_unique ANTI JOIN tombstones USING (user_id)
WHERE hash(event_id) <= getvariable('share_events') AND kind = 'content' AND event_space = $space
    AND event_time BETWEEN getvariable('start') AND getvariable('as_of')
"""


def measure_profile_drift(
    db: duckdb.DuckDBPyConnection, space: str, since: datetime | None, as_of: datetime, users: int
) -> DriftTable | None:
    """Drift of the same users from ``since`` (None: the middle of what was written) to ``as_of``.

    None where nothing was written, or all within a day. ``db`` as in :func:`measure_content_drift`.
    """
    first, last = db.execute(_WRITTEN).fetchall()[0]
    if first is None or (since is None and last - first < _SHORTEST_HISTORY):
        return None
    before = since or first + (last - first) / 2
    db.execute("SET VARIABLE before = $value", {"value": before})
    take_share(db, "pairs", PAIRS, users)
    columns = list(db.execute(_PAIRS, {"space": space, "pairs": PAIRS}).fetchnumpy().values())
    same_fusion = np.asarray(columns.pop(), bool)
    rows = {
        name: measure_drift(stack(columns[2 * i]), stack(columns[2 * i + 1]), paired=True)
        for i, name in enumerate(MODALITIES[:3])
    }
    fused = (stack(column[same_fusion]) for column in columns[6:])
    return DriftTable(before, as_of, rows | {"fused": measure_drift(*fused, paired=True)})


def measure_content_drift(db: duckdb.DuckDBPyConnection, space: str, activity: Activity) -> DriftTable:
    """Drift of the events' own vectors from the first half of the period to the second.

    Only vectors of ``space``. ``db`` has the views, ``erased_users``, ``tombstones`` and the variable
    ``as_of``.
    """
    middle = activity.first + (activity.last - activity.first) / 2
    db.execute("SET VARIABLE start = $value", {"value": activity.first})
    db.execute("SET VARIABLE middle = $value", {"value": middle})
    take_share(db, "events", CONTENT_VECTORS, activity.rows)
    found = db.execute(_CONTENT, {"space": space}).fetchnumpy()
    vectors, late = stack(found["embedding"]), np.asarray(found["late"], bool)
    rows = {}
    for name in MODALITIES[:3]:
        own = np.asarray(found["modality"] == name, bool)
        rows[name] = measure_drift(vectors[own & ~late], vectors[own & late])
    return DriftTable(middle, activity.last, rows)


def stack(column: Any) -> Vectors:
    """A column of lists → float32 [n, EMBEDDING_DIM]; a null or a list of another length is zeros."""
    rows = np.zeros((len(column), EMBEDDING_DIM), np.float32)
    for row, values in zip(rows, column, strict=True):
        if isinstance(values, np.ndarray | list) and len(values) == EMBEDDING_DIM:
            row[:] = values
    return rows

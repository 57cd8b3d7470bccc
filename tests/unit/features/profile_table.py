"""Rows of the table of profiles for tests: say what matters, the rest has a default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from features.schema import EMBEDDING_DIM, PROFILE_FIELDS
from features.tables.rows import profile_batch
from features.tables.writer import write_table

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
SPACE, OTHER_SPACE = "cd" * 32, "ef" * 32
EMPTY: Mapping[str, Any] = {
    "vector": np.zeros(EMBEDDING_DIM, np.float32), "float": np.nan, "int": 0, "string": "", "strings": [],
    "time": 0, "json": "[]",
}  # fmt: skip


def days_ago(days: float) -> int:
    """Microseconds of the time so many days before NOW."""
    return int((NOW - timedelta(days=days)).timestamp() * 1e6)


def tags_of(weights: Mapping[str, float], **changed: Any) -> dict[str, Any]:
    """``tags`` and ``interests`` of category → weight; a dotted id is of the second level."""
    tags = [
        {"id": tag, "zh": f"{tag}中", "en": tag.title(), "level": 1 + ("." in tag), "weight": weight,
         "confidence": weight / 2, "share": {"text": 0.25, "image": 0.75, "voice": 0.0},
         "last_seen": "2026-06-20T12:00:00Z", "evidence": []} | changed
        for tag, weight in weights.items()
    ]  # fmt: skip
    top = next((tag["id"] for tag in tags if tag["level"] == 1), "")
    return {"tags": json.dumps(tags, ensure_ascii=False), "interests": list(weights), "top_category": top}


def aspects_of(sentiments: Mapping[str, float]) -> dict[str, Any]:
    listed = [
        {"id": i, "weight": 1 / len(sentiments), "sentiment": s, "evidence": []}
        for i, s in sentiments.items()
    ]
    return {"aspects": json.dumps(listed)}


def write_profiles(directory: Path, profiles: Mapping[str, Mapping[str, Any]], when: datetime = NOW) -> Path:
    """One file with a row a user, written at ``when``; ``created`` says the same unless it is given."""
    rows = []
    for changes in profiles.values():
        row = {field.name: EMPTY[field.type] for field in PROFILE_FIELDS}
        row |= {"profile_space": SPACE, "revision": 1, "created": int(when.timestamp() * 1e6)} | dict(changes)
        rows.append(row | {"event_timestamp": row["last_event"] or days_ago(1)})
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return write_table(directory, "profiles", [profile_batch(list(profiles), columns)], when)

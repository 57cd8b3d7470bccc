"""The events behind a profile: the keys of its tags and aspects, found in the ``events`` table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

from features.tables.views import ask

_FIND = """
SELECT event_key, source, event_id, event_time, modality, sentiment, labels FROM events_unique
WHERE user_id = $user AND event_key IN (SELECT unnest(CAST($keys AS UBIGINT[])))
"""


def evidence_of(directory: Path, user_id: str, tags: str | None, aspects: str | None) -> list[dict[str, Any]]:
    """A row an event, the newest first: what it ``supports`` (ids of tags and aspects), ``event_key`` (16 hex
    digits), ``source``, ``event_id``, ``event_time``, ``modality``, ``sentiment``, ``labels``.

    ``tags`` and ``aspects`` are a profile's JSON. An event that the table does not keep has its key alone,
    and comes last. Raises SqlError for files that are not of the table.
    """
    supports: dict[str, list[str]] = {}
    for item in (*json.loads(tags or "[]"), *json.loads(aspects or "[]")):
        for key in item["evidence"]:
            supports.setdefault(key, []).append(item["id"])
    if not supports:
        return []

    def work(db: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
        keys = [int(key, 16) for key in supports]
        found: list[dict[str, Any]] = (
            db.sql(_FIND, params={"user": user_id, "keys": keys}).to_arrow_table().to_pylist()
        )
        return found

    rows = {f"{row['event_key']:016x}": row for row in ask(directory, work)}
    nothing = dict.fromkeys(("source", "event_id", "event_time", "modality", "sentiment", "labels"))
    listed = [
        {"supports": names, **(rows.get(key) or nothing), "event_key": key} for key, names in supports.items()
    ]
    known = [row for row in listed if row["event_time"]]
    return sorted(known, key=lambda row: row["event_time"], reverse=True) + [
        row for row in listed if not row["event_time"]
    ]

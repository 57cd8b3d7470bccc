"""Made-up parquet tables for whatever reads many users: tastes, languages and vectors are planted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from features.schema import EMBEDDING_DIM, EncodedEvent
from features.tables.rows import event_batch, profile_batch
from features.tables.writer import write_table
from features.taxonomy import Category, load_taxonomy
from tests.unit.features.tables.test_rows import simple_event

TAXONOMY = load_taxonomy()
TOPS = ("books", "shoes", "fruit", "digital")
"""User i likes TOPS[i % 4] best."""
SPACES = "ab" * 32, "cd" * 32
DAY_US = 86_400_000_000


def micros(when: datetime) -> int:
    return int(when.timestamp() * 1e6)


def tag_json(category: Category, weight: float) -> dict[str, Any]:
    return {
        "id": category.id,
        "zh": category.zh,
        "en": category.en,
        "level": 1 if category.parent is None else 2,
        "weight": weight,
        "confidence": 0.5,
        "share": {"text": 1.0},
        "last_seen": "2026-01-01T00:00:00Z",
        "evidence": [],
    }


def vectors_of(users: range, turn: float, seed: int) -> np.ndarray:
    """float32 [n, 64], unit length: four clusters by taste; ``turn`` moves all of them another way."""
    noise = np.random.default_rng(seed).normal(0, 0.08, (len(users), EMBEDDING_DIM))
    noise[np.arange(len(users)), np.array(users) % 4] += 1
    noise[:, 10] += turn
    return np.asarray(noise / np.linalg.norm(noise, axis=1, keepdims=True), np.float32)


def write_profiles(
    directory: Path,
    users: range,
    written: datetime,
    *,
    turn: float = 0.0,
    revision: int = 1,
    names: Sequence[str] = (),
    **columns: Any,
) -> None:
    """One row a user; ``columns`` replaces some (a list, one value a user)."""
    n = len(users)
    tops = [TAXONOMY.categories[TAXONOMY.slots[TOPS[i % 4]]] for i in users]
    others = [TAXONOMY.categories[TAXONOMY.slots[TOPS[(i + 1) % 4]]] for i in users]
    vectors = vectors_of(users, turn, seed=1)
    newest = [micros(written) - DAY_US * (i % 50) for i in users]
    made: dict[str, Any] = {
        "embedding": vectors, "profile_space": [SPACES[1]] * n, "event_space": [SPACES[0]] * n,
        "revision": [revision] * n, "version": [1 + i % 7 for i in users], "incarnation": [0] * n,
        "modality_mask": [1 + 2 * (i % 2) for i in users], "confidence": [0.5] * n,
        "top_category": [top.id for top in tops], "interests": [[top.id] for top in tops],
        "tags": [json.dumps([tag_json(a, 0.7), tag_json(b, 0.3)][: 1 + i % 3 % 2 + (i % 3 == 0)])
                 for i, a, b in zip(users, tops, others, strict=True)],
        "sentiment": [0.5] * n, "sentiment_recent": [0.5] * n,
        "aspects": ['[{"id": "price", "weight": 1.0, "sentiment": -0.5, "evidence": []}]'] * n,
        "languages": [["zh", "en"][: 1 + i % 2] for i in users],
        "first_event": [time - 20 * DAY_US for time in newest], "last_event": newest,
        "event_timestamp": newest, "created": [micros(written)] * n,
    }  # fmt: skip
    for name in ("text", "image", "voice"):
        made |= {f"{name}_embedding": vectors, f"{name}_count": [1] * n, f"{name}_last_event": newest}
    batch = profile_batch(names or [f"user{i}" for i in users], made | columns)
    write_table(directory, "profiles", [batch], written)


def write_events(directory: Path, users: range, first: datetime, days: int, *, turn: float = 0.0) -> None:
    """One event a user and day: a review of her taste; vectors of the second half are ``turn``-ed."""
    events: list[EncodedEvent] = []
    for day in range(days):
        vectors = vectors_of(users, turn if day >= days / 2 else 0.0, seed=day)
        for i, vector in zip(users, vectors, strict=True):
            number = len(events)
            event = simple_event(
                number,
                event_time_us=micros(first) + day * DAY_US,
                event_key=number + 1,
                topic_key=1,
                offset=number,
                modality=0,
                tag=[TAXONOMY.slots[TOPS[i % 4]], 255, 255, 255],
                tag_score=[0.9, 0, 0, 0],
                embedding=vector,
            )
            events.append(event._replace(user_id=f"user{i}"))
    write_table(directory, "events", [event_batch(events, SPACES[0], TAXONOMY)], first + timedelta(days=days))


NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)


def write_shop(directory: Path, users: int = 60) -> None:
    """Two months of ``users`` shoppers up to NOW, every profile written twice, a month apart."""
    everybody = range(users)
    write_profiles(directory, everybody, NOW - timedelta(days=30))
    write_profiles(directory, everybody, NOW - timedelta(hours=1), turn=1.5, revision=2)
    write_events(directory, everybody, NOW - timedelta(days=40), 20, turn=1.5)

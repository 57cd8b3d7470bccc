"""Records as producers send them: CloudEvents in both modes, with anything changed or left out."""

from __future__ import annotations

import json
from typing import Any

from pipelines.messages.record import Record

RECORD_MS = 1_750_000_000_000
TIME = "2025-06-15T15:00:00+00:00"
REVIEW = {"text": "很好 fine", "rating": 4.5, "lang": "zh", "product_id": "p-1"}
CHECK = {"uri": "file:///media/a.jpg", "sha256": "Ab" * 32, "size": 10, "content_type": "image/jpeg"}

TYPES = {
    "reviews": ("portrait.review.v1", "application/json"),
    "images": ("portrait.image.v1", "image/jpeg"),
    "voices": ("portrait.voice.v1", "audio/wav"),
    "controls": ("portrait.erase.v1", "application/json"),
}


def binary(
    topic: str = "reviews", value: Any = None, key: bytes | None = b"ann", **headers: str | bytes | None
) -> Record:
    """A binary-mode record; a header given as None is left out."""
    kind, content_type = TYPES[topic]
    all_headers: dict[str, str | bytes | None] = {
        "ce_specversion": "1.0", "ce_id": "e-1", "ce_source": "/shop", "ce_type": kind, "ce_time": TIME,
        "ce_subject": "ann", "content-type": content_type,
    }  # fmt: skip
    all_headers |= {name.replace("content_type", "content-type"): held for name, held in headers.items()}
    encoded = tuple(
        (name, held.encode() if isinstance(held, str) else held)
        for name, held in all_headers.items()
        if held is not None
    )
    value = REVIEW if value is None and topic == "reviews" else value
    return record(topic, value, encoded, key)


def record(
    topic: str, value: Any, headers: tuple[tuple[str, bytes | None], ...] = (), key: bytes | None = b"ann"
) -> Record:
    if isinstance(value, dict):
        value = json.dumps(value).encode()
    return Record(topic, "topic-id", 3, 17, RECORD_MS, key, value, headers)


def structured(topic: str = "reviews", key: bytes | None = b"ann", **changes: Any) -> Record:
    """A structured-mode record; an attribute given as None is left out."""
    event: dict[str, Any] = {
        "specversion": "1.0", "id": "e-1", "source": "/shop", "type": TYPES[topic][0], "time": TIME,
        "subject": "ann", "datacontenttype": TYPES[topic][1], "data": REVIEW,
    }  # fmt: skip
    event = {name: held for name, held in (event | changes).items() if held is not None}
    return record(topic, event, (("content-type", b"application/cloudevents+json; charset=UTF-8"),), key)

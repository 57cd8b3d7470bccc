"""CloudEvents of the sample as rows of an event file, in binary or structured mode."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

SOURCE = "https://shop.example/app"


class Message(NamedTuple):
    """One row of an event file: what ``portrait produce`` sends."""

    topic: str
    key: str
    value: bytes
    headers: dict[str, str]


def review(user_id: str, event_id: str, time: datetime, data: dict[str, Any]) -> Message:
    """A review; ``data`` has ``text`` and may have rating, product_id, lang."""
    value = json.dumps(data, ensure_ascii=False).encode()
    return _message("reviews", "portrait.review.v1", user_id, event_id, time, value, "application/json")


def image(user_id: str, event_id: str, time: datetime, value: bytes, content_type: str) -> Message:
    """A picture."""
    return _message("images", "portrait.image.v1", user_id, event_id, time, value, content_type)


def voice(user_id: str, event_id: str, time: datetime, value: bytes, content_type: str) -> Message:
    """A voice clip."""
    return _message("voices", "portrait.voice.v1", user_id, event_id, time, value, content_type)


def structured(message: Message) -> Message:
    """The same event as one JSON object (CloudEvents structured mode)."""
    attributes: dict[str, Any] = {
        name.removeprefix("ce_"): held for name, held in message.headers.items() if name.startswith("ce_")
    }
    content_type = message.headers["content-type"]
    attributes["datacontenttype"] = content_type
    if content_type == "application/json":
        attributes["data"] = json.loads(message.value)
    else:
        attributes["data_base64"] = base64.b64encode(message.value).decode()
    value = json.dumps(attributes, ensure_ascii=False).encode()
    return message._replace(
        value=value, headers={"content-type": "application/cloudevents+json; charset=utf-8"}
    )


def _message(
    topic: str, kind: str, user_id: str, event_id: str, time: datetime, value: bytes, content_type: str
) -> Message:
    local = time.astimezone(timezone(timedelta(hours=8))) if event_id.endswith(("3", "7")) else time
    headers = {
        "ce_specversion": "1.0",
        "ce_id": event_id,
        "ce_source": SOURCE,
        "ce_type": kind,
        "ce_time": local.isoformat().replace("+00:00", "Z"),
        "ce_subject": user_id,
        "content-type": content_type,
    }
    return Message(topic, user_id, value, headers)

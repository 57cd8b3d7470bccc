"""Whom a rejected record names: erased users' records are kept nowhere, not even as dead letters.

A record is a user's if its key, its subject or (on mapped topics) the path of the user says so; what has
none of them, or cannot be parsed, is nobody's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from features.schema import USER_ID
from pipelines.messages.dead_letter import original
from pipelines.messages.record import Record
from pipelines.settings import TopicMapping


def named_users(record: Record, mapping: Mapping[str, TopicMapping]) -> set[str]:
    """Every user that a record names; only what may be a user id."""
    headers = dict(record.headers)
    named = [_text(record.key), _text(headers.get("ce_subject"))]
    if (_text(headers.get("content-type")) or "").startswith("application/cloudevents"):
        named.append(_at(record.value, "subject"))
    elif record.topic in mapping:
        named.append(_at(record.value, mapping[record.topic].user))
    return {user for user in named if user and USER_ID.fullmatch(user)}


def users_of_letter(letter: Record, mapping: Mapping[str, TopicMapping]) -> set[str]:
    """Every user that a dead letter names."""
    try:
        topic = original(letter).topic
    except ValueError:  # not one of ours; its key still tells
        topic = ""
    return named_users(letter._replace(topic=topic), mapping)


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _at(value: bytes | None, path: str) -> str | None:
    """What lies at a dotted path of JSON, as text; None where there is nothing, or no JSON."""
    try:
        inner: Any = json.loads(value or b"")
    except (ValueError, RecursionError):
        return None
    for name in path.split("."):
        inner = inner.get(name) if isinstance(inner, dict) else None
    return str(inner) if isinstance(inner, str | int) else None

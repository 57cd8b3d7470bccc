"""Whom a rejected record names: erased users' records are kept nowhere, not even as dead letters.

A record is a user's if its key, its subject or (on mapped topics) the path of the user says so; what has
none of them, or cannot be parsed, is nobody's. It was rejected, so it is read as leniently as can be: a
header or a name that comes twice names two, and every event of a batch counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from features.schema import is_user_id
from pipelines.messages.dead_letter import USERS, original
from pipelines.messages.record import Record
from pipelines.settings import TopicMapping


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object of JSON, with the names that come twice."""

    __slots__ = ()


def named_users(record: Record, mapping: Mapping[str, TopicMapping]) -> set[str]:
    """Every user that a record names; only what may be a user id."""
    subjects = [value for name, value in record.headers if name.lower() == "ce_subject"]
    named = {_text(raw) for raw in (record.key, *subjects)}
    path = mapping[record.topic].user if record.topic in mapping else "subject"
    if record.topic in mapping or _is_structured(record):
        named.update(_at(record.value, path))
    return {user for user in named if user is not None and is_user_id(user)}


def users_of_letter(letter: Record, mapping: Mapping[str, TopicMapping]) -> set[str]:
    """Every user that a dead letter names, of one that was cut also those of its missing part."""
    try:
        topic = original(letter).topic
    except ValueError:  # not one of ours, or cut; its key still tells
        topic = ""
    listed = [_loaded(value) for name, value in letter.headers if name == USERS]
    users = {user for users in listed if isinstance(users, list) for user in users if isinstance(user, str)}
    return named_users(letter._replace(topic=topic), mapping) | users


def _is_structured(record: Record) -> bool:
    """Whether the value is an event, or a batch of them, by its type or by what is in it."""
    types = (_text(value) or "" for name, value in record.headers if name.lower() == "content-type")
    return any(t.strip(' "').lower().startswith("application/cloudevents") for t in types) or (
        b'"specversion"' in (record.value or b"")
    )


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _at(value: bytes | None, path: str) -> Iterator[str]:
    """What lies at a dotted path of JSON, or of each item of an array, as text; of no JSON nothing."""
    root = _loaded(value)
    found = [root] if isinstance(root, _Pairs) else root if isinstance(root, list) else []
    for name in path.split("."):
        found = [held for item in found if isinstance(item, _Pairs) for other, held in item if other == name]
    yield from (str(user) for user in found if type(user) in (str, int))


def _loaded(value: bytes | None) -> Any:
    """JSON as its objects were written (:class:`_Pairs`); None where it is none."""
    try:
        return json.loads(value or b"", object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None

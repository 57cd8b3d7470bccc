"""Where Feast looks for a user's features: the bytes of its keys and fields, without importing it.

``import feast`` takes seconds and some 180 MB, and the workers of a pipeline need only these few
bytes of it (entity key serialization version 3, ``feast.infra.key_encoding_utils``). A test compares
each function here with Feast's own.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

import mmh3

from features.schema import JOIN_KEY, VIEWS

ENTITY_KEY_VERSION: Final = 3
_STRING: Final = 2  # feast.ValueType.STRING
_LENGTH: Final = struct.Struct("<I")
_KEY_HEAD: Final = (
    struct.pack("<3I", 1, _STRING, len(JOIN_KEY)) + JOIN_KEY.encode() + struct.pack("<I", _STRING)
)


def entity_key(user_id: str) -> bytes:
    """Feast's serialized entity key of a user."""
    raw = user_id.encode()
    return b"".join((_KEY_HEAD, _LENGTH.pack(len(raw)), raw))


def user_of(key: bytes) -> tuple[str, bytes] | None:
    """The user of a serialized entity key and what follows it; None for a key of other entities.

    >>> user_of(entity_key("ann") + b"project")
    ('ann', b'project')
    """
    start = len(_KEY_HEAD) + _LENGTH.size
    if not key.startswith(_KEY_HEAD) or len(key) < start:
        return None
    (length,) = _LENGTH.unpack_from(key, len(_KEY_HEAD))
    try:
        return key[start : start + length].decode(), key[start + length :]
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=1024)
def redis_field(view: str, feature: str) -> bytes:
    """The hash field in which Feast's Redis store keeps a feature."""
    return _LENGTH.pack(mmh3.hash(f"{view}:{feature}", signed=False))


@lru_cache(maxsize=64)
def redis_time_field(view: str) -> bytes:
    """The hash field in which Feast's Redis store keeps the event timestamp of a view."""
    return f"_ts:{view}".encode()


VIEW_TIME_FIELDS: Final = tuple(redis_time_field(view) for view in VIEWS)
"""A hash that has one of these, but no state, was loaded by ``feast materialize``."""


def sqlite_table(project: str, view: str) -> str:
    """The table in which Feast's SQLite store keeps a view, quoted."""
    return quoted(f"{project}_{view}")


def quoted(identifier: str) -> str:
    """An SQL identifier, safe to paste."""
    return '"' + identifier.replace('"', '""') + '"'

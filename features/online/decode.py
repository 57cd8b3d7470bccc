"""Wire bytes of ``feast.types.Value`` → what they mean, one value at a time, without importing Feast.

The inverse of ``features.online.encode``. Feast's null (no bytes) and a value that nobody wrote (None)
are None. Every function raises ValueError for bytes of another type; a test decodes what
Feast's own library serialized.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.online.encode import varint
from features.schema import EMBEDDING_DIM, FieldType

Vector = npt.NDArray[np.float32]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INNER: Final = b"\x0a" + varint(4 * EMBEDDING_DIM)
_VECTOR_HEAD: Final = b"\x82\x01" + varint(len(_INNER) + 4 * EMBEDDING_DIM) + _INNER
"""What stands before the floats of every vector of our length."""
_F4: Final = np.dtype("<f4")
_TAGGED_FLOAT: Final = struct.Struct("<Bf")
_STRING, _INT64, _FLOAT, _TIME, _STRINGS, _ITEM = 0x12, 0x20, 0x35, 0x40, 0x62, 0x0A


def vector(raw: bytes | None) -> Vector | None:
    """float32[EMBEDDING_DIM], read-only."""
    if not raw:
        return None
    if not raw.startswith(_VECTOR_HEAD) or len(raw) != len(_VECTOR_HEAD) + 4 * EMBEDDING_DIM:
        raise ValueError("not a vector of our length")
    return np.frombuffer(raw, _F4, EMBEDDING_DIM, len(_VECTOR_HEAD))


def real(raw: bytes | None) -> float | None:
    """A float32, as a Python float."""
    if not raw:
        return None
    if len(raw) != _TAGGED_FLOAT.size or raw[0] != _FLOAT:
        raise ValueError("not a float")
    number: float = _TAGGED_FLOAT.unpack(raw)[1]
    return number


def whole(raw: bytes | None) -> int | None:
    """An int64."""
    return _int64(_INT64, raw) if raw else None


def seconds(raw: bytes | None) -> int | None:
    """A time in whole seconds since 1970 UTC."""
    return _int64(_TIME, raw) if raw else None


def time(raw: bytes | None) -> datetime | None:
    """A time in whole seconds, aware UTC."""
    since_1970_s = seconds(raw)
    return None if since_1970_s is None else _EPOCH + timedelta(seconds=since_1970_s)


def text(raw: bytes | None) -> str | None:
    """A string."""
    if not raw:
        return None
    string, *more = _parts(raw, _STRING)
    if more:
        raise ValueError("more than one string")
    return string.decode()


def texts(raw: bytes | None) -> tuple[str, ...] | None:
    """A list of strings."""
    if not raw:
        return None
    items, *more = _parts(raw, _STRINGS)
    if more:
        raise ValueError("more than one list")
    return tuple(item.decode() for item in _parts(items, _ITEM))


def parsed_json(raw: bytes | None) -> Any:
    """What a string of JSON says."""
    string = text(raw)
    return None if string is None else json.loads(string)


DECODERS: Final[Mapping[FieldType, Callable[[bytes | None], Any]]] = {
    "vector": vector,
    "float": real,
    "int": whole,
    "string": text,
    "strings": texts,
    "time": time,
    "json": parsed_json,
}


def _int64(tag: int, raw: bytes) -> int:
    if raw[0] != tag:
        raise ValueError("not a whole number")
    number, end = _varint(raw, 1)
    if end != len(raw):
        raise ValueError("more than a whole number")
    return number - (1 << 64) if number >> 63 else number


def _parts(raw: bytes, tag: int) -> Iterator[bytes]:
    """The length-first fields of a message, all of one tag."""
    at = 0
    while at < len(raw):
        if raw[at] != tag:
            raise ValueError("another field")
        size, start = _varint(raw, at + 1)
        at = start + size
        if at > len(raw):
            raise ValueError("cut off")
        yield raw[start:at]


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place after it."""
    number = shift = 0
    while True:
        if at == len(raw) or shift > 63:
            raise ValueError("cut off")
        byte = raw[at]
        number |= (byte & 127) << shift
        shift += 7
        at += 1
        if byte < 128:
            return number, at

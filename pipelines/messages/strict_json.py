"""JSON as RFC 8259 means it: UTF-8, names once, bounded depth; errors never quote the content.

Python's ``json`` accepts duplicate names (the last wins, so a user id could be spoofed), UTF-16, a byte order
mark and lone surrogates that later break coders and stores. NaN and Infinity, which are no JSON, are read as
the numbers that Python and pandas mean by them: whoever needs a number refuses them, and
whoever does not need the field loses no content over it.
"""

from __future__ import annotations

import json
from typing import Any, Final

from pipelines.messages.record import Reason, RecordError

MAX_DEPTH: Final = 32
"""Deepest nesting of arrays and objects."""


def load_object(data: bytes, what: str) -> dict[str, Any]:
    """Parse bytes that must hold one JSON object; ``what`` names them in errors. Raises RecordError."""
    text = decode_utf8(data, what)
    try:
        value = _DECODER.decode(text)
    except RecordError as error:
        raise RecordError(Reason.BAD_JSON, f"{what}: {error.detail}") from None
    except json.JSONDecodeError as error:
        raise RecordError(
            Reason.BAD_JSON,
            f"{what}: expected JSON, got a syntax error at character {error.pos}",
            type(error).__name__,
        ) from None
    except RecursionError:
        raise _too_deep(what) from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise RecordError(
            Reason.BAD_JSON, f"{what}: expected JSON, got a number too long", type(error).__name__
        ) from None
    if type(value) is not dict:
        raise RecordError(Reason.BAD_JSON, f"{what}: expected a JSON object, got {type(value).__name__}")
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep(what)
    return value


def unquoted(data: bytes) -> bytes:
    """The object in JSON that was made JSON twice, as SDKs do with data that is text already; else as it is.

    >>> unquoted(b'"{\\\\"text\\\\": 1}"'), unquoted(b'"text"')
    (b'{"text": 1}', b'"text"')
    """
    if data.lstrip().startswith(b'"'):
        try:
            inner = json.loads(data)
        except ValueError:
            return data
        if isinstance(inner, str) and inner.lstrip().startswith("{"):
            return inner.encode(errors="surrogatepass")
    return data


def decode_utf8(data: bytes, what: str) -> str:
    """Bytes → text. Raises RecordError (BAD_ENCODING) for anything but UTF-8 without a byte order mark."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise RecordError(Reason.BAD_ENCODING, f"{what}: expected UTF-8 without a byte order mark, got one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(
            Reason.BAD_ENCODING,
            f"{what}: expected UTF-8, got an invalid byte at {error.start}",
            type(error).__name__,
        ) from None


def _too_deep(what: str) -> RecordError:
    return RecordError(Reason.BAD_JSON, f"{what}: expected at most {MAX_DEPTH} nested levels, got more")


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Whether arrays and objects nest deeper than ``limit``; walks level by level, so it cannot overflow."""
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RecordError(Reason.BAD_JSON, "expected each name once in an object, got one twice")
    return result


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique)

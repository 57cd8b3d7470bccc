"""Records of topics that are not CloudEvents: plain JSON read through the settings' ``mapping:``.

Without an id the source position is the id, so that a producer's duplicates count twice; without a time
the record's timestamp is the time.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any, Final

from pipelines.messages.content import CLAIM_CHECK
from pipelines.messages.envelope import JSON, Envelope, decode_base64, identifier, parse_time
from pipelines.messages.record import Reason, Record, RecordError
from pipelines.messages.strict_json import load_object
from pipelines.settings import TopicMapping, zone_of

UNKNOWN_MEDIA: Final = "application/octet-stream"
_US_PER_UNIT: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}(?:\.[0-9]{1,19})?")


def read_mapped(record: Record, mapping: TopicMapping) -> Envelope:
    """The envelope that a plain JSON record stands for. Raises RecordError."""
    value = load_object(record.value or b"", "value")
    user = _at(value, mapping.user)
    if user is None:
        raise RecordError(Reason.MISSING_FIELD, f"expected a user id at {mapping.user}, got none")
    return Envelope(
        _id(value, mapping, record),
        mapping.source or f"kafka:{record.topic}",
        mapping.type,
        _id_text(user, mapping.user),
        _time_us(value, mapping, record),
        {"text": JSON, "base64": UNKNOWN_MEDIA, "ref": CLAIM_CHECK}[mapping.encoding],
        _data(value, mapping),
    )


def _at(value: dict[str, Any], path: str) -> Any:
    """What lies at a dotted path; None where the path ends early."""
    inner: Any = value
    for name in path.split("."):
        if not isinstance(inner, dict):
            return None
        inner = inner.get(name)
    return inner


def _id_text(value: object, path: str) -> str:
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise RecordError(Reason.BAD_FIELD, f"{path}: expected a string or an integer, got another type")


def _id(value: dict[str, Any], mapping: TopicMapping, record: Record) -> str:
    if mapping.id is None:
        return f"{record.topic_id}:{record.partition}:{record.offset}"
    found = _at(value, mapping.id)
    return identifier(None if found is None else _id_text(found, mapping.id), mapping.id)


def _time_us(value: dict[str, Any], mapping: TopicMapping, record: Record) -> int:
    if mapping.time is None:
        return record.timestamp_ms * 1000
    found = _at(value, mapping.time)
    if found is None:
        raise RecordError(Reason.MISSING_FIELD, f"expected a time at {mapping.time}, got none")
    if mapping.time_unit != "iso8601":
        return _since_1970(found, mapping)
    where = f"mapping.{record.topic}"
    if not isinstance(found, str):
        raise RecordError(
            Reason.BAD_TIME,
            f"{mapping.time}: expected RFC 3339 text, got another type; see {where}.time_unit",
        )
    zone = None if mapping.time_zone is None else zone_of(mapping.time_zone)
    return parse_time(found, zone, f"{where}.time_zone")


def _since_1970(found: object, mapping: TopicMapping) -> int:
    """A number of the mapping's unit since 1970, or its text, as µs."""
    is_number = type(found) in (int, float) and math.isfinite(found)  # type: ignore[arg-type]
    if not is_number and not (isinstance(found, str) and _NUMBER.fullmatch(found)):
        raise RecordError(Reason.BAD_TIME, f"{mapping.time}: expected a finite number, got another value")
    unit = _US_PER_UNIT[mapping.time_unit]
    return found * unit if isinstance(found, int) else int(Decimal(str(found)) * unit)


def _data(value: dict[str, Any], mapping: TopicMapping) -> bytes | dict[str, Any]:
    content = _at(value, mapping.content)
    if content is None:
        raise RecordError(Reason.MISSING_FIELD, f"expected content at {mapping.content}, got none")
    if mapping.encoding == "base64":
        return decode_base64(content, mapping.content)
    if mapping.encoding == "ref":
        if not isinstance(content, dict):
            raise RecordError(Reason.BAD_FIELD, f"{mapping.content}: expected an object, got another type")
        return content
    return {
        "text": content,
        "rating": _at(value, mapping.rating) if mapping.rating else None,
        "lang": _at(value, mapping.lang) if mapping.lang else None,
    }

"""CloudEvents 1.0 out of a Kafka record, in binary mode (``ce_`` headers) and structured mode (one JSON).

Source: CloudEvents 1.0.2, its Kafka protocol binding (§3.2, §3.3) and JSON event format (§3.1). Stricter than
the specification: ``time`` and ``subject`` are required, and an attribute may be given once.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from features.schema import USER_ID
from pipelines.messages.record import UNREADABLE, Reason, Record, RecordError
from pipelines.messages.strict_json import load_object

STRUCTURED: Final = "application/cloudevents"
JSON: Final = "application/json"
MAX_ID_CHARACTERS: Final = 512
"""Longest source and longest id."""

EARLIEST_US: Final = 946_684_800_000_000  # 2000-01-01T00:00:00Z
FUTURE_US: Final = 300_000_000
"""Accepted event time: 2000-01-01 to the record's Kafka timestamp + 5 minutes."""
LATEST_RECORD_MS: Final = 4_102_444_800_000  # 2100-01-01T00:00:00Z
"""Record timestamps come from producers too; later ones are microseconds taken for milliseconds, or worse."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Envelope(NamedTuple):
    """The attributes that Portrait reads, checked for presence and form, and the data as it came."""

    event_id: str
    source: str
    type: str
    subject: str
    time_us: int
    content_type: str
    """Lower case, without parameters; empty where the event names none."""
    data: bytes | dict[str, Any] | None
    """A dict where a structured event carried JSON data, else bytes."""


def read_envelope(record: Record) -> Envelope:
    """Take the CloudEvent out of a record. Raises RecordError."""
    headers = _headers(record)
    raw_type = headers.get("content-type")
    content_type = media_type(_text(raw_type, "content-type")) if raw_type else ""
    if content_type.startswith(STRUCTURED):
        return _structured(record, content_type)
    if "ce_specversion" not in headers:
        if UNREADABLE in headers:
            raise RecordError(
                Reason.BAD_ENCODING, "expected header names in UTF-8, got others; see the source"
            )
        if not record.value:
            raise RecordError(Reason.EMPTY_VALUE, "expected an event, got a record without a value")
        raise RecordError(
            Reason.NOT_CLOUDEVENT,
            "expected the header ce_specversion, or content-type application/cloudevents+json, got neither",
        )
    attributes = {
        name: _text(headers[name], name) for name in _BINARY_NAMES if headers.get(name)
    }  # an empty header is a missing one
    _check_version(attributes.get("ce_specversion"))
    return Envelope(
        identifier(attributes.get("ce_id"), "id"),
        identifier(attributes.get("ce_source"), "source"),
        _required(attributes.get("ce_type"), "type"),
        _required(attributes.get("ce_subject"), "subject"),
        parse_time(_required(attributes.get("ce_time"), "time")),
        content_type,
        record.value,
    )


_BINARY_NAMES: Final = ("ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time")


def _headers(record: Record) -> dict[str, bytes | None]:
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        names = [name for name, _ in record.headers]
        for name in (*_BINARY_NAMES, "content-type"):
            if names.count(name) > 1:
                raise RecordError(
                    Reason.NOT_CLOUDEVENT,
                    f"expected the header {name} once, got it {names.count(name)} times",
                )
    return headers


def _structured(record: Record, content_type: str) -> Envelope:
    if content_type != "application/cloudevents+json":
        raise RecordError(
            Reason.BAD_CONTENT_TYPE,
            "expected application/cloudevents+json for structured mode, got another format or a batch",
        )
    event = load_object(record.value or b"", "event")
    _check_version(event.get("specversion"))
    inner = event.get("datacontenttype")
    if inner is not None and not isinstance(inner, str):
        raise RecordError(Reason.BAD_FIELD, "datacontenttype: expected a string, got another type")
    return Envelope(
        identifier(event.get("id"), "id"),
        identifier(event.get("source"), "source"),
        _required(event.get("type"), "type"),
        _required(event.get("subject"), "subject"),
        parse_time(_required(event.get("time"), "time")),
        JSON if inner is None else media_type(inner),
        _structured_data(event),
    )


def _structured_data(event: dict[str, Any]) -> bytes | dict[str, Any] | None:
    encoded, plain = event.get("data_base64"), event.get("data")
    if encoded is not None and plain is not None:
        raise RecordError(Reason.BAD_FIELD, "expected data or data_base64, got both")
    if encoded is not None:
        return decode_base64(encoded, "data_base64")
    if plain is None or isinstance(plain, dict):
        return plain
    raise RecordError(
        Reason.BAD_FIELD, f"data: expected an object, or bytes in data_base64, got {type(plain).__name__}"
    )


def _check_version(version: object) -> None:
    if version != "1.0":
        raise RecordError(Reason.NOT_CLOUDEVENT, "specversion: expected 1.0, got another or none")


def _text(value: bytes | None, name: str) -> str:
    try:
        return (value or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(
            Reason.BAD_ENCODING, f"header {name}: expected UTF-8, got other bytes", type(error).__name__
        ) from None


def _required(value: object, name: str) -> str:
    if value is None or value == "":
        raise RecordError(Reason.MISSING_FIELD, f"expected the attribute {name}, got none")
    if not isinstance(value, str):
        raise RecordError(Reason.BAD_FIELD, f"{name}: expected a string, got {type(value).__name__}")
    return value


def identifier(value: object, name: str) -> str:
    """A required text of 1 to 512 characters, none of them a control or a lone surrogate."""
    text = _required(value, name)
    if len(text) > MAX_ID_CHARACTERS or _NOT_TEXT.search(text):
        raise RecordError(
            Reason.BAD_FIELD,
            f"{name}: expected at most {MAX_ID_CHARACTERS} printable characters, got {len(text)} or others",
        )
    return text


def media_type(text: str) -> str:
    """``type/subtype`` in lower case. Raises RecordError for a charset other than UTF-8."""
    kind, semicolon, parameters = text.partition(";")
    if semicolon and "charset" in parameters.lower() and "utf-8" not in parameters.lower():
        raise RecordError(Reason.BAD_CONTENT_TYPE, "charset: expected utf-8, got another")
    return kind.strip().lower()


def user_id(value: str) -> str:
    """The user id, if it is one: 1 to 128 of ``A-Z a-z 0-9 _ . @ -``. Raises RecordError."""
    if not USER_ID.fullmatch(value):
        raise RecordError(
            Reason.BAD_USER_ID,
            f"user id: expected 1 to 128 of A-Z a-z 0-9 _ . @ -, got {len(value)} characters, some others",
        )
    return value


def parse_time(text: str) -> int:
    """ISO 8601 date and time with an offset → µs since 1970. Raises RecordError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise RecordError(Reason.BAD_TIME, "time: expected an offset such as Z or +08:00, got none")
        return (moment - _EPOCH) // _MICROSECOND
    except RecordError:
        raise
    except (ValueError, OverflowError) as error:
        raise RecordError(
            Reason.BAD_TIME, "time: expected ISO 8601 with an offset, got another form", type(error).__name__
        ) from None


def check_time(time_us: int, record: Record) -> int:
    """The time, if it is accepted for this record; judged by the record's timestamp, never by the clock.

    Raises RecordError.
    """
    if record.timestamp_ms > LATEST_RECORD_MS:
        raise RecordError(
            Reason.BAD_TIME, "record timestamp: expected one before 2100, got a later one; check its unit"
        )
    if not EARLIEST_US <= time_us <= record.timestamp_ms * 1000 + FUTURE_US:
        raise RecordError(
            Reason.BAD_TIME,
            "time: expected 2000-01-01 to the record's timestamp + 5 minutes, got one outside; "
            "check its unit and the producer's clock",
        )
    return time_us


def decode_base64(value: object, name: str) -> bytes:
    """Standard base64 → bytes. Raises RecordError."""
    if not isinstance(value, str):
        raise RecordError(Reason.BAD_FIELD, f"{name}: expected base64 text, got {type(value).__name__}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RecordError(
            Reason.BAD_ENCODING, f"{name}: expected base64, got other characters", type(error).__name__
        ) from None

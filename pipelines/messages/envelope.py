"""CloudEvents 1.0 out of a Kafka record, in binary mode (``ce_`` headers) and structured mode (one JSON).

Source: CloudEvents 1.0.2, its Kafka protocol binding (§3.2, §3.3) and JSON event format (§3.1); RFC 3339.
Stricter than the specification: ``time`` and ``subject`` are required, and an attribute may be given once.
More lenient, as the official SDKs ask for it: names of headers may have capitals (Python's reads them so);
``ce_datacontenttype`` stands in for ``content-type`` (JavaScript's sends both); an event is structured by its
``specversion`` alone where the header names the type of its data, or is absent (Python's, before 2.0); JSON
data may come as a string (JavaScript's and Python's, where their caller had made it JSON already).
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from features.schema import MAX_USER_ID_BYTES, is_user_id
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

_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
"""RFC 3339 §5.6, the offset optional."""
_EPOCH: Final = datetime(1970, 1, 1)
_MICROSECOND: Final = timedelta(microseconds=1)
_LEAP: Final = 60

_JSON_TYPE: Final = re.compile(r"(?:application|text)/(?:(?:x-)?json|[^/]+\+json)")
_PARAMETER: Final = re.compile(r';\s*([^\s=;"]*)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_UTF8: Final = frozenset({"", "utf8", "csutf8", "utf8mb4", "unicode11utf8", "ascii", "usascii", "binary"})
"""Charsets that are UTF-8 or a part of it, or none, without signs and capitals."""
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
    content_type = media_type((headers.get("content-type") or b"").decode(errors="replace"))
    if content_type.startswith(STRUCTURED):
        _check_format(content_type)
        return _structured(load_object(record.value or b"", "event"), "")
    if "ce_specversion" not in headers:
        return _structured(_bare_event(record, headers), content_type)
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
        content_type or media_type(attributes.get("ce_datacontenttype", "")),
        record.value,
    )


_BINARY_NAMES: Final = (
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "ce_datacontenttype",
)  # fmt: skip


def _headers(record: Record) -> dict[str, bytes | None]:
    """Headers by their names in lower case. Raises RecordError where one that is read comes twice."""
    headers = {name.lower(): value for name, value in record.headers}
    if len(headers) != len(record.headers):
        names = [name.lower() for name, _ in record.headers]
        for name in (*_BINARY_NAMES, "content-type"):
            if names.count(name) > 1:
                raise RecordError(
                    Reason.NOT_CLOUDEVENT,
                    f"expected the header {name} once, got it {names.count(name)} times",
                )
    return headers


def _check_format(content_type: str) -> None:
    if content_type.startswith(f"{STRUCTURED}-batch"):
        raise RecordError(
            Reason.BAD_CONTENT_TYPE,
            "expected one event a record, got application/cloudevents-batch; send each event as a record of "
            "its own, keyed by its subject",
        )
    if content_type != f"{STRUCTURED}+json":
        raise RecordError(
            Reason.BAD_CONTENT_TYPE,
            "expected application/cloudevents+json for structured mode, got another format",
        )


def _bare_event(record: Record, headers: dict[str, bytes | None]) -> dict[str, Any]:
    """A structured event that no header says to be one: the value is an object with ``specversion``."""
    value = record.value or b""
    if UNREADABLE in headers:
        raise RecordError(Reason.BAD_ENCODING, "expected header names in UTF-8, got others; see the source")
    if not value:
        raise RecordError(Reason.EMPTY_VALUE, "expected an event, got a record without a value")
    if value.lstrip().startswith(b"{") and b'"specversion"' in value:
        event = load_object(value, "event")
        if "specversion" in event:
            return event
    raise RecordError(
        Reason.NOT_CLOUDEVENT,
        "expected the header ce_specversion, or content-type application/cloudevents+json, got neither",
    )


def _structured(event: dict[str, Any], outer: str) -> Envelope:
    """``outer``: the type that the header of a bare event names. It stands in for that of the data, unless it
    is JSON as such, which may speak of the event."""
    _check_version(event.get("specversion"))
    inner = event.get("datacontenttype")
    if inner is not None and not isinstance(inner, str):
        raise RecordError(Reason.BAD_FIELD, "datacontenttype: expected a string, got another type")
    of_event = is_json(outer) and "+" not in outer
    content_type = media_type(inner or "") or ("" if of_event else outer)
    data = _structured_data(event, content_type)
    encoded = event.get("data_base64") is not None
    return Envelope(
        identifier(event.get("id"), "id"),
        identifier(event.get("source"), "source"),
        _required(event.get("type"), "type"),
        _required(event.get("subject"), "subject"),
        parse_time(_required(event.get("time"), "time")),
        content_type or ("" if encoded else JSON),
        data,
    )


def _structured_data(event: dict[str, Any], content_type: str) -> bytes | dict[str, Any] | None:
    encoded, plain = event.get("data_base64"), event.get("data")
    if encoded is not None and plain is not None:
        raise RecordError(Reason.BAD_FIELD, "expected data or data_base64, got both")
    if encoded is not None:
        return decode_base64(encoded, "data_base64")
    if plain is None or isinstance(plain, dict):
        return plain
    json_inside = isinstance(plain, str) and plain.lstrip().startswith("{")
    if json_inside and (not content_type or is_json(content_type)):
        return str(plain).encode(errors="surrogatepass")
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
    """``type/subtype`` in lower case, without blanks and parameters; empty where none is named.

    Raises RecordError for JSON in a charset other than UTF-8; to media a charset means nothing.

    >>> media_type("Image/JPEG; charset=binary"), media_type('application/json;charset="UTF8"')
    ('image/jpeg', 'application/json')
    """
    if (stripped := text.strip()).startswith('"'):
        stripped = stripped.strip('"')
    kind = "".join(stripped.partition(";")[0].split()).lower()
    if ";" in stripped and is_json(kind):
        for name, value in _PARAMETER.findall(stripped):
            if name.lower() == "charset" and re.sub("[^a-z0-9]", "", value.lower()) not in _UTF8:
                raise RecordError(Reason.BAD_CONTENT_TYPE, "charset: expected utf-8, got another")
    return kind


def is_json(content_type: str) -> bool:
    """Whether a type of :func:`media_type` says that the data is JSON.

    >>> is_json("text/json"), is_json("application/vnd.shop.review+json"), is_json("text/html")
    (True, True, False)
    """
    return _JSON_TYPE.fullmatch(content_type) is not None


def user_id(value: str) -> str:
    """The user id, if it is one (``features.schema.is_user_id``). Raises RecordError."""
    if not is_user_id(value):
        size = len(value.encode(errors="surrogatepass"))
        got = "one of these" if 0 < size <= MAX_USER_ID_BYTES else f"{size} bytes"
        raise RecordError(
            Reason.BAD_USER_ID,
            f"user id: expected 1 to {MAX_USER_ID_BYTES} bytes of UTF-8 without control characters, line "
            f"separators and lone surrogates, got {got}",
        )
    return value


def parse_time(text: str, zone: tzinfo | None = None, setting: str | None = None) -> int:
    """RFC 3339 → µs since 1970; digits after the sixth of a fraction are dropped, second 60 is the next one.

    ``zone`` is that of times without an offset (an hour that comes twice is the first of the two); without it
    they are refused, and ``setting`` names what would give one. Raises RecordError.

    >>> parse_time("1970-01-01t00:00:60.5+00:00"), parse_time("1970-01-01 00:01:00Z")
    (60500000, 60000000)
    """
    if not (found := _TIME.fullmatch(text)):
        raise _bad_time("another form")
    *parts, fraction, offset = found.groups()
    year, month, day, hour, minute, second = map(int, parts)
    if second > _LEAP:
        raise _bad_time("a second after 60")
    if offset is None and zone is None:
        cure = f"; set {setting}" if setting else ""
        raise RecordError(Reason.BAD_TIME, f"time: expected an offset such as Z or +08:00, got none{cure}")
    try:
        moment = datetime(year, month, day, hour, minute, min(second, _LEAP - 1))
    except ValueError as error:
        raise _bad_time("a day or an hour that is none", type(error).__name__) from None
    ahead = _ahead(offset) if offset else zone.utcoffset(moment) if zone else None
    whole = moment - _EPOCH - (ahead or timedelta()) + timedelta(seconds=second == _LEAP)
    return whole // _MICROSECOND + int((fraction or "")[:6].ljust(6, "0"))


def _bad_time(got: str, error: str = "") -> RecordError:
    return RecordError(Reason.BAD_TIME, f"time: expected RFC 3339 with an offset, got {got}", error)


def _ahead(offset: str) -> timedelta:
    """How far a clock of this offset is ahead of UTC."""
    if offset in "Zz":
        return timedelta()
    ahead = timedelta(hours=int(offset[1:3]), minutes=int(offset[4:]))
    return -ahead if offset[0] == "-" else ahead


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

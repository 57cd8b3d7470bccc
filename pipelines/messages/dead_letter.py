"""A rejected record as a dead letter, and a dead letter as the record it was."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Final, NamedTuple

from pipelines.messages.record import Record, Rejected

PREFIX: Final = "portrait-error-"
REPLAYED: Final = f"{PREFIX}replayed"
"""Header of a letter that was copied to the end of its partition after a replay had passed it."""
SPOOLED: Final = f"{PREFIX}spooled"
"""Header of a letter that stands for a larger one: the name of that one's file (pipelines/steps/spool.py)."""
TRUNCATED: Final = f"{PREFIX}truncated"
"""Header of a letter that holds the first bytes of its value only."""
USERS: Final = f"{PREFIX}users"
"""Header of such a letter: JSON array of the users that the whole record names, so that it can be erased."""
MAX_DETAIL_CHARACTERS: Final = 500

Headers = tuple[tuple[str, bytes | None], ...]


class Message(NamedTuple):
    """What :class:`~pipelines.kafka.producer.Sender` sends, in the order of its arguments."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


class Original(NamedTuple):
    """A record as it was before it was rejected; sent again with its own timestamp it is judged alike."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


def dead_letter(rejected: Rejected, suffix: str = ".dead") -> Message:
    """Key, value and headers byte for byte, then ``portrait-error-*`` headers without any content.

    kafka-python sends no null header and no record without both key and value: such a null travels as
    empty bytes and ``portrait-error-nulls`` says where it was (``value``, or places of headers).
    """
    record = rejected.record
    nulls = [str(i) for i, (_, value) in enumerate(record.headers) if value is None]
    value = record.value
    if value is None and record.key is None:
        value, nulls = b"", ["value", *nulls]
    added = {
        "reason": rejected.reason.value,
        "stage": rejected.stage,
        "class": rejected.error,
        "detail": rejected.detail[:MAX_DETAIL_CHARACTERS],
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "time": _iso8601(record.timestamp_ms),
        "timestamp-ms": str(record.timestamp_ms),
        "version": _version(),
        "nulls": ",".join(nulls),
        "headers": str(len(record.headers)),
    }
    kept = tuple((name, held or b"") for name, held in record.headers)
    errors = tuple((PREFIX + name, text.encode()) for name, text in added.items())
    return Message(record.topic + suffix, record.key, value, kept + errors)


@cache
def _version() -> str:
    """Of this software; looking it up takes longer than all else of a letter."""
    return version("portrait-profiles")


def _iso8601(timestamp_ms: int) -> str:
    """The record's timestamp to read; empty where it is no time at all."""
    try:
        time = datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def original(record: Record) -> Original:
    """The record behind a dead letter. Raises ValueError for a record that is none."""
    errors = {name: value or b"" for name, value in record.headers if name.startswith(PREFIX)}
    try:
        count = int(errors[PREFIX + "headers"])
        topic = errors[PREFIX + "topic"].decode()
        timestamp_ms = int(errors[PREFIX + "timestamp-ms"])
        nulls = errors[PREFIX + "nulls"].decode().split(",")
    except (KeyError, ValueError):
        raise ValueError(
            f"{record.topic}[{record.partition}]@{record.offset}: expected a dead letter, got a record "
            f"without {PREFIX}* headers; replay reads dead-letter topics only"
        ) from None
    if TRUNCATED in errors or SPOOLED in errors:
        raise ValueError(
            f"{record.topic}[{record.partition}]@{record.offset}: expected a whole dead letter, got the "
            f"start of one that was too large; the record is at {_position(errors)} while that topic keeps it"
        )
    kept = tuple(
        (name, None if str(i) in nulls else value) for i, (name, value) in enumerate(record.headers[:count])
    )
    return Original(topic, record.key, None if "value" in nulls else record.value, kept, timestamp_ms)


def _position(errors: Mapping[str, bytes]) -> str:
    """Where a rejected record came from, as its dead letter says."""
    topic, partition, offset = (
        errors.get(PREFIX + name, b"?").decode(errors="replace") for name in ("topic", "partition", "offset")
    )
    return f"{topic}[{partition}]@{offset}"

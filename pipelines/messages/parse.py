"""Kafka records → events, or rejects with a reason. Pure: no I/O, no clock.

Messages are CloudEvents (``envelope``), or plain JSON on topics that the settings map (``plain_json``). The
record's key is the user id and equals the subject; a record without a key is rejected too (``key_mismatch``),
since its user would be scattered over partitions. Keys of mapped topics are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
import xxhash
from apache_beam.pvalue import PCollection

from features.schema import EVENT_DTYPE, NO_TAG, EncodedEvent, Kind, Modality
from models.encoder import TextContent
from pipelines.messages.content import (
    CLAIM_CHECK,
    RATING_SCALE,
    UNNAMED,
    ClaimCheck,
    check_media_type,
    claim_check,
    text_content,
)
from pipelines.messages.envelope import (
    JSON,
    STRUCTURED,
    Envelope,
    check_time,
    is_json,
    read_envelope,
    user_id,
)
from pipelines.messages.plain_json import read_mapped
from pipelines.messages.record import Reason, Record, RecordError, Rejected
from pipelines.messages.strict_json import load_object, unquoted
from pipelines.settings import Settings, TopicMapping

STAGE: Final = "ParseEvents"

REVIEW: Final = "portrait.review.v1"
IMAGE: Final = "portrait.image.v1"
VOICE: Final = "portrait.voice.v1"
MODALITY_OF_TYPE: Final = {REVIEW: Modality.TEXT, IMAGE: Modality.IMAGE, VOICE: Modality.VOICE}
CONTROL_OF_TYPE: Final = {"portrait.erase.v1": Kind.ERASE, "portrait.readmit.v1": Kind.READMIT}


class Event(NamedTuple):
    """One piece of a user's content. ``content`` is empty bytes while ``ref`` is not fetched."""

    user_id: str
    source: str
    event_id: str
    modality: Modality
    event_time_us: int
    record: Record
    content_type: str
    content: TextContent | bytes
    ref: ClaimCheck | None = None
    ignored: tuple[str, ...] = ()
    """Which of ``content.IGNORED_FIELDS`` the content came with and goes without."""

    @property
    def kind(self) -> Kind:
        """What it asks of the fold."""
        return Kind.CONTENT


class ControlEvent(NamedTuple):
    """A user's wish: to be erased, or to be profiled again."""

    user_id: str
    source: str
    event_id: str
    kind: Kind
    event_time_us: int
    record: Record


@dataclass(frozen=True)
class ParseRules:
    """What parsing needs of the settings, made once; plain values, so that a DoFn can carry it."""

    types: Mapping[str, frozenset[str]]
    """Topic → the types that it may carry."""
    mapping: Mapping[str, TopicMapping]
    max_record_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> ParseRules:
        """The rules that these settings ask for. Topics may share a name: it then carries both types."""
        topics = settings.kafka.topics
        types: dict[str, frozenset[str]] = {}
        for topic, carried in (
            (topics.reviews, {REVIEW}),
            (topics.images, {IMAGE}),
            (topics.voices, {VOICE}),
            (topics.controls, set(CONTROL_OF_TYPE)),
        ):
            types[topic] = types.get(topic, frozenset()) | carried
        return cls(types, dict(settings.mapping), settings.kafka.max_record_bytes)


def parse(record: Record, rules: ParseRules) -> Event | ControlEvent | Rejected:
    """One record → what it says, or why it cannot be used. Never raises."""
    try:
        return _parse(record, rules)
    except RecordError as error:
        return error.reject(record, STAGE)
    except Exception as error:
        detail = "expected a record that some rule names, got one that none does"
        return Rejected(record, Reason.INTERNAL_ERROR, STAGE, type(error).__name__, detail)


def _parse(record: Record, rules: ParseRules) -> Event | ControlEvent:
    if record.value is not None and len(record.value) > rules.max_record_bytes:
        raise RecordError(
            Reason.TOO_LARGE,
            f"expected at most {rules.max_record_bytes} bytes, got {len(record.value)}",
        )
    mapping = rules.mapping.get(record.topic)
    if mapping is not None:
        envelope = read_mapped(record, mapping)
    else:
        envelope = read_envelope(record)
        _check_route(envelope, record, rules)
    user = user_id(envelope.subject)
    if mapping is None and record.key != user.encode():
        raise RecordError(
            Reason.KEY_MISMATCH, "expected the record's key to equal the subject, got another or none"
        )
    time_us = check_time(envelope.time_us, record)
    kind = CONTROL_OF_TYPE.get(envelope.type)
    if kind is not None:
        if envelope.data:  # says nothing yet, but must be JSON; none at all is fine
            _object(envelope)
        return ControlEvent(user, envelope.source, envelope.event_id, kind, time_us, record)
    modality = MODALITY_OF_TYPE[envelope.type]
    event = Event(user, envelope.source, envelope.event_id, modality, time_us, record, JSON, b"")
    if modality is Modality.TEXT:
        scale = RATING_SCALE if mapping is None else mapping.rating_scale
        content, ignored = text_content(_object(envelope), scale)
        return event._replace(content=content, ignored=ignored)
    content_type, media, ref = _media(envelope, modality)
    return event._replace(content_type=content_type, content=media, ref=ref)


def _check_route(envelope: Envelope, record: Record, rules: ParseRules) -> None:
    """Type, topic and content type of a CloudEvent belong together."""
    if envelope.type not in MODALITY_OF_TYPE and envelope.type not in CONTROL_OF_TYPE:
        raise RecordError(Reason.UNKNOWN_TYPE, "type: expected a type of this version, got another")
    if envelope.type not in rules.types.get(record.topic, ()):
        raise RecordError(
            Reason.WRONG_TOPIC,
            f"expected another topic for {envelope.type}, got {record.topic}; see kafka.topics",
        )
    modality = MODALITY_OF_TYPE.get(envelope.type)
    if modality in (Modality.IMAGE, Modality.VOICE):
        check_media_type(envelope.content_type, modality)


def _media(envelope: Envelope, modality: Modality) -> tuple[str, bytes, ClaimCheck | None]:
    content_type, data = envelope.content_type, envelope.data
    if content_type == CLAIM_CHECK:
        ref = claim_check(_object(envelope, CLAIM_CHECK), modality)
        return ref.content_type, b"", ref
    if isinstance(data, dict):
        raise RecordError(Reason.BAD_FIELD, "expected media in data_base64, got a JSON object in data")
    if not data:
        raise RecordError(Reason.EMPTY_VALUE, "expected media, got no bytes")
    return content_type, data, None


def _object(envelope: Envelope, expected: str = JSON) -> dict[str, Any]:
    """The data as a JSON object: by its type, or by its first byte where the type says nothing."""
    content_type, data = envelope.content_type, envelope.data
    named = content_type == expected or (
        is_json(content_type) and not content_type.startswith((STRUCTURED, CLAIM_CHECK))
    )
    if not named and content_type not in UNNAMED:
        raise RecordError(Reason.BAD_CONTENT_TYPE, f"expected {expected}, got another type")
    if isinstance(data, dict):
        return data
    if not data:
        raise RecordError(Reason.EMPTY_VALUE, "expected a JSON object, got no bytes")
    data = unquoted(data)
    if not named and not data.lstrip().startswith(b"{"):
        raise RecordError(
            Reason.BAD_CONTENT_TYPE, f"expected {JSON}, got no type that says so and no JSON object"
        )
    return load_object(data, "data")


@lru_cache(maxsize=1024)
def topic_key(topic_id: str) -> int:
    """64-bit name of one incarnation of a topic."""
    return xxhash.xxh3_64_intdigest(topic_id.encode())


def event_key(source: str, event_id: str) -> int:
    """64-bit name of an event; neither part can hold the NUL between them."""
    return xxhash.xxh3_64_intdigest(f"{source}\0{event_id}".encode())


def content_key(event: Event | ControlEvent) -> int:
    """64-bit digest of what an event says, whatever brought it: of content, not of its claim check."""
    if isinstance(event, ControlEvent):
        return xxhash.xxh3_64_intdigest(f"{event.kind.value}\0{event.user_id}".encode())
    content = event.content
    if isinstance(content, TextContent):
        return xxhash.xxh3_64_intdigest(f"{content.lang}\0{content.rating}\0{content.text}".encode())
    return xxhash.xxh3_64_intdigest(content)


def encode_control(control: ControlEvent) -> EncodedEvent:
    """A control as the fold takes it; it has no vector and no labels."""
    numbers = np.zeros(1, EVENT_DTYPE)
    record = control.record
    numbers["event_time_us"] = control.event_time_us
    numbers["record_time_us"] = record.timestamp_ms * 1000
    numbers["topic_key"] = topic_key(record.topic_id)
    numbers["partition"] = record.partition
    numbers["offset"] = record.offset
    numbers["event_key"] = event_key(control.source, control.event_id)
    numbers["content_key"] = content_key(control)
    numbers["kind"] = control.kind
    numbers["tag"] = NO_TAG
    numbers["sentiment"] = np.nan
    return EncodedEvent(
        control.user_id, control.source, control.event_id, record.topic, "{}", numbers[0].tobytes()
    )


CountIgnored = Callable[[tuple[str, ...]], object]


def _uncounted(_: tuple[str, ...]) -> None:
    pass


class ParseEvents(beam.PTransform[Any, Any]):
    """``PCollection[Record]`` → ``events`` (Event), ``controls`` (EncodedEvent) and ``rejected``.

    ``count_ignored`` is given the names of fields that a review came with and goes without (a metric: this
    room knows none).
    """

    def __init__(self, settings: Settings, count_ignored: CountIgnored = _uncounted) -> None:
        super().__init__()
        self._fn = _ParseFn(ParseRules.of(settings), count_ignored)

    def expand(self, records: PCollection[Record]) -> Any:
        return records | "Parse" >> beam.ParDo(self._fn).with_outputs("controls", "rejected", main="events")


class _ParseFn(beam.DoFn):
    def __init__(self, rules: ParseRules, count_ignored: CountIgnored) -> None:
        self._rules = rules
        self._count_ignored = count_ignored

    def process(self, record: Record) -> Iterator[Any]:
        result = parse(record, self._rules)
        if isinstance(result, Event):
            if result.ignored:
                self._count_ignored(result.ignored)
            yield result
        elif isinstance(result, ControlEvent):
            yield beam.pvalue.TaggedOutput("controls", encode_control(result))
        else:
            yield beam.pvalue.TaggedOutput("rejected", result)

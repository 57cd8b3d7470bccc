"""Records → events or rejects: every rule of the envelope, the contents and the mapping, with its reason."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import EVENT_DTYPE, Kind, Modality
from models.encoder import TextContent
from pipelines.messages.content import CLAIM_CHECK, ClaimCheck
from pipelines.messages.parse import (
    ControlEvent,
    Event,
    ParseRules,
    content_key,
    encode_control,
    event_key,
    parse,
    topic_key,
)
from pipelines.messages.record import UNREADABLE, Reason, Record, Rejected
from pipelines.settings import Kafka, Settings, Topics
from tests.support.messages import CHECK, RECORD_MS, REVIEW, binary, record, structured

RULES = ParseRules.of(Settings())


def checked(**changes: Any) -> Record:
    """An image by a claim check."""
    return binary("images", CHECK | changes, content_type=CLAIM_CHECK)


def twice(name: str) -> Record:
    """A good record with one header given once more."""
    good = binary()
    return good._replace(headers=(*good.headers, (name, b"again")))


def event_of(parsed: object) -> Event:
    assert isinstance(parsed, Event), parsed
    return parsed


def test_a_binary_review_becomes_an_event() -> None:
    given_record = binary()
    time_us = int(datetime(2025, 6, 15, 15, tzinfo=UTC).timestamp()) * 1_000_000
    review = TextContent("很好 fine", "zh", 4.5)
    assert event_of(parse(given_record, RULES)) == Event(
        "ann", "/shop", "e-1", Modality.TEXT, time_us, given_record, "application/json", review
    )


def test_a_structured_review_says_the_same_as_a_binary_one() -> None:
    one, other = event_of(parse(binary(), RULES)), event_of(parse(structured(), RULES))
    assert one._replace(record=other.record) == other
    assert content_key(one) == content_key(other)


def test_structured_json_may_come_as_base64() -> None:
    encoded = base64.b64encode(json.dumps(REVIEW).encode()).decode()
    event = event_of(parse(structured(data=None, data_base64=encoded), RULES))
    assert event.content == TextContent("很好 fine", "zh", 4.5)


@pytest.mark.parametrize("make", [
    lambda: binary("images", b"\xff\xd8jpeg"),
    lambda: structured("images", data=None, data_base64=base64.b64encode(b"\xff\xd8jpeg").decode()),
])  # fmt: skip
def test_an_image_comes_in_both_modes(make: Any) -> None:
    event = event_of(parse(make(), RULES))
    assert (event.modality, event.content_type, event.content) == (
        Modality.IMAGE,
        "image/jpeg",
        b"\xff\xd8jpeg",
    )
    assert event.kind is Kind.CONTENT


def test_a_content_type_may_have_parameters_and_capitals() -> None:
    record_ = binary("voices", b"OggS", content_type='Audio/OGG; codecs="opus"')
    assert event_of(parse(record_, RULES)).content_type == "audio/ogg"


@pytest.mark.parametrize("make", [
    lambda: binary("images", CHECK, content_type=CLAIM_CHECK),
    lambda: structured("images", datacontenttype=CLAIM_CHECK, data=CHECK),
])  # fmt: skip
def test_a_claim_check_is_read_and_not_fetched(make: Any) -> None:
    event = event_of(parse(make(), RULES))
    assert event.ref == ClaimCheck("file:///media/a.jpg", "ab" * 32, 10, "image/jpeg")
    assert (event.content, event.content_type) == (b"", "image/jpeg")


@pytest.mark.parametrize(("kind", "expected"), [("erase", Kind.ERASE), ("readmit", Kind.READMIT)])
@pytest.mark.parametrize("value", [{}, {"by": "shop"}, None, b""])
def test_a_control_needs_no_data(kind: str, expected: Kind, value: Any) -> None:
    control = parse(binary("controls", value, ce_type=f"portrait.{kind}.v1"), RULES)
    assert isinstance(control, ControlEvent)
    assert (control.user_id, control.kind) == ("ann", expected)


def test_a_control_is_encoded_with_its_place_and_kind() -> None:
    control = parse(binary("controls", {}), RULES)
    assert isinstance(control, ControlEvent)
    encoded = encode_control(control)
    numbers = np.frombuffer(encoded.numbers, EVENT_DTYPE)[0]
    assert (encoded.user_id, encoded.source, encoded.event_id, encoded.topic) == (
        "ann",
        "/shop",
        "e-1",
        "controls",
    )
    assert (numbers["kind"], numbers["partition"], numbers["offset"]) == (Kind.ERASE, 3, 17)
    assert numbers["topic_key"] == topic_key("topic-id")
    assert numbers["event_key"] == event_key("/shop", "e-1")
    assert numbers["record_time_us"] == RECORD_MS * 1000


REJECTED: dict[str, tuple[Reason, Record]] = {
    "a value over the limit": (Reason.TOO_LARGE, binary(value=b"x" * 8_388_609)),
    "a tombstone": (Reason.EMPTY_VALUE, record("reviews", None)),
    "a tombstone with headers": (Reason.EMPTY_VALUE, binary("images")),
    "a review of no bytes": (Reason.EMPTY_VALUE, binary(value=b"")),
    "no envelope": (Reason.NOT_CLOUDEVENT, record("reviews", REVIEW)),
    "another specversion": (Reason.NOT_CLOUDEVENT, binary(ce_specversion="0.3")),
    "another specversion, structured": (Reason.NOT_CLOUDEVENT, structured(specversion="2.0")),
    "an attribute twice": (Reason.NOT_CLOUDEVENT, twice("ce_id")),
    "an unknown type": (Reason.UNKNOWN_TYPE, binary(ce_type="portrait.review.v2")),
    "a type of another topic": (Reason.WRONG_TOPIC, binary(ce_type="portrait.image.v1")),
    "a control on a content topic": (Reason.WRONG_TOPIC, binary(ce_type="portrait.erase.v1")),
    "a batch": (Reason.BAD_CONTENT_TYPE, binary(content_type="application/cloudevents-batch+json")),
    "Avro": (Reason.BAD_CONTENT_TYPE, binary(content_type="application/cloudevents+avro")),
    "a review that is no JSON by type": (Reason.BAD_CONTENT_TYPE, binary(content_type="text/plain")),
    "a charset": (Reason.BAD_CONTENT_TYPE, binary(content_type="application/json; charset=latin-1")),
    "an SVG": (Reason.BAD_CONTENT_TYPE, binary("images", b"<svg>", content_type="image/svg+xml")),
    "a sound among images": (Reason.BAD_CONTENT_TYPE, binary("images", b"RIFF", content_type="audio/wav")),
    "a claim check for a review": (Reason.BAD_CONTENT_TYPE, binary(value=CHECK, content_type=CLAIM_CHECK)),
    "a claim check on a sound": (
        Reason.BAD_CONTENT_TYPE, checked(content_type="audio/wav")),
    "a control that is no JSON": (Reason.BAD_JSON, binary("controls", b"now")),
    "no JSON": (Reason.BAD_JSON, binary(value=b'{"text": "a"')),
    "trailing data": (Reason.BAD_JSON, binary(value=b'{"text": "a"} x')),
    "an array": (Reason.BAD_JSON, binary(value=b"[1]")),
    "a name twice": (Reason.BAD_JSON, binary(value=b'{"text": "a", "text": "b"}')),
    "a name twice inside": (Reason.BAD_JSON, binary(value=b'{"text": "a", "x": {"y": 1, "y": 2}}')),
    "33 levels": (Reason.BAD_JSON, binary(value=b'{"text": "a", "x": ' + b"[" * 32 + b"]" * 32 + b"}")),
    "100,000 levels": (Reason.BAD_JSON, binary(value=b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
    "a number of 5,000 digits": (Reason.BAD_JSON, binary(value=b'{"text": "a", "x": ' + b"9" * 5000 + b"}")),
    "UTF-16": (Reason.BAD_JSON, binary(value=json.dumps(REVIEW).encode("utf-16-le"))),
    "bytes that are no UTF-8": (Reason.BAD_ENCODING, binary(value=b'{"text": "\xff"}')),
    "a byte order mark": (Reason.BAD_ENCODING, binary(value=b'\xef\xbb\xbf{"text": "a"}')),
    "a lone surrogate": (Reason.BAD_ENCODING, binary(value=b'{"text": "\\ud800"}')),
    "a header that is no UTF-8": (Reason.BAD_ENCODING, binary(ce_id=b"\xff")),
    "base64 with a space": (Reason.BAD_ENCODING, structured("images", data=None, data_base64="aGk gaGk=")),
    "no id": (Reason.MISSING_FIELD, binary(ce_id=None)),
    "an empty id": (Reason.MISSING_FIELD, binary(ce_id="")),
    "no source": (Reason.MISSING_FIELD, binary(ce_source=None)),
    "no type": (Reason.MISSING_FIELD, binary(ce_type=None)),
    "no subject": (Reason.MISSING_FIELD, binary(ce_subject=None)),
    "no time": (Reason.MISSING_FIELD, binary(ce_time=None)),
    "no id, structured": (Reason.MISSING_FIELD, structured(id=None)),
    "a review without text": (Reason.MISSING_FIELD, binary(value={"rating": 5})),
    "a claim check without a size": (
        Reason.MISSING_FIELD, checked(size=None)),
    "an id that is a number": (Reason.BAD_FIELD, structured(id=7)),
    "an id with a NUL": (Reason.BAD_FIELD, structured(id="a\0b")),
    "an id of 513 characters": (Reason.BAD_FIELD, binary(ce_id="i" * 513)),
    "a source with a surrogate": (Reason.BAD_FIELD, structured(source="\ud800")),
    "a text that is a list": (Reason.BAD_FIELD, binary(value={"text": ["a"]})),
    "a text that is a number": (Reason.BAD_FIELD, binary(value={"text": 5})),
    "a text that is true": (Reason.BAD_FIELD, binary(value={"text": True})),
    "a text that is NaN": (Reason.BAD_FIELD, binary(value=b'{"text": NaN}')),
    "data twice": (Reason.BAD_FIELD, structured(data_base64="aGk=")),
    "an image as text": (Reason.BAD_FIELD, structured("images", data="jpeg")),
    "an image as an object": (Reason.BAD_FIELD, structured("images", data={"a": 1})),
    "a sha256 that is none": (Reason.BAD_FIELD, checked(sha256="zz")),
    "a size of true": (Reason.BAD_FIELD, checked(size=True)),
    "a size of 0": (Reason.BAD_FIELD, checked(size=0)),
    "a user with a newline": (Reason.BAD_USER_ID, binary(ce_subject="ann\n", key=b"ann\n")),
    "a user of 257 letters": (Reason.BAD_USER_ID, binary(ce_subject="a" * 257, key=b"a" * 257)),
    "a user that is a surrogate": (Reason.BAD_USER_ID, structured(subject="\ud800")),
    "another key": (Reason.KEY_MISMATCH, binary(key=b"bob")),
    "no key": (Reason.KEY_MISMATCH, binary(key=None)),
    "a key in other case": (Reason.KEY_MISMATCH, structured(key=b"Ann")),
    "a time without an offset": (Reason.BAD_TIME, binary(ce_time="2025-06-15T15:00:00")),
    "a time in words": (Reason.BAD_TIME, binary(ce_time="yesterday")),
    "a time in milliseconds": (Reason.BAD_TIME, binary(ce_time="1750000000000")),
    "1999": (Reason.BAD_TIME, binary(ce_time="1999-12-31T23:59:59Z")),
    "five minutes and a bit ahead": (Reason.BAD_TIME, binary(ce_time="2025-06-15T15:11:40.000001Z")),
    "year 9999 at the edge": (Reason.BAD_TIME, binary(ce_time="9999-12-31T23:59:59-23:59")),
    "a record from year 57,000": (
        Reason.BAD_TIME, binary()._replace(timestamp_ms=RECORD_MS * 1000)),
    "headers with unreadable names": (Reason.BAD_ENCODING, record("reviews", REVIEW, ((UNREADABLE, b""),))),
    "a record without a timestamp": (Reason.BAD_TIME, binary()._replace(timestamp_ms=-1)),
}  # fmt: skip


@pytest.mark.parametrize("what", REJECTED)
def test_what_breaks_a_rule_is_rejected_with_its_reason(what: str) -> None:
    reason, bad = REJECTED[what]
    rejected = parse(bad, RULES)
    assert isinstance(rejected, Rejected), what
    assert (rejected.reason, rejected.stage, rejected.record) == (reason, "ParseEvents", bad)
    assert "expected" in rejected.detail


def test_every_reason_of_the_envelope_has_a_case() -> None:
    envelope = list(Reason)[: list(Reason).index(Reason.REF_FORBIDDEN)]
    assert {reason for reason, _ in REJECTED.values()} == set(envelope)


def test_what_no_rule_names_is_an_internal_error_without_content() -> None:
    no_number: Any = "secret"
    rejected = parse(binary()._replace(timestamp_ms=no_number), RULES)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.error) == (Reason.INTERNAL_ERROR, "TypeError")
    assert "secret" not in rejected.detail


@pytest.mark.parametrize(("time", "expected_us"), [
    ("2000-01-01T00:00:00Z", 946_684_800_000_000),
    ("2025-06-15T15:11:40Z", RECORD_MS * 1000 + 300_000_000),
    ("2025-06-15 23:00:00.123456+08:00", 1_749_999_600_123_456),
    ("2025-06-15T14:59:59.9999999Z", 1_749_999_599_999_999),
])  # fmt: skip
def test_times_are_taken_to_the_microsecond_up_to_the_bounds(time: str, expected_us: int) -> None:
    assert event_of(parse(binary(ce_time=time), RULES)).event_time_us == expected_us


def test_null_fields_of_a_review_count_as_absent_and_unknown_ones_are_ignored() -> None:
    event = event_of(
        parse(binary(value={"text": "", "rating": None, "lang": None, "colour": [{}] * 40}), RULES)
    )
    assert event.content == TextContent("", None, None)


def test_one_topic_may_carry_several_types() -> None:
    rules = ParseRules.of(Settings(kafka=Kafka(topics=Topics(reviews="all", images="all", controls="all"))))
    for each in (binary(), binary("images", b"x"), binary("controls", {})):
        assert not isinstance(parse(each._replace(topic="all"), rules), Rejected)


def test_keys_tell_contents_sources_and_topics_apart() -> None:
    event = event_of(parse(binary(), RULES))
    other = event_of(parse(binary(value=REVIEW | {"rating": 1}), RULES))
    assert content_key(event) != content_key(other)
    assert event_key("a", "bc") != event_key("ab", "c")
    assert topic_key("one") != topic_key("two")


NAMES = st.sampled_from(["ce_specversion", "ce_type", "content-type", "x"])
HELD = st.sampled_from(
    [b"1.0", b"portrait.review.v1", b"application/json", b"application/cloudevents+json", b""]
)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200), st.lists(st.tuples(NAMES, HELD), max_size=6))
def test_no_bytes_make_parsing_raise_or_reach_a_detail(
    value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    marked = b"{'SECRET': " + value
    parsed = parse(record("reviews", marked, tuple(headers)), RULES)
    assert isinstance(parsed, Rejected)
    assert "SECRET" not in parsed.detail + parsed.error
    assert parsed.reason is not Reason.INTERNAL_ERROR


@given(JSON_VALUES, st.sampled_from(["text", "rating", "lang", "product_id", "other"]))
def test_any_json_in_any_field_is_an_event_or_a_named_reject(value: Any, field: str) -> None:
    parsed = parse(binary(value=REVIEW | {field: value}), RULES)
    assert isinstance(parsed, Event) or (
        isinstance(parsed, Rejected) and parsed.reason is not Reason.INTERNAL_ERROR
    )

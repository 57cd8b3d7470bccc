"""What names things: content types, header names and times as producers and the official SDKs write them."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest

from features.schema import Modality
from models.encoder import TextContent
from pipelines.messages.content import CLAIM_CHECK
from pipelines.messages.envelope import parse_time
from pipelines.messages.parse import ControlEvent, Event, ParseRules, parse
from pipelines.messages.record import Reason, Record, RecordError, Rejected
from pipelines.settings import Settings
from tests.support.messages import CHECK, RECORD_MS, REVIEW, TIME, binary, record, structured
from tests.support.user_ids import HOSTILE, NO_IDS

RULES = ParseRules.of(Settings())
JPEG = b"\xff\xd8\xffjpeg"


def event_of(given: Record) -> Event:
    parsed = parse(given, RULES)
    assert isinstance(parsed, Event), parsed
    return parsed


def reason_of(given: Record) -> Reason:
    parsed = parse(given, RULES)
    assert isinstance(parsed, Rejected), parsed
    return parsed.reason


UNNAMED = [
    None,
    "",
    " ",
    "application/octet-stream",
    "binary/octet-stream",
    "Application/Octet-Stream;x=y",
    "*/*",
]
IMAGES = [
    "image/jpg", "image/pjpeg", "image/x-png", "image/x-citrix-jpeg", "image/x-citrix-png", "IMAGE/JPEG",
    "image/jpeg; charset=binary", "image/jpeg;charset=ISO-8859-1", ' image/jpeg ; name="a;b.jpg"',
    "image/avif", "image/*", "image", "jpeg", "application/x-jpg", "image/jpeg;", "image/jpeg; =",
    "image/jpeg; charset",
]  # fmt: skip
VOICES = [
    "audio/x-mpeg", "audio/mpeg3", "audio/x-mpeg-3", "audio/x-ogg", "audio/x-pn-wav", "audio/aac",
    "audio/mp4", "audio/ogg; codecs=opus", 'AUDIO/OGG;CODECS="opus"', "application/ogg",
    "application/x-ogg", "audio/wave",
    "audio/x-wav;rate=16000", "audio/L16;rate=44100;channels=2", "audio/webm", "mp3",
]  # fmt: skip
OTHERS = [
    "text/html", "text/plain", "application/json", "text/json", "video/mp4", "video/ogg", "video/webm",
    "application/pdf", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "html",
    "application/xml", "image/svg+xml", "message/rfc822", "font/woff",
]  # fmt: skip


@pytest.mark.parametrize("content_type", [*UNNAMED, *IMAGES])
def test_the_bytes_of_a_photo_decide_under_any_name_of_one(content_type: str | None) -> None:
    event = event_of(binary("images", JPEG, content_type=content_type))
    assert (event.modality, event.content) == (Modality.IMAGE, JPEG)
    encoded = base64.b64encode(JPEG).decode()
    inside = structured("images", data=None, data_base64=encoded, datacontenttype=content_type)
    assert event_of(inside).content == JPEG
    checked = event_of(binary("images", CHECK | {"content_type": content_type}, content_type=CLAIM_CHECK))
    assert checked.ref is not None


def test_a_parameter_that_is_no_utf_8_costs_no_photo() -> None:
    given = binary("images", JPEG, content_type='image/jpeg; name="é.jpg"'.encode("latin-1"))
    assert event_of(given).content == JPEG


@pytest.mark.parametrize("content_type", [*UNNAMED, *VOICES])
def test_the_bytes_of_a_clip_decide_under_any_name_of_one(content_type: str | None) -> None:
    assert event_of(binary("voices", b"OggS", content_type=content_type)).modality is Modality.VOICE


@pytest.mark.parametrize("content_type", OTHERS)
def test_a_name_of_plainly_another_kind_is_rejected(content_type: str) -> None:
    for topic, other in (("images", "audio/wav"), ("voices", "image/png")):
        for named in (content_type, other):
            assert reason_of(binary(topic, JPEG, content_type=named)) is Reason.BAD_CONTENT_TYPE
            checked = binary(topic, CHECK | {"content_type": named}, content_type=CLAIM_CHECK)
            assert reason_of(checked) is Reason.BAD_CONTENT_TYPE


JSONS = [
    "application/json", "application/json; charset=utf-8", "application/json;charset=UTF8",
    "Application/JSON", 'application/json; charset="UTF-8"', "application/json; charset=utf_8; profile=x",
    "text/json",
    "application/json; odata.metadata=minimal", "application/vnd.shop.review+json", "application/x-json",
    "application/problem+json; charset=us-ascii", "application/json;", "application/json; charset=", None, "",
    "application/octet-stream", 'application/json; name="; charset=latin-1"',
]  # fmt: skip


@pytest.mark.parametrize("content_type", JSONS)
def test_a_review_is_json_under_any_name_of_it(content_type: str | None) -> None:
    assert event_of(binary(content_type=content_type)).content == TextContent("很好 fine", "zh", 4.5)
    assert event_of(structured(datacontenttype=content_type)).content == TextContent("很好 fine", "zh", 4.5)
    assert isinstance(parse(binary("controls", {}, content_type=content_type), RULES), ControlEvent)


@pytest.mark.parametrize("content_type", [
    "text/plain", "application/json; charset=latin-1", "text/json;charset=UTF-16", "application/xml",
    "image/png", "application/json-seq", "application/x-ndjson", CLAIM_CHECK, "application/avro",
])  # fmt: skip
def test_a_review_under_another_name_is_rejected(content_type: str) -> None:
    assert reason_of(binary(content_type=content_type)) is Reason.BAD_CONTENT_TYPE


@pytest.mark.parametrize("value", [b"good apples", b"[1]", JPEG, b'"text"'])
def test_what_no_type_names_is_a_review_only_as_a_json_object(value: bytes) -> None:
    assert reason_of(binary(value=value, content_type=None)) is Reason.BAD_CONTENT_TYPE
    assert reason_of(binary(value=b"", content_type=None)) is Reason.EMPTY_VALUE


# --- the official SDKs ------------------------------------------------------------------------------------

BODY = json.dumps(REVIEW)
EVENT: dict[str, Any] = {
    "specversion": "1.0", "id": "e-1", "source": "/shop", "type": "portrait.review.v1", "subject": "ann",
    "time": TIME, "partitionkey": "ann", "traceparent": None, "sampledrate": 5, "dataschema": "https://x/y",
}  # fmt: skip


def sent(event: dict[str, Any], *headers: tuple[str, str | None]) -> Record:
    encoded = tuple((name, None if held is None else held.encode()) for name, held in headers)
    return record("reviews", event, encoded)


AS_SDKS_SEND = {
    "Python 1.x, structured, with a type": sent(
        EVENT | {"data": REVIEW}, ("content-type", "application/json")),
    "Python 1.x, structured, without one": sent(EVENT | {"data": REVIEW}),
    "Python 1.x, binary, data that was JSON already": binary(value=json.dumps(BODY).encode()),
    "Python 2.x, data that was JSON already": sent(
        EVENT | {"data": BODY, "datacontenttype": "application/json"},
        ("content-type", "application/cloudevents+json")),
    "Python 2.x, binary, without a type": binary(content_type=None, ce_partitionkey="ann"),
    "JavaScript, structured": sent(
        EVENT | {"data": REVIEW, "time": "2025-06-15T15:00:00.000Z", "datacontenttype": "application/json"},
        ("content-type", "application/cloudevents+json; charset=utf-8")),
    "JavaScript, structured, data that was JSON already": sent(
        EVENT | {"data": BODY}, ("content-type", "application/cloudevents+json; charset=utf-8")),
    "JavaScript, binary": binary(
        ce_datacontenttype="application/json", ce_partitionkey="ann", ce_dataschema="https://x/y"),
    "JavaScript, binary, without content-type": binary(
        content_type=None, ce_datacontenttype="application/json"),
    "Java, binary": binary(ce_time="2025-06-15T15:00:00Z", ce_partitionkey="ann", ce_comexampleext="x"),
    "Java, structured": sent(
        EVENT | {"data": REVIEW, "datacontenttype": "application/json"},
        ("content-type", "application/cloudevents+json")),
    "Go, structured, bytes": sent(
        EVENT | {"data_base64": base64.b64encode(BODY.encode()).decode(), "datacontenttype": "text/json"},
        ("content-type", "application/cloudevents+json")),
    "capitals in the names of headers": record(
        "reviews", REVIEW, tuple((n.title(), v) for n, v in binary().headers)),
    "a quoted charset": sent(
        EVENT | {"data": REVIEW}, ("Content-Type", 'Application/CloudEvents+JSON; charset="UTF-8"')),
    "null attributes and headers": sent(
        EVENT | {"data": REVIEW, "data_base64": None, "datacontenttype": None}, ("content-type", None)),
}  # fmt: skip


@pytest.mark.parametrize("what", AS_SDKS_SEND)
def test_events_are_read_as_the_official_sdks_send_them(what: str) -> None:
    event = event_of(AS_SDKS_SEND[what])
    assert event.content == TextContent("很好 fine", "zh", 4.5)
    assert (event.user_id, event.event_id, event.event_time_us) == (
        "ann",
        "e-1",
        1_750_000_000_000_000 - 400_000_000,
    )


def test_media_of_the_python_sdk_come_under_the_type_of_their_data() -> None:
    event = EVENT | {"type": "portrait.image.v1", "data_base64": base64.b64encode(JPEG).decode()}
    for content_type in ("image/jpeg", "application/json", None):
        given = sent(event, ("content-type", content_type))._replace(topic="images")
        assert event_of(given).content == JPEG


def test_claim_checks_of_the_python_sdk_come_under_their_own_type() -> None:
    given = sent(EVENT | {"type": "portrait.image.v1", "data": CHECK}, ("content-type", CLAIM_CHECK))
    assert event_of(given._replace(topic="images")).ref is not None


def test_a_batch_is_refused_by_name() -> None:
    batch = record("reviews", b"[]", (("content-type", b"application/cloudevents-batch+json"),))
    rejected = parse(batch, RULES)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.BAD_CONTENT_TYPE
    assert "got application/cloudevents-batch; send each event as a record of its own" in rejected.detail


@pytest.mark.parametrize(("reason", "given"), [
    (Reason.MISSING_FIELD, sent({k: v for k, v in EVENT.items() if k != "subject"} | {"data": REVIEW})),
    (Reason.KEY_MISMATCH, sent(EVENT | {"data": REVIEW, "partitionkey": "k"})._replace(key=b"k")),
    (Reason.BAD_FIELD, sent(EVENT | {"data": REVIEW, "subject": 7})),
    (Reason.BAD_FIELD, sent(EVENT | {"data": "good"})),
    (Reason.BAD_FIELD, sent(EVENT | {"data": [REVIEW]})),
    (Reason.BAD_JSON, sent(EVENT | {"data": "{'text': 1}"})),
    (Reason.NOT_CLOUDEVENT, sent(EVENT | {"specversion": "0.3"})),
    (Reason.NOT_CLOUDEVENT, sent({"text": '"specversion"'})),
    (Reason.NOT_CLOUDEVENT, binary()._replace(headers=(*binary().headers, ("CE_ID", b"x")))),
    (Reason.BAD_JSON, record("reviews", b'{"specversion": "1.0", ')),
    (Reason.KEY_MISMATCH, binary(ce_subject="%E5%BC%A0", key="张".encode())),
])  # fmt: skip
def test_what_is_no_event_of_ours_keeps_its_reason(reason: Reason, given: Record) -> None:
    assert reason_of(given) is reason


# --- RFC 3339 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "same"), [
    ("2025-06-15t15:00:00z", "2025-06-15T15:00:00+00:00"),
    ("2025-06-15 15:00:00Z", "2025-06-15T15:00:00+00:00"),
    ("2025-06-15T15:00:00-00:00", "2025-06-15T15:00:00+00:00"),
    ("2025-06-15T20:30:00.1+05:30", "2025-06-15T15:00:00.100000+00:00"),
    ("2025-06-15T15:00:00.123456789012345678901234567890Z", "2025-06-15T15:00:00.123456+00:00"),
    ("2025-06-15T15:00:00.9999999Z", "2025-06-15T15:00:00.999999+00:00"),
    ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
    ("2016-12-31T15:59:60.5-08:00", "2017-01-01T00:00:00.500000+00:00"),
    ("2024-02-29T00:00:00+23:59", "2024-02-28T00:01:00+00:00"),
    ("0001-01-01T00:00:00+12:00", None),
    ("9999-12-31T23:59:59-23:59", None),
])  # fmt: skip
def test_rfc_3339_is_read_whole(text: str, same: str | None) -> None:
    found = parse_time(text)
    assert (
        same is None or found == int(datetime.fromisoformat(same).timestamp()) * 1_000_000 + found % 1_000_000
    )
    assert same is None or found % 1_000_000 == datetime.fromisoformat(same).microsecond


@pytest.mark.parametrize("text", [
    "", "2025-06-15", "2025-06-15T15:00:00", "2025-06-15T15:00Z", "2025-06-15T15Z", "20250615T150000Z",
    "2025-W24-7T15:00:00Z", "2025-166T15:00:00Z", "2025-06-15T15:00:00+0800", "2025-06-15T15:00:00+08",
    "2025-06-15T15:00:00+24:00", "2025-06-15T15:00:00+08:99", "2025-06-15T15:00:00.Z",
    "2025-06-15T15:00:00,5Z", "2025-06-15T24:00:00Z", "2025-06-15T15:00:61Z", "2025-06-15T15:60:00Z",
    "2025-02-29T15:00:00Z",
    "2025-13-01T15:00:00Z", "0000-01-01T00:00:00Z", "2025-06-15T15:00:00 Z", " 2025-06-15T15:00:00Z",
    "2025-06-15T15:00:00Z\\n", "2025-06-15T15:00:00Z ", "+2025-06-15T15:00:00Z", "２０２５-06-15T15:00:00Z",
    "2025-06-15_15:00:00Z", "2025-06-15  15:00:00Z", "2025-6-15T15:00:00Z", "2025-06-15T15:00:00Z[UTC]",
    "2025-06-15T15:00:00+08:00:00", "2025-06-15T15:00:00UTC", "Sun, 15 Jun 2025 15:00:00 GMT", "1750000000",
])  # fmt: skip
def test_only_rfc_3339_is_a_time(text: str) -> None:
    with pytest.raises(RecordError, match="expected") as caught:
        parse_time(text.replace("\\n", "\n"))
    assert caught.value.reason is Reason.BAD_TIME


def test_a_long_fraction_costs_nothing() -> None:
    assert parse_time(f"2025-06-15T15:00:00.{'1' * 1_000_000}Z") % 1_000_000 == 111_111
    assert parse_time("2025-06-15T15:06:40Z") == RECORD_MS * 1000


# --- user ids ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", HOSTILE)
def test_any_text_is_a_user_in_both_modes(user: str) -> None:
    for made in (binary(ce_subject=user, key=user.encode()), structured(subject=user, key=user.encode())):
        assert event_of(made).user_id == user


@pytest.mark.parametrize("user", NO_IDS[1:])
def test_what_is_no_text_of_1_to_256_bytes_is_none(user: str) -> None:
    given = structured(subject=user, key=user.encode(errors="surrogatepass"))
    rejected = parse(given, RULES)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.BAD_USER_ID
    assert "expected 1 to 256 bytes" in rejected.detail

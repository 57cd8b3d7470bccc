"""Topics of plain JSON, read through the settings' mapping."""

from __future__ import annotations

from typing import Any

import pytest

from models.encoder import TextContent
from pipelines.messages.parse import ControlEvent, Event, ParseRules, parse
from pipelines.messages.record import Reason, Rejected
from pipelines.settings import Settings, TopicMapping
from tests.support.messages import CHECK, RECORD_MS, record


def event_of(parsed: object) -> Event:
    assert isinstance(parsed, Event), parsed
    return parsed


MAPPED = TopicMapping(
    type="portrait.review.v1", user="customer.id", content="body", id="nr", time="at", time_unit="ms",
    rating="stars", lang="tongue", source="/old-shop",
)  # fmt: skip
PLAIN = {
    "customer": {"id": 42},
    "body": "good",
    "nr": "r-1",
    "at": 1_700_000_000_000,
    "stars": 3,
    "tongue": "en",
}


def parse_mapped(value: Any, mapping: TopicMapping = MAPPED) -> Event | ControlEvent | Rejected:
    rules = ParseRules.of(Settings(mapping={"plain": mapping}))
    return parse(record("plain", value, key=b"any key"), rules)


def test_a_mapped_topic_is_plain_json_with_any_key() -> None:
    event = event_of(parse_mapped(PLAIN))
    assert (event.user_id, event.source, event.event_id) == ("42", "/old-shop", "r-1")
    assert event.event_time_us == 1_700_000_000_000_000
    assert event.content == TextContent("good", "en", 3.0)


def test_without_an_id_or_a_time_the_source_position_and_the_record_speak() -> None:
    mapping = TopicMapping(type="portrait.review.v1", user="u", content="t")
    event = event_of(parse_mapped({"u": "ann", "t": "x"}, mapping))
    assert (event.source, event.event_id, event.event_time_us) == (
        "kafka:plain",
        "topic-id:3:17",
        RECORD_MS * 1000,
    )


@pytest.mark.parametrize(("unit", "value"), [
    ("s", 1_700_000_000.25), ("ms", 1_700_000_000_250), ("us", 1_700_000_000_250_000),
    ("iso8601", "2023-11-14T22:13:20.25Z"),
])  # fmt: skip
def test_mapped_times_come_in_four_units(unit: Any, value: Any) -> None:
    mapping = TopicMapping(type="portrait.review.v1", user="u", content="t", time="at", time_unit=unit)
    event = event_of(parse_mapped({"u": "ann", "t": "x", "at": value}, mapping))
    assert event.event_time_us == 1_700_000_000_250_000


def test_mapped_media_come_as_base64_or_as_a_claim_check() -> None:
    image = TopicMapping(type="portrait.image.v1", user="u", content="c", encoding="base64")
    assert event_of(parse_mapped({"u": "ann", "c": "/9g="}, image)).content == b"\xff\xd8"
    ref = TopicMapping(type="portrait.image.v1", user="u", content="c", encoding="ref")
    assert event_of(parse_mapped({"u": "ann", "c": CHECK}, ref)).ref is not None


@pytest.mark.parametrize(("change", "reason"), [
    ({"customer": {}}, Reason.MISSING_FIELD),
    ({"customer": "ann"}, Reason.MISSING_FIELD),
    ({"customer": {"id": True}}, Reason.BAD_FIELD),
    ({"customer": {"id": "a/b"}}, Reason.BAD_USER_ID),
    ({"body": None}, Reason.MISSING_FIELD),
    ({"nr": None}, Reason.MISSING_FIELD),
    ({"nr": 1.5}, Reason.BAD_FIELD),
    ({"at": None}, Reason.MISSING_FIELD),
    ({"at": "now"}, Reason.BAD_TIME),
    ({"at": 1_700_000_000}, Reason.BAD_TIME),
    ({"at": 10**300}, Reason.BAD_TIME),
])  # fmt: skip
def test_mapped_records_are_rejected_by_the_same_reasons(change: dict[str, Any], reason: Reason) -> None:
    rejected = parse_mapped(PLAIN | change)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason

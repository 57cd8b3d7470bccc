"""Topics of plain JSON, read through the settings' mapping."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from models.encoder import TextContent
from pipelines.messages.parse import ControlEvent, Event, ParseRules, parse
from pipelines.messages.record import Reason, Rejected
from pipelines.settings import Settings, SettingsError, TopicMapping, load_settings
from tests.support.messages import CHECK, RECORD_MS, record
from tests.support.user_ids import HOSTILE


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
    ({"customer": {"id": "a\nb"}}, Reason.BAD_USER_ID),
    ({"customer": {"id": ""}}, Reason.BAD_USER_ID),
    ({"customer": {"id": 4.0}}, Reason.BAD_FIELD),
    ({"body": 5}, Reason.BAD_FIELD),
    ({"body": None}, Reason.MISSING_FIELD),
    ({"nr": None}, Reason.MISSING_FIELD),
    ({"nr": 1.5}, Reason.BAD_FIELD),
    ({"at": None}, Reason.MISSING_FIELD),
    ({"at": "now"}, Reason.BAD_TIME),
    ({"at": 1_700_000_000}, Reason.BAD_TIME),
    ({"at": 10**300}, Reason.BAD_TIME),
    ({"at": True}, Reason.BAD_TIME),
    ({"at": "1e12"}, Reason.BAD_TIME),
    ({"at": "9" * 5000}, Reason.BAD_TIME),
])  # fmt: skip
def test_mapped_records_are_rejected_by_the_same_reasons(change: dict[str, Any], reason: Reason) -> None:
    rejected = parse_mapped(PLAIN | change)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is reason


def timed(at: Any, unit: Any = "iso8601", zone: str | None = None) -> Event | ControlEvent | Rejected:
    mapping = TopicMapping(
        type="portrait.review.v1", user="u", content="t", time="at", time_unit=unit, time_zone=zone
    )
    return parse_mapped({"u": "ann", "t": "x", "at": at}, mapping)


@pytest.mark.parametrize(("unit", "text"), [
    ("s", "1700000000"), ("s", "1700000000.25"), ("ms", "1700000000250"), ("us", "1700000000250000"),
    ("ms", "1700000000250.0"), ("s", 1_700_000_000.25),
])  # fmt: skip
def test_numbers_since_1970_may_be_text(unit: Any, text: Any) -> None:
    assert event_of(timed(text, unit)).event_time_us // 1_000_000 == 1_700_000_000


def test_numbers_are_exact_to_the_microsecond() -> None:
    assert event_of(timed("1700000000.123457", "s")).event_time_us == 1_700_000_000_123_457
    assert event_of(timed(1_700_000_000.123457, "s")).event_time_us == 1_700_000_000_123_457


@pytest.mark.parametrize(("zone", "at", "expected"), [
    ("Asia/Shanghai", "2024-06-01 10:00:00", "2024-06-01T02:00:00+00:00"),
    ("Asia/Shanghai", "2024-06-01T10:00:00.5", "2024-06-01T02:00:00.500000+00:00"),
    ("Asia/Shanghai", "2024-06-01T10:00:00Z", "2024-06-01T10:00:00+00:00"),
    ("+05:30", "2024-06-01 10:00:00", "2024-06-01T04:30:00+00:00"),
    ("-11:00", "2024-06-01 10:00:00", "2024-06-01T21:00:00+00:00"),
    ("UTC", "2024-06-01 10:00:00", "2024-06-01T10:00:00+00:00"),
    ("Europe/Berlin", "2024-07-01 10:00:00", "2024-07-01T08:00:00+00:00"),
    ("Europe/Berlin", "2024-01-01 10:00:00", "2024-01-01T09:00:00+00:00"),
    ("Europe/Berlin", "2024-10-27 02:30:00", "2024-10-27T00:30:00+00:00"),
])  # fmt: skip
def test_a_time_zone_is_that_of_times_without_one(zone: str, at: str, expected: str) -> None:
    moment = datetime.fromisoformat(expected)
    assert event_of(timed(at, zone=zone)).event_time_us == int(moment.timestamp() * 1e6)


def test_a_time_without_a_zone_names_the_setting_that_gives_one() -> None:
    rejected = timed("2024-06-01 10:00:00")
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.detail) == (
        Reason.BAD_TIME,
        "time: expected an offset such as Z or +08:00, got none; set mapping.plain.time_zone",
    )


@pytest.mark.parametrize(("zone", "at"), [("UTC", "2024-06-01"), ("UTC", "2024-06-01 10:00"), (None, 1_700)])
def test_other_times_are_rejected_whatever_the_zone(zone: str | None, at: Any) -> None:
    rejected = timed(at, zone=zone)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is Reason.BAD_TIME


@pytest.mark.parametrize(("given", "rating"), [
    (0, 1.0), (10, 5.0), (5, 3.0), ("7,5", 4.0), ("10/10", 5.0), (11, None), ("5/5", None), (True, None),
])  # fmt: skip
def test_ratings_of_another_scale_become_those_of_ours(given: Any, rating: float | None) -> None:
    mapping = TopicMapping(
        type="portrait.review.v1", user="u", content="t", rating="stars", rating_scale=(0, 10)
    )
    event = event_of(parse_mapped({"u": "ann", "t": "x", "stars": given}, mapping))
    assert isinstance(event.content, TextContent)
    assert event.content.rating == rating
    assert event.ignored == (() if rating is not None else ("rating",))


def test_a_number_is_a_user_and_any_text_is_one() -> None:
    assert event_of(parse_mapped(PLAIN | {"customer": {"id": 10**30}})).user_id == str(10**30)
    for user in HOSTILE:
        assert event_of(parse_mapped(PLAIN | {"customer": {"id": user}})).user_id == user


def mapping_of(folder: Path, more: str) -> TopicMapping:
    file = folder / "portrait.yaml"
    lines = [
        "mapping:",
        "  plain:",
        "    type: portrait.review.v1",
        "    user: u",
        "    content: c",
        f"    {more}",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return load_settings(file, environment={}).mapping["plain"]


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC", "+08:00", '"+10:00"', "-03:30", "'-11:00'", "null"])
def test_a_time_zone_is_a_name_or_an_offset(tmp_path: Path, zone: str) -> None:
    assert mapping_of(tmp_path, f"time_zone: {zone}").time_zone in (zone.strip("\"'"), None)


@pytest.mark.parametrize(
    "zone",
    ["+10:00", "8", "Asia", "Asia/Peking", "../etc/passwd", "/etc/passwd", "+24:00", '""', "CET+1", "[UTC]"],
)
def test_another_time_zone_is_refused_when_settings_are_loaded(tmp_path: Path, zone: str) -> None:
    with pytest.raises(SettingsError, match=r":6: mapping\.plain\.time_zone: expected an IANA name") as error:
        mapping_of(tmp_path, f"time_zone: {zone}")
    assert 'in quotes such as "+08:00", got' in str(error.value)


@pytest.mark.parametrize("scale", ["[5, 1]", "[1, 1]", "[.nan, 1]", "[0, .inf]"])
def test_a_scale_that_does_not_rise_is_refused_when_settings_are_loaded(tmp_path: Path, scale: str) -> None:
    with pytest.raises(SettingsError, match=r":6: mapping\.plain\.rating_scale: expected a lowest rating"):
        mapping_of(tmp_path, f"rating_scale: {scale}")


def test_a_scale_is_1_to_5_unless_it_is_named(tmp_path: Path) -> None:
    assert mapping_of(tmp_path, "rating: r").rating_scale == (1.0, 5.0)
    assert mapping_of(tmp_path, "rating_scale: [-1, 1]").rating_scale == (-1.0, 1.0)

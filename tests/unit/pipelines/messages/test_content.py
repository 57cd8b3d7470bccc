"""Fields that nothing uses never cost a review: they are read where their meaning is plain, or left out."""

from __future__ import annotations

import json
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from hypothesis import given
from hypothesis import strategies as st

from models.encoder import TextContent
from pipelines import metrics
from pipelines.messages.content import IGNORED_FIELDS
from pipelines.messages.parse import Event, ParseEvents, ParseRules, parse
from pipelines.settings import Settings
from tests.support.messages import binary

RULES = ParseRules.of(Settings())
TEXT = "苹果很新鲜"


def read(field: str, value: Any) -> tuple[TextContent, tuple[str, ...]]:
    event = parse(binary(value={"text": TEXT, field: value}), RULES)
    assert isinstance(event, Event), event
    assert isinstance(event.content, TextContent)
    assert event.content.text == TEXT
    return event.content, event.ignored


@pytest.mark.parametrize(("value", "rating"), [
    (5, 5.0), (1, 1.0), (4.5, 4.5), ("5", 5.0), ("5.0", 5.0), ("4,5", 4.5), (" 3 ", 3.0), ("+4", 4.0),
    ("4/5", 4.0), ("4 / 5", 4.0), ("\uff15", 5.0), ("4\uff0c5", 4.5),
    (0, None), (6, None), (10, None), (-1, None), (1e9, None), (10**400, None), (0.99, None),
    ("0", None), ("10", None), ("-1", None), ("NaN", None), ("five", None), ("4/10", None), ("1,000", None),
    ("5 5", None), ("٥", None), ("9" * 5000, None), ("1e0", None), ("0x5", None), ("5" + " " * 100_000, None),
    (float("nan"), None), (float("inf"), None), (float("-inf"), None),
    (True, None), (False, None), ([5], None), ({"stars": 5}, None), ([], None),
])  # fmt: skip
def test_a_rating_is_read_or_left_out(value: Any, rating: float | None) -> None:
    content, ignored = read("rating", value)
    assert content.rating == rating
    assert ignored == (() if rating is not None else ("rating",))


@pytest.mark.parametrize(("value", "lang"), [
    ("zh", "zh"), ("EN", "EN"), ("zh_CN", "zh_CN"), ("en-GB", "en-GB"), ("zh-Hans-CN", "zh-Hans-CN"),
    ("zh-cmn-Hans-CN-x-a", "zh-cmn-Hans-CN-x-a"), ("zh_CN.UTF-8", "zh_CN"), ("de_DE@euro", "de_DE"),
    (" en ", "en"), ("Chinese", "zh"), ("CHINESE", "zh"), ("中文", "zh"), ("English", "en"),
    ("Chinese (Simplified)", "zh"), ("zh_Hans", "zh_Hans"),
    ("in english", None), ("C", None), ("C.UTF-8", None), ("POSIX", None), ("Klingon", None),
    ("x" * 10_000, None), (7, None), (True, None), (["en"], None), ({"id": "en"}, None), (1.5, None),
    ("\ud800", None),
    ("zh\n", "zh"),
])  # fmt: skip
def test_a_language_is_read_or_left_out(value: Any, lang: str | None) -> None:
    content, ignored = read("lang", value)
    assert content.lang == lang
    assert ignored == (() if lang is not None else ("lang",))


@pytest.mark.parametrize("field", ["rating", "lang", "product_id"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_null_and_blanks_are_nothing_and_count_as_nothing(field: str, value: Any) -> None:
    assert read(field, value) == (TextContent(TEXT), ())


@pytest.mark.parametrize(("value", "is_left_out"), [
    ("p-1", False), (123, False), (123.0, False), (1.5, True), (True, True), ([1], True), ({}, True),
    (float("nan"), True),
])  # fmt: skip
def test_a_product_is_named_or_left_out(value: Any, is_left_out: bool) -> None:
    assert read("product_id", value) == (TextContent(TEXT), ("product_id",) if is_left_out else ())


@pytest.mark.parametrize("value", ["red", float("nan"), None, [[1]], {"a": {"b": None}}])
def test_fields_that_no_reader_knows_are_left_out(value: Any) -> None:
    assert read("colour", value) == (TextContent(TEXT), ("other",))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["rating", "lang", "product_id", "x", "Text"]), JSON_VALUES))
def test_no_value_of_them_costs_the_text(fields: dict[str, Any]) -> None:
    event = parse(binary(value=json.dumps({"text": TEXT} | fields).encode()), RULES)
    assert isinstance(event, Event), event
    assert isinstance(event.content, TextContent)
    assert event.content.text == TEXT
    assert set(event.ignored) <= set(IGNORED_FIELDS)
    assert event.content.rating is None or 1 <= event.content.rating <= 5


def _ignored(field: str) -> float:
    return float(metrics.FIELDS_IGNORED.labels(field=field)._value.get())


def test_what_is_left_out_is_counted_by_the_step_alone() -> None:
    records = [binary(value={"text": TEXT, "rating": rating, "x": 1}) for rating in (0, 5, "good")]
    before = {field: _ignored(field) for field in IGNORED_FIELDS}
    for each in records:
        parse(each, RULES)
    assert {field: _ignored(field) for field in IGNORED_FIELDS} == before
    options = PipelineOptions([], direct_running_mode="in_memory", pipeline_type_check=False)
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        pipeline | beam.Create(records) | ParseEvents(Settings(), metrics.count_ignored_fields)
    after = {field: _ignored(field) - before[field] for field in IGNORED_FIELDS}
    assert after == {"rating": 2, "lang": 0, "product_id": 0, "other": 3}

"""Whoever is named anywhere in a rejected record is found, so that nothing of an erased user is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.messages.dead_letter import TRUNCATED, USERS, dead_letter
from pipelines.messages.mentioned_users import named_users, users_of_letter
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import TopicMapping
from tests.support.messages import binary, record, structured
from tests.support.user_ids import HOSTILE, NO_IDS

MAPPING = {"plain": TopicMapping(type="portrait.review.v1", user="customer.id", content="body")}
STRUCTURED = b"application/cloudevents+json"


def letter_of(rejected: Record, **headers: bytes) -> Record:
    message = dead_letter(Rejected(rejected, Reason.BAD_FIELD, "ParseEvents", "", "expected x"))
    added = tuple(headers.items())
    return Record(message.topic, "id", 0, 0, 1, message.key, message.value, (*message.headers, *added))


def ways_to_name(user: str) -> dict[str, Record]:
    key, body = user.encode(), json.dumps({"customer": {"id": user}}).encode()
    return {
        "key": record("reviews", b"no JSON", key=key),
        "subject": binary("images", b"x", key=None, ce_subject=user),
        "event": structured(subject=user, key=None),
        "event without its header": structured(subject=user, key=None)._replace(headers=()),
        "mapped": record("plain", body, key=None),
    }


@pytest.mark.parametrize("user", HOSTILE)
def test_any_user_is_found_wherever_it_is_named(user: str) -> None:
    for what, rejected in ways_to_name(user).items():
        assert named_users(rejected, MAPPING) == {user}, what
        assert users_of_letter(letter_of(rejected), MAPPING) == {user}, what


@pytest.mark.parametrize("user", [user for user in NO_IDS if user.isprintable()])
def test_what_is_no_id_is_nobody(user: str) -> None:
    for what, rejected in ways_to_name(user).items():
        assert named_users(rejected, MAPPING) == set(), what


@pytest.mark.parametrize(("value", "users"), [
    (b'{"subject": "ann", "subject": "bob"}', {"ann", "bob"}),
    (b'[{"subject": "ann"}, {"subject": "bob"}, 7, [{"subject": "carl"}]]', {"ann", "bob"}),
    (b'\xef\xbb\xbf{"subject": "ann"}', {"ann"}),
    ('{"subject": "ann"}'.encode("utf-16"), {"ann"}),
    (b'{"subject": "ann", "x": NaN}', {"ann"}),
    (b'{"subject": ["ann"]}', set()),
    (b'{"subject": true}', set()),
    (b'{"subject": "ann"', set()),
    (b"[" * 100_000, set()),
    (None, set()),
])  # fmt: skip
def test_events_that_are_broken_name_whom_they_can(value: bytes | None, users: set[str]) -> None:
    for content_type in (STRUCTURED, b"Application/CloudEvents-Batch+JSON; charset=utf-8"):
        rejected = record("reviews", value, (("Content-Type", content_type),), key=None)
        assert named_users(rejected, {}) == users


def test_headers_that_come_twice_name_two() -> None:
    headers = (("ce_subject", b"ann"), ("Ce_Subject", b"bob"), ("ce_subject", None))
    assert named_users(record("images", b"x", headers, key=b"carl"), {}) == {"ann", "bob", "carl"}


def test_a_field_of_a_review_names_nobody() -> None:
    assert named_users(binary(value={"text": "x", "subject": "bob"}), {}) == {"ann"}


@pytest.mark.parametrize(("path", "value", "users"), [
    ("customer.id", {"customer": {"id": 42}}, {"42"}),
    ("customer.id", {"customer": {"id": True}}, set()),
    ("customer.id", {"customer": "ann"}, set()),
    ("customer.id", [1], set()),
])  # fmt: skip
def test_a_mapped_path_is_followed(path: str, value: Any, users: set[str]) -> None:
    rejected = record("plain", json.dumps(value).encode(), key=None)
    assert named_users(rejected, MAPPING) == users


@pytest.mark.parametrize(("listed", "users"), [
    (b'["bob", "\\u5f20"]', {"ann", "bob", "张"}), (b"[7, null]", {"ann"}), (b"7", {"ann"}),
    (b"no JSON", {"ann"}),
])  # fmt: skip
def test_a_letter_that_was_cut_keeps_the_users_of_all_of_it(listed: bytes, users: set[str]) -> None:
    letter = letter_of(record("reviews", b'{"subject"', key=b"ann"), **{TRUNCATED: b"1", USERS: listed})
    assert users_of_letter(letter, {}) == users

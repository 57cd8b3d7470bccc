"""Event files of real content: content as it is, CloudEvents around it, labels nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import UsageError
from pipelines.demo.events import DEMO_WORDS, EVENT_FILE, joined_users_stream
from pipelines.messages.parse import Event, ParseRules, parse
from pipelines.messages.record import Record
from pipelines.settings import Settings
from tests.support.job import require_data

LABELS = {"category": "SECRET_CATEGORY", "sentiment": -1, "content_person": "SECRET_PERSON"}
CONTENTS: dict[str, dict[str, Any]] = {
    "text_zh_online_shopping": {"id": "zh1", "review": "苹果很甜", "cat": "SECRET_CATEGORY"},
    "text_en_womens_clothing": {"id": "we1", "review": "Lovely.", "cat": "SECRET_CATEGORY"},
    "img_fashion_products": {
        "product_id": "7", "title": "Black Watch", "jpg": b"\xff\xd8one", "sub": "SECRET_CATEGORY",
    },
    "img_clothing_user_photos": {"image": "ab-1", "jpg": b"\xff\xd8two", "sender_id": "SECRET_PERSON"},
    "img_grocery": {"path": "train/a.jpg", "jpg": b"\xff\xd8three", "group": "SECRET_CATEGORY"},
    "aud_dspspeech20": {"id": "dsp1", "ogg": b"OggS", "word": "SECRET_WORD", "speaker": "SECRET_PERSON"},
}  # fmt: skip
EVENTS = [
    ("e1", "u1", 1_700_000_000_003, "text_zh_online_shopping", "zh1"),
    ("e2", "u1", 1_700_000_000_001, "text_en_womens_clothing", "we1"),
    ("e3", "u1", 1_700_000_000_002, "img_fashion_products.title", "7"),
    ("e4", "u2", 1_700_000_000_001, "img_fashion_products", "7"),
    ("e5", "u2", 1_700_000_000_004, "img_clothing_user_photos", "ab-1"),
    ("e6", "u2", 1_700_000_000_005, "img_grocery", "train/a.jpg"),
    ("e7", "u2", 1_700_000_000_006, "aud_dspspeech20", "dsp1"),
    ("e8", "u3", 1_700_000_000_000, "aud_dspspeech20", "dsp1"),
]


def write(folder: Path, events: list[tuple[Any, ...]] = EVENTS) -> Path:
    names = ("event_id", "user_id", "ts_ms", "dataset", "ref")
    rows = [dict(zip(names, event, strict=True)) | LABELS for event in events]
    pq.write_table(pa.Table.from_pylist(rows), folder / "joined_users_events.parquet")
    for name, row in CONTENTS.items():
        pq.write_table(pa.Table.from_pylist([row]), folder / f"{name}.parquet")
    return folder


def test_the_first_users_events_come_by_time_with_their_content(tmp_path: Path) -> None:
    table = joined_users_stream(write(tmp_path), users=2)
    assert table.schema.equals(EVENT_FILE)
    rows = table.to_pylist()
    assert [dict(row["headers"])["ce_id"] for row in rows] == ["e2", "e4", "e3", "e1", "e5", "e6", "e7"]
    values = [json.loads(row["value"]) if row["topic"] == "reviews" else row["value"] for row in rows]
    assert values == [
        {"text": "Lovely."}, b"\xff\xd8one", {"text": "Black Watch"}, {"text": "苹果很甜"},
        b"\xff\xd8two", b"\xff\xd8three", b"OggS",
    ]  # fmt: skip
    assert [row["topic"] for row in rows] == [
        "reviews", "images", "reviews", "reviews", "images", "images", "voices",
    ]  # fmt: skip
    assert dict(rows[3]["headers"])["ce_time"] == "2023-11-14T22:13:20.003Z"


def test_no_label_enters_a_message(tmp_path: Path) -> None:
    for row in joined_users_stream(write(tmp_path), users=9).to_pylist():
        everything = row["key"] + repr(row["headers"]) + row["value"].decode("utf-8", "replace")
        assert "SECRET" not in everything
        assert row["topic"] != "reviews" or set(json.loads(row["value"])) == {"text"}


def test_a_missing_file_or_reference_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"joined_users_events\.parquet: expected a parquet file"):
        joined_users_stream(tmp_path, users=1)
    write(tmp_path, [("e1", "u1", 1, "img_grocery", "train/other.jpg")])
    with pytest.raises(UsageError, match=r"e1: expected train/other\.jpg in img_grocery, got none"):
        joined_users_stream(tmp_path, users=1)
    write(tmp_path, [("e1", "u1", 1, "elsewhere", "x")])
    with pytest.raises(UsageError, match=r"expected data sets .* got elsewhere"):
        joined_users_stream(tmp_path, users=1)


@pytest.mark.data
def test_every_message_of_real_content_parses() -> None:
    rows = joined_users_stream(require_data(), users=20).to_pylist()
    rules = ParseRules.of(Settings())
    assert len({row["key"] for row in rows}) == 20
    for offset, row in enumerate(rows):
        headers = tuple((name, value.encode()) for name, value in row["headers"])
        record = Record(
            row["topic"], "id", 0, offset, 1_800_000_000_000, row["key"].encode(), row["value"], headers
        )
        assert isinstance(parse(record, rules), Event)


@pytest.mark.data
def test_the_words_of_the_demo_are_those_of_the_data_in_their_order() -> None:
    table = pq.read_table(require_data() / "aud_dspspeech20.parquet", columns=["word_id", "word"])
    words = dict(sorted(set(zip(*table.to_pydict().values(), strict=True))))
    assert list(DEMO_WORDS) == list(words.values())

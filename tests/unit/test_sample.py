"""The shipped sample: what it holds, that every message is what it claims, and that it can be made again."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from features.taxonomy import load_taxonomy
from models.encoder import ContentError, TextContent
from models.image.decode import decode_image
from models.voice.decode import decode_voice
from pipelines.demo.events import DEMO_WORDS, EVENT_FILE, SAMPLE_EVENTS, sample_tastes, write_demo_taxonomy
from pipelines.messages.parse import Event, ParseRules, parse
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Settings
from tests.sample.bad import bad_events
from tests.sample.generate import DUPLICATES, FOLDER, as_table, generate
from tests.sample.people import CATEGORIES, PEOPLE
from tests.sample.reviews import TEMPLATES, review

RULES = ParseRules.of(Settings())
SENT_MS = 1_790_000_000_000  # some time after the sample's end


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = pq.read_table(SAMPLE_EVENTS).to_pylist()
    return made


def record(row: dict[str, Any], offset: int = 0) -> Record:
    headers = tuple((name, value.encode()) for name, value in dict(row["headers"]).items())
    return Record(row["topic"], row["topic"], 0, offset, SENT_MS, row["key"].encode(), row["value"], headers)


def test_the_sample_is_large_enough_and_small_enough(rows: list[dict[str, Any]]) -> None:
    users = {row["key"] for row in rows}
    assert SAMPLE_EVENTS.stat().st_size <= 3_000_000
    assert len(rows) >= 240
    assert len(users) >= 24
    assert pq.read_schema(SAMPLE_EVENTS).equals(EVENT_FILE)
    assert Counter(row["topic"] for row in rows).keys() == {"reviews", "images", "voices"}
    assert SAMPLE_EVENTS.parent == FOLDER


def test_every_user_has_two_planted_tastes_of_the_shipped_taxonomy() -> None:
    tastes = sample_tastes()
    first_level = {c.id for c in load_taxonomy().categories if c.parent is None}
    assert set(CATEGORIES) == first_level
    assert tastes == {person.user_id: list(person.tastes) for person in PEOPLE}
    assert all(len(set(pair)) == 2 and set(pair) <= first_level for pair in tastes.values())
    assert {taste for pair in tastes.values() for taste in pair} == first_level


def test_every_message_parses_but_those_that_were_made_bad(rows: list[dict[str, Any]]) -> None:
    judged = [parse(record(row, i), RULES) for i, row in enumerate(rows)]
    events = [event for event in judged if isinstance(event, Event)]
    rejects = Counter(reject.reason for reject in judged if isinstance(reject, Rejected))
    assert rejects == Counter([Reason.BAD_JSON, Reason.BAD_TIME, Reason.KEY_MISMATCH, Reason.NOT_CLOUDEVENT])
    assert len(events) == len(rows) - 4
    ids = Counter(event.event_id for event in events)
    assert sum(count - 1 for count in ids.values()) == DUPLICATES
    structured = [row for row in rows if "cloudevents+json" in dict(row["headers"])["content-type"]]
    assert len(structured) >= 20
    times_us = [event.event_time_us for event in events if not event.event_id.startswith("bad")]
    assert 5 * 7 * 86_400e6 < max(times_us) - min(times_us) <= 6 * 7 * 86_400e6


def test_all_content_decodes_but_what_was_made_bad(rows: list[dict[str, Any]]) -> None:
    codes: Counter[tuple[str, str]] = Counter()
    for event in (parse(record(row), RULES) for row in rows):
        if not isinstance(event, Event):
            continue
        try:
            if isinstance(event.content, TextContent):
                assert event.content.text.strip() or event.event_id == "bad-0005"
            elif event.modality.name == "IMAGE":
                decode_image(event.content)
            else:
                decode_voice(event.content)
        except ContentError as error:
            codes[error.code, event.event_id] += 1
    assert codes == Counter(
        [("corrupt_media", "bad-0001"), ("unsupported_format", "bad-0002"), ("no_sound", "bad-0007")]
    )


def test_bad_events_name_their_reasons_as_the_parser_does() -> None:
    import random

    for reason, message in bad_events(random.Random(1)):
        judged = parse(record(message._asdict()), RULES)
        if isinstance(judged, Rejected):
            assert judged.reason == reason
        else:
            assert reason in {
                Reason.CORRUPT_MEDIA,
                Reason.UNSUPPORTED_FORMAT,
                Reason.EMPTY_TEXT,
                Reason.NO_SOUND,
            }


def test_no_label_is_in_any_message(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        headers = dict(row["headers"])
        assert set(headers) <= {"content-type", *(f"ce_{name}" for name in
                                ("specversion", "id", "source", "type", "time", "subject"))}  # fmt: skip
        assert not any(category in " ".join(headers.values()) for category in CATEGORIES)
        event = parse(record(row), RULES)
        if isinstance(event, Event) and isinstance(event.content, TextContent):
            value = json.loads(row["value"])
            assert set(value.get("data", value)) <= {"text", "rating", "lang", "product_id"}


def test_each_category_has_ten_templates_in_two_languages_and_verdicts() -> None:
    for category in CATEGORIES:
        by_language = TEMPLATES[category]
        assert set(by_language) == {"zh", "en"}
        assert all(verdicts["good"] and verdicts["bad"] for verdicts in by_language.values())
        assert sum(len(t) for verdicts in by_language.values() for t in verdicts.values()) >= 10


def test_a_review_leaves_no_choice_open() -> None:
    import random

    texts = {review("fruit", random.Random(i))["text"] for i in range(60)}
    assert not any(set("{}|") & set(text) for text in texts)
    assert len(texts) > 30


def test_the_demo_taxonomy_is_the_shipped_one_with_words(tmp_path: Any) -> None:
    taxonomy = load_taxonomy(write_demo_taxonomy(tmp_path / "taxonomy.yaml"))
    assert taxonomy.fingerprint == load_taxonomy().fingerprint
    assert taxonomy.words == DEMO_WORDS
    assert taxonomy.maps == load_taxonomy().maps


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="apt-get install espeak-ng")
def test_the_sample_can_be_made_again(rows: list[dict[str, Any]]) -> None:
    """Compressed media depend on library versions, and Ogg streams on chance: what they show is compared."""
    again = as_table(generate()).to_pylist()
    assert [(row["topic"], row["key"], row["headers"]) for row in again] == [
        (row["topic"], row["key"], row["headers"]) for row in rows
    ]
    for made, shipped in zip(again, rows, strict=True):
        if made["value"] == shipped["value"]:
            continue
        new, old = parse(record(made), RULES), parse(record(shipped), RULES)
        assert isinstance(new, Event)
        assert isinstance(old, Event)
        assert isinstance(new.content, bytes)
        assert isinstance(old.content, bytes)
        assert np.abs(_sense(new) - _sense(old)).mean() < 0.02


def _sense(event: Event) -> Any:
    """Pixels or sound of an event's content, 0..1 or -1..1."""
    assert isinstance(event.content, bytes)
    if event.modality.name == "IMAGE":
        return np.asarray(Image.open(io.BytesIO(event.content)).convert("RGB"), np.float32) / 255
    return soundfile.read(io.BytesIO(event.content), dtype="float32")[0]

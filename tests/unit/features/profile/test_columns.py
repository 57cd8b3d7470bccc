"""What a profile says, and that it says it of the state alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from features.fold.fold import fold
from features.fold.packed_state import States
from features.profile.columns import profile_columns
from features.profile.tags import SHARE_MIN, TOP
from features.schema import EVENT_DTYPE, NO_TAG, PROFILE_FIELDS, Kind, Modality
from features.taxonomy import Category, Taxonomy
from tests.unit.features.builders import DAY_US, NOW_US, POLICY, At, folded, nobody, record_lists

TAXONOMY = Taxonomy(
    (
        Category("home", "家居", "Home"),
        Category("digital", "数码", 'Digital "goods"'),
        Category("digital.phones", "手机", "Phones", "digital"),
        Category("digital.audio", "音频", "Audio", "digital"),
        Category("home.bedding", "床品", "Bedding", "home"),
        *(Category(f"more{i}", f"更多{i}", f"More {i}") for i in range(20)),
    ),
    {},
    {},
)
HEX = "ab" * 32, "cd" * 32
HOME, DIGITAL, PHONES, AUDIO, BEDDING = range(5)


def content(key: int, modality: Modality, days_ago: float = 0, **changes: Any) -> Any:
    item = np.zeros((), EVENT_DTYPE)
    item["event_time_us"] = NOW_US - int(days_ago * DAY_US)
    item["topic_key"], item["offset"], item["event_key"] = 1, key, key
    item["modality"], item["tag"], item["sentiment"] = modality, NO_TAG, np.nan
    item["lang"] = 3
    item["embedding"][key % 64] = 1
    tags = changes.pop("tags", {})
    item["tag"][: len(tags)], item["tag_score"][: len(tags)] = list(tags), list(tags.values())
    for name, value in changes.items():
        item[name] = value
    return item


def states_of(*events: Any) -> States:
    return fold(
        nobody(1), np.zeros(len(events), np.int64), np.array(list(events), EVENT_DTYPE), POLICY, NOW_US
    ).states


def profile(states: States) -> dict[str, Any]:
    """The first user's profile."""
    columns = profile_columns(states, np.zeros((len(states), 64), np.float32), TAXONOMY, *HEX)
    return {name: column[0] for name, column in columns.items()}


def tags(states: States) -> dict[str, dict[str, Any]]:
    return {tag["id"]: tag for tag in json.loads(profile(states)["tags"])}


def test_a_profile_has_the_columns_of_the_schema_and_its_two_times_one_entry_a_user() -> None:
    states = folded(nobody(3), [At(0, 1, 0, 5, key=7), At(2, 1, 0, 6, key=8)])
    columns = profile_columns(states, np.ones((3, 64), np.float32), TAXONOMY, *HEX)
    assert set(columns) == {f.name for f in PROFILE_FIELDS} | {"event_timestamp", "created"}
    assert {len(column) for column in columns.values()} == {3}
    for field in PROFILE_FIELDS:
        value = columns[field.name][0]
        expected = {
            "vector": np.ndarray, "float": np.float32, "int": int, "string": str, "strings": list,
            "time": int, "json": bytes,
        }[field.type]  # fmt: skip
        assert isinstance(value, expected), field.name
        if isinstance(value, np.ndarray):
            assert (value.dtype, value.shape) == (np.float32, (64,))


@given(record_lists(users=2))
def test_every_profile_is_valid_json_with_bounded_numbers(records: list[At]) -> None:
    states = folded(nobody(2), records)
    columns = profile_columns(states, np.zeros((2, 64), np.float32), TAXONOMY, *HEX)
    for user in range(2):
        listed = json.loads(columns["tags"][user])
        assert [tag["id"] for tag in listed] == columns["interests"][user]
        assert len(listed) <= TOP
        for tag in listed:
            assert SHARE_MIN <= tag["weight"] <= 1
            assert 0 <= tag["confidence"] <= 1
            assert sum(tag["share"].values()) == pytest.approx(1, abs=0.002)
            assert len(tag["evidence"]) == len(set(tag["evidence"])) > 0
        for aspect in json.loads(columns["aspects"][user]):
            assert -1 <= aspect["sentiment"] <= 1


def test_a_profile_is_a_function_of_its_state_and_not_of_the_clock_or_the_batch() -> None:
    records = [At(0, 1, 0, offset, key=offset + 1) for offset in range(12)]
    at_once = profile(folded(nobody(1), records))
    later = profile(folded(nobody(1), *([r] for r in reversed(records)), now_us=NOW_US + 10**12))
    for name in ("tags", "aspects", "interests", "languages", "first_event", "text_count"):
        assert at_once[name] == later[name], name


def test_confidence_is_one_half_at_the_prior_and_half_of_it_in_a_tag() -> None:
    states = states_of(*(content(i, Modality.TEXT, tags={HOME: 1.0}) for i in range(1, 7)))
    columns = profile_columns(states, np.zeros((1, 64), np.float32), TAXONOMY, *HEX, prior_events=6)
    assert columns["confidence"][0] == pytest.approx(0.5, abs=1e-3)
    assert json.loads(columns["tags"][0])[0]["confidence"] == pytest.approx(0.75, abs=1e-3)


def test_a_second_level_tag_counts_for_its_parent() -> None:
    found = tags(
        states_of(content(1, Modality.TEXT, tags={PHONES: 1.0}), content(2, Modality.TEXT, tags={HOME: 0.5}))
    )
    assert list(found) == ["digital", "digital.phones", "home"]
    assert [t["level"] for t in found.values()] == [1, 2, 1]
    assert [t["weight"] for t in found.values()] == [0.6667, 1.0, 0.3333]
    assert found["digital"]["en"] == 'Digital "goods"'
    assert found["digital"]["zh"] == "数码"


def test_the_strongest_first_level_tag_is_the_top_category() -> None:
    states = states_of(content(1, Modality.TEXT, tags={PHONES: 0.9, BEDDING: 0.4}))
    assert profile(states)["top_category"] == "digital"
    assert profile(states)["interests"] == ["digital", "digital.phones", "home", "home.bedding"]


def test_a_newer_interest_outweighs_an_older_one() -> None:
    found = tags(
        states_of(
            content(1, Modality.TEXT, days_ago=80, tags={HOME: 1.0}),
            content(2, Modality.TEXT, tags={DIGITAL: 1.0}),
        )
    )
    assert [found[i]["weight"] for i in ("digital", "home")] == [0.8, 0.2]  # two half-lives of 40 days


def test_shares_say_which_modalities_speak_for_a_tag() -> None:
    states = states_of(
        content(1, Modality.TEXT, tags={HOME: 0.5}),
        content(2, Modality.IMAGE, tags={HOME: 1.0}),
        content(3, Modality.VOICE, tags={BEDDING: 0.5}),
    )
    assert tags(states)["home"]["share"] == {"text": 0.25, "image": 0.5, "voice": 0.25}


def test_evidence_names_the_newest_two_events_once_each() -> None:
    states = states_of(
        content(0xA1, Modality.TEXT, days_ago=3, tags={DIGITAL: 1.0}),
        content(0xA2, Modality.TEXT, days_ago=2, tags={PHONES: 1.0, AUDIO: 1.0, DIGITAL: 1.0}),
        content(0xA3, Modality.IMAGE, days_ago=1, tags={AUDIO: 1.0}),
    )
    assert tags(states)["digital"]["evidence"] == [f"{0xA3:016x}", f"{0xA2:016x}"]
    assert tags(states)["digital.phones"]["evidence"] == [f"{0xA2:016x}"]
    assert tags(states)["digital"]["last_seen"] == "2027-01-14T08:00:00Z"


def test_confidence_in_a_tag_grows_with_its_evidence() -> None:
    few = states_of(content(1, Modality.TEXT, tags={HOME: 1.0}))
    many = states_of(*(content(k, Modality.TEXT, tags={HOME: 1.0}) for k in range(1, 9)))
    assert tags(few)["home"]["confidence"] == 0.293
    assert tags(many)["home"]["confidence"] == 0.938
    assert profile(few)["confidence"] == pytest.approx(1 - 2 ** (-1 / 4))
    assert profile(many)["confidence"] == pytest.approx(0.75)


def test_an_event_without_a_tag_adds_none() -> None:
    told = profile(states_of(content(1, Modality.IMAGE)))
    assert (told["tags"], told["interests"], told["top_category"]) == (b"[]", [], "")


def test_no_more_than_ten_tags_are_listed() -> None:
    states = states_of(*(content(k, Modality.TEXT, tags={k + 5: 1.0}) for k in range(1, 15)))
    assert len(profile(states)["interests"]) == TOP


def test_sentiment_recalls_and_follows() -> None:
    states = states_of(
        content(1, Modality.TEXT, days_ago=40, sentiment=1.0), content(2, Modality.VOICE, sentiment=-1.0)
    )
    told = profile(states)
    assert told["sentiment"] == pytest.approx(-1 / 3, abs=1e-6)
    assert told["sentiment_recent"] == pytest.approx(-15 / 17, abs=1e-6)
    assert np.isnan(profile(states_of(content(1, Modality.IMAGE)))["sentiment"])


def test_aspects_have_shares_opinions_and_evidence() -> None:
    states = states_of(
        content(0xB1, Modality.TEXT, aspect_mask=0b11, aspect_sentiment=[1, -1] + [0] * 10),
        content(0xB2, Modality.TEXT, aspect_mask=0b10, aspect_sentiment=[0, 1] + [0] * 10),
    )
    assert json.loads(profile(states)["aspects"]) == [
        {"id": "quality", "weight": 0.6667, "sentiment": 0.0, "evidence": [f"{0xB2:016x}", f"{0xB1:016x}"]},
        {"id": "price", "weight": 0.3333, "sentiment": 1.0, "evidence": [f"{0xB1:016x}"]},
    ]


def test_languages_are_those_spoken_most_used_first() -> None:
    states = states_of(
        *(content(k, Modality.TEXT, lang=lang) for k, lang in enumerate((0, 1, 1, 3), start=1))
    )
    assert profile(states)["languages"] == ["en", "zh"]


def test_modalities_have_their_mask_means_counts_and_times() -> None:
    told = profile(states_of(content(1, Modality.TEXT, days_ago=1), content(2, Modality.VOICE)))
    assert told["modality_mask"] == 0b101
    assert [told[f"{m}_count"] for m in ("text", "image", "voice")] == [1, 0, 1]
    assert told["text_last_event"] == NOW_US - DAY_US
    assert told["image_last_event"] == 0
    assert told["text_embedding"].argmax() == 1
    assert np.linalg.norm(told["voice_embedding"]) == pytest.approx(1)
    assert not told["image_embedding"].any()
    assert told["event_timestamp"] == told["last_event"] == NOW_US
    assert told["first_event"] == NOW_US - DAY_US


def test_confidence_in_a_profile_counts_each_modality_as_of_the_users_newest_event() -> None:
    states = states_of(content(1, Modality.TEXT, days_ago=40), content(2, Modality.VOICE))
    assert profile(states)["confidence"] == pytest.approx(1 - 2 ** (-1.5 / 4))


def test_an_erased_and_an_unknown_user_have_nothing_to_tell() -> None:
    erased = folded(nobody(1), [At(0, 1, 0, 5, key=7)], [At(0, 99, 0, 0, key=1, kind=Kind.ERASE)])
    for states in (erased, nobody(1)):
        told = profile(states)
        assert (told["tags"], told["aspects"], told["interests"], told["languages"]) == (b"[]", b"[]", [], [])
        assert (told["confidence"], told["modality_mask"], told["event_timestamp"]) == (0, 0, 0)


def test_no_users_have_no_profiles() -> None:
    columns = profile_columns(nobody(0), np.zeros((0, 64), np.float32), TAXONOMY, *HEX)
    assert {len(column) for column in columns.values()} == {0}

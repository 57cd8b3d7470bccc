"""What many profiles say together."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from features.audience.group import GroupPortrait, group_portrait
from features.audience.language import compile_expression
from features.taxonomy import load_taxonomy
from tests.unit.features.profile_table import NOW, aspects_of, days_ago, tags_of, write_profiles

TAXONOMY = load_taxonomy()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people: two like books, of whom one is quiet; the table holds every row twice."""
    people: dict[str, dict[str, Any]] = {
        "ann": tags_of({"books": 0.75, "shoes": 0.25}) | {"sentiment": 0.5, "sentiment_recent": 1.0}
        | {"last_event": days_ago(0.5), "first_event": days_ago(14.5), "version": 6, "text_count": 4}
        | {"image_count": 2, "modality_mask": 3, "languages": ["zh", "en"], "confidence": 0.5}
        | aspects_of({"price": -1.0, "quality": 1.0}),
        "bob": tags_of({"books": 1.0}) | {"last_event": days_ago(30), "first_event": days_ago(30)}
        | {"image_count": 1, "modality_mask": 2, "confidence": 0.25, "version": 1},
        "cid": tags_of({"shoes": 1.0, "shoes.sports": 1.0}, parent="shoes") | {"sentiment": -0.5}
        | {"last_event": days_ago(3), "first_event": days_ago(3), "version": 1, "text_count": 1}
        | {"modality_mask": 1, "languages": ["en"], "confidence": 0.25} | aspects_of({"price": 1.0}),
        "dan": {"last_event": days_ago(100), "first_event": days_ago(100), "version": 1, "voice_count": 1}
        | {"modality_mask": 4, "languages": ["zh"], "confidence": 0.25},
    }  # fmt: skip
    directory = tmp_path_factory.mktemp("history")
    for _ in range(2):
        write_profiles(directory, people)
    return directory


def portrait(history: Path, text: str | None = None, **options: Any) -> GroupPortrait:
    expression = compile_expression(text, TAXONOMY) if text else None
    return group_portrait(history, expression, NOW, **options)


def test_everybody_is_portrayed_with_lifts_of_one(history: Path) -> None:
    found = portrait(history)
    assert (found.users, found.everybody) == (4, 4)
    assert [(tag["id"], tag["level"], tag["users"], tag["share"]) for tag in found.tags] == [
        ("books", 1, 2, 0.5), ("shoes", 1, 2, 0.5), ("shoes.sports", 2, 1, 0.25)
    ]  # fmt: skip
    assert {row["lift"] for rows in (found.tags, found.modalities, found.languages) for row in rows} == {1.0}
    assert found.tags[2]["parent"] == "shoes"


def test_a_group_is_set_beside_everybody(history: Path) -> None:
    found = portrait(history, 'interest("books") > 0')
    assert (found.users, found.everybody) == (2, 4)
    books, shoes = found.tags
    assert (books["zh"], books["share"], books["mean_weight"], books["lift"]) == ("books中", 1.0, 0.875, 2.0)
    assert (shoes["share"], shoes["lift"]) == (0.5, 1.0)
    assert [(r["text"], r["image"], r["voice"], r["users"], r["lift"]) for r in found.modalities] == [
        (True, True, False, 1, 2.0), (False, True, False, 1, 2.0)
    ]  # fmt: skip
    assert [(r["id"], r["share"], r["lift"]) for r in found.languages] == [("en", 0.5, 1.0), ("zh", 0.5, 1.0)]
    price = found.aspects[0]
    assert (price["id"], price["zh"], price["sentiment"], price["against_everybody"]) == (
        "price",
        "价格",
        -1,
        -1,
    )


def test_age_activity_and_sentiment_are_of_the_group(history: Path) -> None:
    found = portrait(history, 'interest("books") > 0')
    assert (found.age["seen_1d"], found.age["seen_14d"], found.age["seen_40d"]) == (0.5, 0.5, 1.0)
    assert found.age["median_age_days"] == 15.25
    assert (found.activity["events"], found.activity["reviews"], found.activity["photos"]) == (7, 4, 3)
    assert found.activity["median_events_a_week"] == 2.0  # 6 events in two weeks, 1 in one
    assert (found.sentiment["known"], found.sentiment["mean"], found.sentiment["positive"]) == (0.5, 0.5, 1.0)
    assert found.sentiment["change"] == 0.5


def test_erased_users_are_not_part_of_anybody(history: Path) -> None:
    found = portrait(history, 'interest("books") > 0', counts_from={"ann": 1})
    assert (found.users, found.everybody) == (1, 3)
    assert found.languages == []


@pytest.mark.parametrize("text", [None, 'interest("hotel") > 0'])
def test_nobody_is_a_portrait_without_numbers(tmp_path: Path, history: Path, text: str | None) -> None:
    found = portrait(history if text else tmp_path, text)
    assert found.users == 0
    assert "nan" not in repr(asdict(found)).lower()
    assert found.tags == found.modalities == found.aspects == []

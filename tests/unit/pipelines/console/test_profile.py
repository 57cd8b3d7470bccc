"""What a person sees of profiles."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console, RenderableType

from features.schema import PROFILE_FIELDS
from pipelines.console.profile import profile_page, top_categories, users_table

TAGS = [
    {"id": "fruit", "zh": "水果", "en": "Fruit", "level": 1, "weight": 0.75, "confidence": 0.9,
     "share": {"text": 0.25, "image": 0.75, "voice": 0.0}, "last_seen": "2026-06-30T01:02:03Z",
     "evidence": ["00ff00ff00ff00ff"]},
    {"id": "fruit.apples", "zh": "苹果", "en": "Apples", "level": 2, "weight": 1.0, "confidence": 0.4,
     "share": {"image": 1.0}, "last_seen": "2026-06-29T00:00:00Z", "evidence": []},
    {"id": "books", "zh": "图书", "en": "Books", "level": 1, "weight": 0.25, "confidence": 0.5,
     "share": {"text": 1.0}, "last_seen": "2026-05-01T00:00:00Z", "evidence": []},
]  # fmt: skip
ASPECTS = [{"id": "price", "weight": 0.6, "sentiment": -0.5, "evidence": ["0123456789abcdef"]}]


def row(**changed: Any) -> dict[str, Any]:
    """A profile as Feast serves it, with every field."""
    empty = {
        "vector": [0.0] * 64,
        "float": None,
        "int": 0,
        "string": "",
        "strings": [],
        "time": None,
        "json": "[]",
    }
    made: dict[str, Any] = {field.name: empty[field.type] for field in PROFILE_FIELDS}
    made |= {"user_id": "ann", "revision": 3, "version": 7, "text_count": 4, "image_count": 3}
    made |= {"tags": json.dumps(TAGS), "aspects": json.dumps(ASPECTS), "sentiment": 0.5, "confidence": 0.8}
    made |= {"languages": ["zh", "en"], "last_event": datetime(2026, 6, 30, 23, tzinfo=UTC)}
    return made | changed


def printed(shown: RenderableType) -> str:
    console = Console(width=180, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_the_table_shows_first_level_interests_counts_sentiment_and_age() -> None:
    (line,) = [line for line in printed(users_table([row()])).splitlines() if "ann" in line]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells == ["ann", "水果 fruit 75%, 图书 books 25%", "4", "3", "0", "+0.50", "2026-06-30"]


def test_the_table_compares_with_planted_tastes_when_there_are_any() -> None:
    table = printed(users_table([row(), row(user_id="bob")], {"ann": ["fruit", "hotel"]}))
    ann, bob = (line for line in table.splitlines() if "ann" in line or "bob" in line)
    assert "✓ fruit, ✗ hotel" in ann
    assert "✓" not in bob
    assert "planted" in table
    assert "planted" not in printed(users_table([row()]))


def test_top_categories_are_of_the_first_level_and_at_most_three() -> None:
    many = [{"id": str(i), "level": 1} for i in range(5)]
    assert top_categories(row()) == ["fruit", "books"]
    assert top_categories(row(tags=json.dumps(many))) == ["0", "1", "2"]


def test_a_page_gives_the_evidence_of_every_tag_and_aspect() -> None:
    page = printed(profile_page(row()))
    assert "revision 3, 7 events applied" in page
    assert "languages zh, en; confidence 0.80" in page
    (fruit,) = [line for line in page.splitlines() if "Fruit 水果" in line]
    assert all(
        part in fruit for part in ("75%", "0.90", "text 25%, image 75%", "2026-06-30", "00ff00ff00ff00ff")
    )
    assert "voice" not in fruit
    assert "  Apples 苹果" in page
    (price,) = [line for line in page.splitlines() if "price" in line]
    assert all(part in price for part in ("0.60", "-0.50", "0123456789abcdef"))


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_what_is_not_known_is_a_dash(nothing: float | None) -> None:
    blank = row(
        sentiment=nothing, sentiment_recent=nothing, tags="", aspects="", languages=None, last_event=None
    )
    table, page = printed(users_table([blank])), printed(profile_page(blank))
    assert "nan" not in table + page
    assert "None" not in table + page
    assert table.count("–") == 3
    assert "sentiment –, lately –" in page

"""The taxonomy: what ships, what another file may say, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from features.schema import MAX_TAGS
from features.taxonomy import DEFAULT_PATH, VOICE_WORDS, TaxonomyError, load_taxonomy

# fmt: off
SHARED = [
    "tops", "bottoms", "dresses", "shoes", "bags_accessories", "innerwear",
    "personal_care", "fruit", "dairy", "digital", "books", "hotel",
]
# fmt: on


def _write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def test_the_shipped_taxonomy_has_the_twelve_shared_categories_first_and_fits_a_state() -> None:
    shipped = load_taxonomy()
    assert list(shipped.first_level) == SHARED
    assert [c.id for c in shipped.categories[:12]] == SHARED
    assert len(shipped.categories) <= MAX_TAGS


def test_every_second_level_id_names_its_parent() -> None:
    for category in load_taxonomy().categories[12:]:
        assert category.parent in SHARED
        assert category.id.startswith(f"{category.parent}.")
        assert category.zh
        assert category.en


def test_a_label_stands_for_the_most_specific_category_and_an_unknown_one_for_none() -> None:
    shipped = load_taxonomy()
    phone = shipped.category_of("zh_cat", "手机")
    assert phone is not None
    assert (phone.id, phone.parent) == ("digital.phone", "digital")
    assert shipped.category_of("zh_cat", "热水器") is None
    assert shipped.category_of("zh_cat", "衣服") is None
    assert shipped.category_of("no_such_head", "tops") is None


def test_the_category_head_needs_no_map() -> None:
    books = load_taxonomy().category_of("category", "books")
    assert books is not None
    assert books.zh == "图书"
    assert load_taxonomy().category_of("category", "other") is None


def test_the_word_map_ships_empty() -> None:
    assert dict(load_taxonomy().words) == {}


def test_the_flat_form_keeps_names_and_renames_its_maps(tmp_path: Path) -> None:
    flat = {"taxonomy": [*SHARED, "garden"], "zh": {"手机": "digital"}, "fashion_sub": {"Dress": "dresses"}}
    taxonomy = load_taxonomy(_write(tmp_path / "flat.json", flat))
    phone = taxonomy.category_of("zh_cat", "手机")
    assert phone is not None
    assert (phone.id, phone.zh) == ("digital", "数码")
    assert taxonomy.categories[-1].en == "garden"
    assert taxonomy.category_of("sub", "Dress") is not None
    assert dict(taxonomy.words) == {}


def test_the_flat_forms_voice_word_counts_words_round_the_categories(tmp_path: Path) -> None:
    taxonomy = load_taxonomy(_write(tmp_path / "flat.json", {"taxonomy": SHARED, "voice_word": "prose"}))
    assert len(taxonomy.words) == len(VOICE_WORDS) == 20
    assert taxonomy.words["数字"] == "tops"
    assert taxonomy.words["饭店"] == "hotel"
    assert taxonomy.words["Speech"] == "tops"
    assert taxonomy.words["Project"] == SHARED[19 - 12]


def test_a_word_map_given_by_name_wins_over_prose(tmp_path: Path) -> None:
    flat = {"taxonomy": SHARED, "voice_word": "prose", "words": {"北京": "hotel"}}
    assert dict(load_taxonomy(_write(tmp_path / "flat.json", flat)).words) == {"北京": "hotel"}


def test_an_appended_category_keeps_every_slot_but_makes_another_fingerprint(tmp_path: Path) -> None:
    data = yaml.safe_load(DEFAULT_PATH.read_text(encoding="utf-8"))
    data["categories"][-1]["children"] = [{"id": "hotel.resort", "zh": "度假村", "en": "Resorts"}]
    longer, shipped = load_taxonomy(_write(tmp_path / "t.json", data)), load_taxonomy()
    assert longer.slots | shipped.slots == longer.slots
    assert longer.fingerprint != shipped.fingerprint


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ([1], "expected a mapping, got list"),
        ({}, "categories: expected a list, got NoneType"),
        ({"categories": []}, "expected 1 to 64 over both levels, got 0"),
        ({"categories": [{"id": "a", "zh": "甲"}]}, "expected items with id, zh and en"),
        ({"categories": [{"id": "a", "zh": "甲", "en": "A"}] * 2}, r"expected unique ids, got \['a'\] twice"),
        ({"categories": [{"id": str(i), "zh": "甲", "en": "A"} for i in range(65)]}, "got 65"),
        (
            {"categories": [{"id": "a", "zh": "甲", "en": "A"}], "maps": {"art": {"x": "b"}}},
            r"art: .* got \['b'\]",
        ),
        ({"categories": [{"id": "a", "zh": "甲", "en": "A"}], "maps": [1]}, "maps: expected head"),
        ({"categories": [{"id": "a", "zh": "甲", "en": "A"}], "words": ["x"]}, "words: expected label: id"),
        ({"categories": [{"id": "a", "zh": "甲", "en": "A"}], "words": {"x": "b"}}, "words: expected ids"),
        ({"taxonomy": "tops"}, "taxonomy: expected a list of ids, got str"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_key(tmp_path: Path, data: object, complaint: str) -> None:
    file = _write(tmp_path / "wrong.json", data)
    with pytest.raises(TaxonomyError, match=complaint) as caught:
        load_taxonomy(file)
    assert str(file) in str(caught.value)


def test_a_missing_or_broken_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match=r"absent\.yaml: expected a taxonomy file"):
        load_taxonomy(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", encoding="utf-8")
    with pytest.raises(TaxonomyError, match="got a syntax error"):
        load_taxonomy(broken)

"""Who belongs to an audience, and what is written of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.audience.find import NEVER, Audience, ExportError, find_audience, write_members
from features.audience.language import compile_expression
from features.errors import UsageError
from features.tables.views import SqlError
from features.taxonomy import load_taxonomy
from pipelines.console.user_list import read_user_list
from tests.unit.features.profile_table import NOW, aspects_of, days_ago, tags_of, write_profiles

TAXONOMY = load_taxonomy()
PEOPLE: dict[str, dict[str, Any]] = {
    "ann": tags_of({"digital": 0.6, "digital.phone": 1.0, "books": 0.4})
    | {"sentiment": 0.5, "sentiment_recent": 0.7, "last_event": days_ago(3), "first_event": days_ago(50)}
    | {"text_count": 3, "image_count": 1, "version": 4, "languages": ["zh", "en"], "confidence": 0.8}
    | aspects_of({"price": -0.5, "quality": 1.0}),
    "bob": tags_of({"books": 1.0}) | {"last_event": days_ago(20), "image_count": 2, "version": 2},
    "cid": {
        "sentiment": -0.25,
        "last_event": days_ago(10),
        "text_count": 1,
        "version": 1,
        "languages": ["en"],
    },
}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people; ann had another taste before, and her newest row is there twice."""
    directory = tmp_path_factory.mktemp("history")
    before = tags_of({"shoes": 1.0}) | {"sentiment": -1.0, "last_event": days_ago(60)}
    write_profiles(directory, {"ann": before}, NOW - timedelta(days=5))
    write_profiles(directory, PEOPLE)
    write_profiles(directory, {"ann": PEOPLE["ann"]})
    return directory


def found(history: Path, text: str | None, **options: Any) -> Audience:
    expression = None
    if text is not None:
        expression = compile_expression(text, TAXONOMY, with_similarity="nearest" in options)
    return find_audience(history, expression, NOW, **options)


def members(history: Path, text: str) -> str:
    return " ".join(found(history, text).members["user_id"].to_pylist())


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ('interest("digital") > 0.4 and sentiment > 0 and last_seen < 14d', "ann"),
        ('interest("books") >= 0.4', "ann bob"),
        ('interest("shoes") > 0', ""),
        ('interest("books") > interest("digital")', "bob"),
        ('interest("books") = 0', "cid"),
        ('interest("digital.phone") = 1 or sentiment < 0', "ann cid"),
        ('confidence("digital") = 0.3', "ann"),
        ('share("books", "image") = 0.75', "ann bob"),
        ('last_seen("books") < 11d', "ann bob"),
        ('last_seen("books") < 9d', ""),
        ('top("books")', "bob"),
        ("last_seen < 14d", "ann cid"),
        ("last_seen > 240h and last_seen < 3w", "bob"),
        ("first_seen >= 50d", "ann"),
        ("sentiment > -1", "ann cid"),
        ("not sentiment > 0", "bob cid"),
        ("not known(sentiment)", "bob"),
        ("sentiment_recent > sentiment", "ann"),
        ('aspect("价格") < 0', "ann"),
        ('not aspect("price") < 0', "bob cid"),
        ('mentions("quality") = 0.5', "ann"),
        ('mentions("taste") = 0', "ann bob cid"),
        ('has("image") and not has("text")', "bob"),
        ('language("zh")', "ann"),
        ("events >= 2 and photos != 1 and reviews < 1 and voices = 0", "bob"),
        ("confidence > 0.5", "ann"),
        ("1 < 2", "ann bob cid"),
    ],
)
def test_a_condition_finds_whose_newest_profile_meets_it(history: Path, text: str, who: str) -> None:
    assert members(history, text) == who


def test_rows_users_and_matches_are_counted_and_a_limit_cuts_after_it(history: Path) -> None:
    audience = found(history, "last_seen < 14d", limit=1)
    assert (audience.rows, audience.users, audience.matched) == (5, 3, 2)
    assert audience.members.num_rows == 1


def test_members_come_with_the_figures_asked_about_and_their_top_tags(history: Path) -> None:
    (ann,) = found(history, 'interest("digital") > 0.4 and last_seen < 14d').members.to_pylist()
    assert ann == {
        "user_id": "ann",
        "interest_digital": 0.6,
        "last_seen_days": 3.0,
        "top_tags": ["digital", "digital.phone", "books"],
    }
    assert found(history, None).members.column_names == ["user_id", "top_tags"]


def test_erased_users_are_nowhere_whatever_the_files_hold(history: Path) -> None:
    audience = found(
        history, "last_seen < 14d", counts_from={"ann": NEVER, "nobody": NEVER, "bob": 1, "cid": 0}
    )
    assert (audience.users, audience.matched) == (
        1,
        1,
    )  # of bob, too, there is only what was before his erase
    assert audience.members["user_id"].to_pylist() == ["cid"]


def test_those_near_seeds_come_nearest_first_and_similarity_can_be_asked_for(history: Path) -> None:
    nearest = pa.table({"user_id": ["ann", "bob", "gone"], "similarity": [0.5, 0.9, 1.0]})
    both = found(history, None, nearest=nearest)
    assert both.members.select(["user_id", "similarity"]).to_pylist() == [
        {"user_id": "bob", "similarity": 0.9},
        {"user_id": "ann", "similarity": 0.5},
    ]
    close = found(history, 'similarity > 0.4 and top("digital")', nearest=nearest)
    assert close.members["user_id"].to_pylist() == ["ann"]


def test_no_profiles_are_no_audience(tmp_path: Path) -> None:
    assert found(tmp_path, "sentiment > 0").matched == 0


def test_an_export_holds_the_members_and_replaces_an_older_one(history: Path, tmp_path: Path) -> None:
    audience = found(history, "last_seen < 14d")
    for _ in range(2):
        write_members(audience, tmp_path / "who.parquet")
        write_members(audience, tmp_path / "who.txt")
    assert pq.read_table(tmp_path / "who.parquet").equals(audience.members)
    assert (tmp_path / "who.txt").read_text() == "ann\ncid\n"
    assert read_user_list(tmp_path / "who.parquet") == read_user_list(tmp_path / "who.txt") == ["ann", "cid"]
    assert len(list(tmp_path.iterdir())) == 2


def test_an_export_that_cannot_be_written_is_an_answer_and_leaves_nothing(
    history: Path, tmp_path: Path
) -> None:
    audience = found(history, None)
    with pytest.raises(UsageError, match=r"expected a name that ends in \.parquet or \.txt, got '\.csv'"):
        write_members(audience, tmp_path / "who.csv")
    with pytest.raises(UsageError, match="expected a folder to write into"):
        write_members(audience, tmp_path / "none" / "who.txt")
    (tmp_path / "who.txt").mkdir()
    with pytest.raises(ExportError, match=r"who\.txt: expected to write it, got"):
        write_members(audience, tmp_path / "who.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["who.txt"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"ann\n\x1bb\n", "a.txt:2: expected a user id"),
        ("a.txt", b"\n\r\n", "expected at least one user id, got none"),
        ("a.txt", b"\xff\xfe", "got UnicodeDecodeError"),
        ("a.parquet", b"PAR1 half", "expected user ids"),
    ],
)
def test_a_list_that_is_none_is_refused_by_name(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_user_list(tmp_path / name)


def test_a_list_is_read_without_empty_lines_and_repeats_and_blanks_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffann\r\n\r\n bob \nann".encode())
    assert read_user_list(tmp_path / "a.txt") == ["ann", " bob "]
    with pytest.raises(UsageError, match="No such file"):
        read_user_list(tmp_path / "none.txt")


@pytest.mark.parametrize("kind", ["half written", "foreign", "older"])
def test_files_that_are_no_profiles_are_named(tmp_path: Path, kind: str) -> None:
    good = write_profiles(tmp_path, PEOPLE)
    bad = good.with_name("part-0.parquet")
    table = pq.read_table(good)
    if kind == "half written":
        bad.write_bytes(good.read_bytes()[:-100])
    elif kind == "foreign":
        pq.write_table(pa.table({"user_id": [1], "price": [2.0]}), bad)
    else:
        pq.write_table(table.drop_columns(["languages"]), bad)
    before = bad.read_bytes()
    with pytest.raises(SqlError, match=r"profiles/dt=2026-06-30/part-0\.parquet: expected"):
        found(tmp_path, 'language("zh")')
    assert bad.read_bytes() == before

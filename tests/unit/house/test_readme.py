"""What the readmes tell people to type runs: every query, every condition."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from features.audience.language import compile_expression
from features.audience.vocabulary import EXAMPLES
from features.tables.rows import event_batch
from features.tables.views import query
from features.tables.writer import write_table
from features.taxonomy import load_taxonomy
from tests.unit.features.profile_table import NOW, tags_of, write_profiles
from tests.unit.features.tables.test_rows import simple_event

ROOT = Path(__file__).resolve().parents[3]
TAXONOMY = load_taxonomy()
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
BLOCKS = list(dict.fromkeys(re.findall(r"```sql\n(.+?)```", TEXT, re.S)))
PRINTED = list(
    dict.fromkeys(re.findall(r"^ *(SELECT [^`]+?FROM read_parquet[^`]+?ORDER BY \w+)$", TEXT, re.M))
)
TYPED = list(dict.fromkeys(re.findall(r"portrait sql '([^']+)'", TEXT)))
CONDITIONS = list(dict.fromkeys(re.findall(r"portrait (?:audience|group) '([^']+)'", TEXT)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose ``data`` has both tables."""
    folder = tmp_path_factory.mktemp("shop")
    write_profiles(folder / "data", {"ann": tags_of({"books": 1.0})})
    write_table(folder / "data", "events", [event_batch([simple_event(0)], "ab12", TAXONOMY)], NOW)
    return folder


def test_there_are_queries_to_try() -> None:
    assert len(BLOCKS) >= 1
    assert len(PRINTED) >= 1
    assert len(TYPED) >= 1


@pytest.mark.parametrize("text", [*BLOCKS, *PRINTED])
def test_every_query_over_files_runs_where_the_readme_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(folder)
    with duckdb.connect() as db:
        rows = db.sql(text.replace("var/demo/data", "data")).to_arrow_table()
    assert rows["user_id"].to_pylist() == ["ann"]


@pytest.mark.parametrize("text", TYPED)
def test_every_query_over_views_runs(folder: Path, text: str) -> None:
    assert query(folder / "data", text).num_rows >= 1


def test_every_condition_compiles() -> None:
    for text in (*CONDITIONS, *EXAMPLES):
        assert compile_expression(text, TAXONOMY, with_similarity=True).condition

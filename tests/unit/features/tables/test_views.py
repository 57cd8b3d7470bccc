"""The views say what the fold put in: over tables that hold every row twice."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from features.fold.fold import FoldPolicy, fold
from features.fold.packed_state import Spaces, empty_states
from features.profile.columns import profile_columns
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, EncodedEvent
from features.tables.compact import compact
from features.tables.rows import event_batch, profile_batch
from features.tables.schema import SCHEMAS
from features.tables.views import SqlError, connect, dictionary, examples, query, views_sql
from features.tables.writer import write_table
from features.taxonomy import load_taxonomy
from pipelines.cli.main import cli
from tests.support.history_tables import write_profiles
from tests.unit.features.tables.test_rows import simple_event

TAXONOMY = load_taxonomy()
HEX = "ab" * 32, "cd" * 32
SPACES = Spaces.of(*HEX, TAXONOMY)
USERS = ["ann", "bob", "cid"]
NOW = datetime.now(UTC)
FIRST, SECOND = NOW - timedelta(days=3), NOW - timedelta(hours=1)


def made(user: int, number: int, tag: str, when: datetime) -> EncodedEvent:
    vector = np.eye(EMBEDDING_DIM)[number]
    event = simple_event(
        number,
        event_time_us=int(when.timestamp() * 1e6),
        event_key=number + 1,
        topic_key=1,
        offset=number,
        modality=user % 2,
        tag=[TAXONOMY.slots[tag], 255, 255, 255],
        tag_score=[0.9, 0, 0, 0],
        embedding=vector,
        aspect_mask=1,
        aspect_sentiment=[1] + [0] * 11,
    )
    return event._replace(user_id=USERS[user])


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rounds three days apart, in which ann goes from books to shoes; every file twice."""
    directory = tmp_path_factory.mktemp("history")
    rounds = [
        (FIRST, [made(0, 0, "books", FIRST), made(1, 1, "books", FIRST), made(2, 2, "shoes", FIRST)]),
        (SECOND, [made(0, n, "shoes", SECOND) for n in range(3, 9)]),
    ]
    states = empty_states(len(USERS), SPACES)
    for when, events in rounds:
        users = np.array([USERS.index(e.user_id) for e in events])
        numbers = np.frombuffer(b"".join(e.numbers for e in events), EVENT_DTYPE)
        states = fold(states, users, numbers, FoldPolicy(), int(when.timestamp() * 1e6)).states
        fused = np.eye(EMBEDDING_DIM, dtype=np.float32)[states.head["version"]]
        rows = profile_batch(USERS, profile_columns(states, fused, TAXONOMY, *HEX))
        for _ in range(2):
            write_table(directory, "profiles", [rows], when)
            write_table(directory, "events", [event_batch(events, HEX[0], TAXONOMY)], when)
    return directory


def rows(history: Path, text: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in query(history, text).to_pylist()]


def test_the_latest_profile_of_each_user_comes_once(history: Path) -> None:
    found = rows(history, "SELECT user_id, top_category, version FROM profiles_latest ORDER BY user_id")
    assert found == [("ann", "shoes", 7), ("bob", "books", 1), ("cid", "shoes", 1)]


def test_profiles_as_of_a_time_are_what_was_served_then(history: Path) -> None:
    then = "SELECT user_id, top_category FROM profiles_as_of(now() - INTERVAL 1 DAY) ORDER BY user_id"
    assert rows(history, then) == [("ann", "books"), ("bob", "books"), ("cid", "shoes")]
    assert rows(history, "FROM profiles_as_of(TIMESTAMPTZ '2001-01-01')") == []


def test_changes_name_what_was_gained_and_how_far_the_vector_moved(history: Path) -> None:
    text = "SELECT previous_top_category, top_category, gained, new_events, moved FROM profile_changes "
    assert rows(history, text + "WHERE user_id = 'ann' AND previous_revision IS NOT NULL") == [
        ("books", "shoes", ["shoes"], 6, 1.0)
    ]
    assert rows(history, "SELECT count(*) FROM profile_changes WHERE user_id = 'bob'") == [(1,)]


def test_tags_are_one_row_each_with_both_names(history: Path) -> None:
    found = rows(history, "SELECT tag, en, zh, level, share_text FROM tags_long WHERE user_id = 'cid'")
    category = TAXONOMY.categories[TAXONOMY.slots["shoes"]]
    assert found == [("shoes", category.en, category.zh, 1, 1.0)]


def test_events_come_once_and_evidence_finds_them(history: Path) -> None:
    assert rows(history, "SELECT count(*) FROM events_unique") == [(9,)]
    found = rows(history, "SELECT event_id, score FROM evidence WHERE user_id = 'ann' AND tag = 'shoes'")
    assert sorted(found) == [("event7", np.float32(0.9)), ("event8", np.float32(0.9))]
    assert rows(history, "SELECT count(*) FROM evidence WHERE event_id IS NULL") == [(0,)]


def test_coverage_and_freshness_count_every_user_once(history: Path) -> None:
    coverage = rows(history, "SELECT has_text, has_image, users FROM modality_coverage ORDER BY users")
    assert coverage == [(False, True, 1), (True, False, 2)]
    ages = rows(history, "SELECT user_id, age, lag_s >= 0 FROM freshness ORDER BY user_id")
    assert ages == [("ann", "< 1 d", True), ("bob", "< 7 d", True), ("cid", "< 7 d", True)]


@pytest.mark.parametrize("question", examples())
def test_every_example_runs_and_finds_something(history: Path, question: str) -> None:
    assert query(history, examples()[question]).num_rows > 0


def test_views_stay_the_same_after_a_compaction(history: Path) -> None:
    text = "SELECT user_id, tag, weight FROM tags_long ORDER BY ALL"
    before = rows(history, text)
    assert compact(history, today=True, grace_s=0.0).duplicates == 15
    assert rows(history, text) == before


def test_tables_without_a_file_are_empty_with_the_same_columns(tmp_path: Path, history: Path) -> None:
    for table in SCHEMAS:
        kinds = [
            query(where, f"SELECT column_name, column_type FROM (DESCRIBE {table})").to_pylist()  # noqa: S608
            for where in (tmp_path, history)
        ]
        assert kinds[0] == kinds[1]


def test_a_file_keeps_the_views_for_any_duckdb(history: Path, tmp_path: Path) -> None:
    file = tmp_path / "portrait.duckdb"
    for _ in range(2):  # again over what is there
        with connect(history, file):
            pass
    with duckdb.connect(str(file), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM profiles_latest").fetchall() == [(3,)]


def test_wrong_queries_and_damaged_parquet_are_answers(tmp_path: Path) -> None:
    with pytest.raises(SqlError, match="Table with name nothing does not exist"):
        query(tmp_path, "FROM nothing")
    folder = tmp_path / "events" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(SqlError, match=r"part-0\.parquet"):
        query(tmp_path, "FROM events")


@pytest.mark.parametrize("kind", ["half written", "empty", "foreign", "older", "of damaged rows"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    write_profiles(tmp_path, range(500), datetime(2026, 1, 2, tzinfo=UTC))
    (good,) = tmp_path.glob("profiles/dt=*/*.parquet")
    bad, whole = good.with_name("part-0.parquet"), good.read_bytes()
    if kind == "foreign":
        pq.write_table(pa.table({"user_id": [1], "price": [2.0]}), bad)
    elif kind == "older":
        pq.write_table(pq.ParquetFile(good).read().drop_columns(["languages"]), bad)
    else:
        middle = bytes(len(whole) // 2 - 100)
        ruins = {"half written": whole[:-100], "empty": b""}
        bad.write_bytes(ruins.get(kind, whole[:100] + middle + whole[len(middle) + 100 :]))
    with pytest.raises(SqlError, match=rf"^profiles/{good.parent.name}/part-0\.parquet: expected"):
        query(tmp_path, "SELECT * FROM profiles_latest")


def test_a_folder_that_is_no_day_is_named(tmp_path: Path, history: Path) -> None:
    (good,) = list(history.glob("profiles/dt=*/*.parquet"))[:1]
    folder = tmp_path / "odd" / "profiles" / "dt=yesterday"
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(good.read_bytes())
    with pytest.raises(
        SqlError, match=r"^profiles/dt=yesterday/part-0\.parquet: expected to lie in a folder"
    ):
        query(tmp_path / "odd", "FROM profiles")


def test_the_dictionary_says_what_every_column_means() -> None:
    text = dictionary()
    assert "| None |" not in text
    for name in ("profiles", "events", "tags_long", "evidence", "freshness", "profiles_as_of(t)"):
        assert f"## {name}\n" in text
    for column in (*SCHEMAS["events"].names, *SCHEMAS["profiles"].names):
        assert f"| {column} | " in text


def test_the_command_prints_rows_views_and_json(history: Path) -> None:
    given = ["--set", f"history.dir={history}"]
    text = "SELECT user_id, created FROM profiles_latest ORDER BY user_id LIMIT 1"
    done = CliRunner().invoke(cli, ["sql", text, *given])
    assert done.output.splitlines()[0] == "user_id\tcreated"
    found = json.loads(CliRunner().invoke(cli, ["sql", text, "--json", *given]).output)
    assert (found[0]["user_id"], found[0]["created"][-1]) == ("ann", "Z")
    assert CliRunner().invoke(cli, ["sql", *given]).output.strip() == views_sql(history).strip()
    assert "# Data dictionary" in CliRunner().invoke(cli, ["sql", "--dictionary"]).output


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_query_is_a_usage_error(history: Path, text: str) -> None:
    done = CliRunner().invoke(cli, ["sql", text, "--set", f"history.dir={history}"])
    assert done.exit_code == 2
    assert "QUERY: expected SQL, got an empty text" in done.output

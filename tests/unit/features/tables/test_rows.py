"""The rows of the parquet tables: nothing is lost on the way in, and every reader sees the same."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.schema import (
    ASPECTS,
    EMBEDDING_DIM,
    EVENT_DTYPE,
    LANGUAGES,
    MODALITIES,
    NO_TAG,
    PROFILE_FIELDS,
    TAGS_PER_EVENT,
    EncodedEvent,
    Kind,
)
from features.tables.rows import event_batch, events_from_batch, profile_batch, query_hint
from features.tables.schema import EVENTS_SCHEMA, PROFILES_SCHEMA, HistoryError
from features.taxonomy import load_taxonomy
from tests.support.folders import ROOT

TAXONOMY = load_taxonomy()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
F32 = st.floats(0, 1, width=32)


@st.composite
def encoded_events(draw: st.DrawFn) -> EncodedEvent:
    """Any event in canonical form, with any numbers that its types can hold."""
    numbers = np.zeros((), EVENT_DTYPE)
    for name in ("event_time_us", "record_time_us", "offset"):
        numbers[name] = draw(st.integers(-(2**63), 2**63 - 1))
    for name in ("topic_key", "event_key", "content_key"):
        numbers[name] = draw(st.integers(0, 2**64 - 1))
    numbers["partition"] = draw(st.integers(0, 2**32 - 1))
    for name, known in (("kind", Kind), ("modality", MODALITIES), ("lang", LANGUAGES)):
        numbers[name] = draw(st.integers(0, len(known) - 1))
    slots = draw(st.lists(st.integers(0, len(TAXONOMY.categories) - 1), max_size=TAGS_PER_EVENT))
    numbers["tag"] = slots + [NO_TAG] * (TAGS_PER_EVENT - len(slots))
    for place in range(len(slots)):
        numbers["tag_score"][place] = draw(F32)
    numbers["sentiment"] = draw(st.floats(-1, 1, width=32) | st.just(np.nan))
    for aspect in draw(st.sets(st.integers(0, len(ASPECTS) - 1))):
        numbers["aspect_mask"] |= np.uint16(1 << aspect)
        numbers["aspect_sentiment"][aspect] = draw(st.integers(-1, 1))
    numbers["embedding"] = np.frombuffer(draw(st.binary(min_size=128, max_size=128)), "<f2")
    labels = draw(st.sampled_from(["{}", '{"category": ["tops", 0.9]}']))
    return EncodedEvent(draw(TEXT), draw(TEXT), draw(TEXT), draw(TEXT), labels, numbers.tobytes())


def simple_event(i: int, **numbers: object) -> EncodedEvent:
    row = np.zeros((), EVENT_DTYPE)
    row["tag"] = NO_TAG
    row["lang"] = LANGUAGES.index("none")
    row["sentiment"] = np.nan
    row["event_time_us"] = 1_700_000_000_000_000 + i
    for name, value in numbers.items():
        row[name] = value
    return EncodedEvent(f"user{i}", "shop", f"event{i}", "reviews", "{}", row.tobytes())


def profile_columns(users: int) -> dict[str, object]:
    made: dict[str, object] = {}
    for field in PROFILE_FIELDS:
        made[field.name] = {
            "vector": np.arange(users * EMBEDDING_DIM, dtype=np.float32).reshape(users, EMBEDDING_DIM),
            "float": np.full(users, 0.5, np.float32),
            "int": np.arange(1, users + 1),
            "string": ["tops"] * users,
            "strings": [["tops", "shoes"]] * users,
            "time": np.full(users, 1_700_000_000_000_000),
            "json": ["[]"] * users,
        }[field.type]
    return made | {"event_timestamp": made["last_event"], "created": np.arange(users) + 1_700_000_000_000_001}


@settings(max_examples=150, deadline=None)
@given(st.lists(encoded_events(), max_size=5))
def test_every_bit_of_an_event_comes_back_from_its_row(events: list[EncodedEvent]) -> None:
    assert events_from_batch(event_batch(events, "ab12", TAXONOMY), TAXONOMY) == events


@settings(max_examples=20, deadline=None)
@given(events=st.lists(encoded_events(), min_size=1, max_size=4))
def test_every_bit_survives_the_file_and_a_slice(
    events: list[EncodedEvent], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("events") / "part.parquet"
    pq.write_table(pa.Table.from_batches([event_batch(events, "ab12", TAXONOMY)]), file, compression="zstd")
    (batch,) = pq.read_table(file).to_batches()
    assert events_from_batch(batch, TAXONOMY) == events
    assert events_from_batch(batch.slice(1), TAXONOMY) == events[1:]


def test_an_event_row_reads_in_words() -> None:
    slots = TAXONOMY.slots
    child = next(c for c in TAXONOMY.categories if c.parent == "shoes")
    event = simple_event(
        7,
        tag=[slots["tops"], slots[child.id], NO_TAG, NO_TAG],
        tag_score=[0.25, 0.75, 0, 0],
        sentiment=-0.5,
        aspect_mask=1 << ASPECTS.index("fit"),
        aspect_sentiment=[-1 if a == "fit" else 0 for a in ASPECTS],
    )
    (row,) = event_batch([event], "ab12", TAXONOMY).to_pylist()
    assert (row["kind"], row["modality"], row["lang"]) == ("content", "text", "none")
    assert row["tags"] == [{"id": "tops", "score": 0.25}, {"id": child.id, "score": 0.75}]
    assert row["category"] == "shoes"
    assert row["aspects"] == [{"id": "fit", "sentiment": -1}]
    assert row["sentiment"] == -0.5
    assert row["taxonomy"] == TAXONOMY.fingerprint


def test_what_was_not_judged_is_null() -> None:
    (row,) = event_batch([simple_event(1)], "ab12", TAXONOMY).to_pylist()
    assert (row["sentiment"], row["category"], row["tags"], row["aspects"]) == (None, None, [], [])


@pytest.mark.parametrize(
    ("numbers", "rule"),
    [
        ({"kind": 9}, "kind below"),
        ({"modality": 9}, "modality below"),
        ({"lang": 9}, "lang below"),
        ({"tag": [200, NO_TAG, NO_TAG, NO_TAG]}, "tags below"),
        ({"tag": [NO_TAG, 1, NO_TAG, NO_TAG]}, "unused tag slots last"),
        ({"tag_score": [0.5, 0, 0, 0]}, "score 0 in unused"),
        ({"aspect_mask": 1 << 12}, "aspect_mask below"),
        ({"aspect_sentiment": [1] + [0] * 11}, "aspect_sentiment 0"),
    ],
)
def test_an_event_of_another_form_is_refused(numbers: dict[str, object], rule: str) -> None:
    with pytest.raises(HistoryError, match=f"event 1 .* expected {rule}"):
        event_batch([simple_event(0), simple_event(1, **numbers)], "ab12", TAXONOMY)


def test_rows_of_unknown_tags_and_foreign_rows_are_refused() -> None:
    flat = load_taxonomy(ROOT / "features" / "taxonomy.yaml")
    event = simple_event(0, tag=[len(flat.categories) - 1, NO_TAG, NO_TAG, NO_TAG])
    batch = event_batch([event], "ab12", flat)
    shorter = type(flat)(flat.categories[:2], {}, {})
    with pytest.raises(HistoryError, match=r"events\.tags"):
        events_from_batch(batch, shorter)
    with pytest.raises(HistoryError, match="expected rows of its schema"):
        events_from_batch(pa.RecordBatch.from_pydict({"user_id": ["a"]}), flat)


def test_pandas_polars_and_duckdb_read_the_same_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    events = [
        simple_event(i, embedding=rng.normal(size=EMBEDDING_DIM), event_key=2**64 - 1) for i in range(3)
    ]
    folder = tmp_path / "events" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    file = folder / "part-0.parquet"
    pq.write_table(pa.Table.from_batches([event_batch(events, "ab12", TAXONOMY)]), file)
    wanted = np.stack([np.frombuffer(e.numbers, EVENT_DTYPE)["embedding"][0] for e in events])

    frame = pd.read_parquet(tmp_path / "events")
    polar = pl.read_parquet(tmp_path / "events" / "**" / "*.parquet", hive_partitioning=True)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = "embedding, event_key, event_time, dt, tags, labels"
        rows = connection.execute(f"SELECT {columns} FROM '{tmp_path}/events/**/*.parquet'").fetchall()  # noqa: S608
        table = connection.sql(f"FROM '{file}'").to_arrow_table()

    assert np.array_equal(np.stack(list(frame["embedding"])), wanted)
    assert np.array_equal(polar["embedding"].to_numpy(), wanted)
    assert np.array_equal(np.array([row[0] for row in rows], np.float16), wanted)
    assert set(frame["event_key"]) == set(polar["event_key"]) == {row[1] for row in rows} == {2**64 - 1}
    assert list(frame["event_time"]) == list(polar["event_time"]) == [row[2] for row in rows]
    assert events_from_batch(table.to_batches()[0], TAXONOMY) == events


def test_a_profile_row_has_every_field_and_null_for_none() -> None:
    columns = profile_columns(2)
    columns |= {
        "sentiment": np.array([np.nan, 0.5]),
        "voice_last_event": np.array([0, 1_700_000_000_000_000]),
    }
    batch = profile_batch(["a", "b"], columns)
    assert batch.schema.equals(PROFILES_SCHEMA)
    first, second = batch.to_pylist()
    assert first["sentiment"] is None
    assert first["voice_last_event"] is None
    assert second["sentiment"] == 0.5
    assert second["embedding"] == list(np.arange(64, 128, dtype=np.float32))
    assert second["interests"] == ["tops", "shoes"]
    assert second["created"].tzinfo is not None


def test_a_profile_without_a_column_or_with_a_short_one_is_refused() -> None:
    columns = profile_columns(2)
    with pytest.raises(HistoryError, match=r"profiles\.version: expected 2 values, got 1"):
        profile_batch(["a", "b"], columns | {"version": np.array([1])})
    del columns["aspects"]
    with pytest.raises(HistoryError, match="expected a column aspects"):
        profile_batch(["a", "b"], columns)


def test_an_empty_batch_keeps_its_schema() -> None:
    assert event_batch([], "ab12", TAXONOMY).schema.equals(EVENTS_SCHEMA)
    assert events_from_batch(event_batch([], "ab12", TAXONOMY), TAXONOMY) == []
    assert profile_batch([], profile_columns(0)).num_rows == 0


def test_the_query_hint_gives_the_latest_profile_of_each_user(tmp_path: Path) -> None:
    folder = tmp_path / "it's" / "profiles" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    older = profile_batch(["a", "b"], profile_columns(2) | {"revision": np.array([1, 1])})
    newer = profile_batch(["a"], profile_columns(1) | {"revision": np.array([2]), "version": np.array([9])})
    pq.write_table(pa.Table.from_batches([newer]), folder / "part-0.parquet")
    pq.write_table(pa.Table.from_batches([older]), folder / "part-1.parquet")
    with duckdb.connect() as connection:
        rows = connection.sql(query_hint(tmp_path / "it's")).to_arrow_table().to_pylist()
    assert [(row["user_id"], row["version"]) for row in rows] == [("a", 9), ("b", 2)]

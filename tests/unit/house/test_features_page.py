"""The page of ``features`` says what the code does: its numbers, its columns, its queries, its names."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from features.audience.find import find_audience
from features.audience.language import compile_expression
from features.fold.decayed_sums import decay, grid, unit
from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.outcome import Outcome
from features.fold.packed_state import Spaces, States, empty_states, pack
from features.online import ProfileWrite
from features.online.encode import encode_views
from features.online.open import open_store
from features.profile.columns import profile_columns
from features.profile.tags import TOP, age_factor
from features.repo.apply import apply_repo, write_repo
from features.report.measure import USERS_SAMPLED
from features.schema import (
    ASPECTS,
    DAY_S,
    EVENT_DTYPE,
    HEAD_DTYPE,
    LANGUAGES,
    NO_TAG,
    PREFIX_DTYPE,
    PROFILE_FIELDS,
    SOURCE_DTYPE,
    VIEWS,
    WINDOW_DTYPE,
    EncodedEvent,
    Modality,
)
from features.tables.merge import KEYS
from features.tables.rows import event_batch, profile_batch
from features.tables.schema import EVENTS_SCHEMA, PROFILES_SCHEMA
from features.tables.views import query
from features.tables.writer import write_table
from features.taxonomy import load_taxonomy
from tests.support.folders import ROOT

PAGE = (ROOT / "features" / "README.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())
TAXONOMY = load_taxonomy()
HEX = "ab" * 32, "cd" * 32
SPACES = Spaces.of(*HEX, TAXONOMY)
POLICY = FoldPolicy()
FIRST_ROUND = datetime(2026, 2, 7, tzinfo=UTC)
NOW = datetime(2026, 2, 10, tzinfo=UTC)
TOPICS = ("", "reviews", "images")
"""Index = the topic's key in the example."""

Row = dict[str, str]


def tables() -> dict[tuple[str, ...], list[Row]]:
    """Header → rows of every table of the page, without backticks."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        head, _, *rows = [
            [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
            for line in block.splitlines()
        ]
        assert tuple(head) not in found, head
        found[tuple(head)] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def table(*head: str) -> list[Row]:
    """The rows of the one table whose header begins so."""
    (rows,) = [rows for header, rows in tables().items() if header[: len(head)] == head]
    return rows


def number(value: float) -> str:
    """As the page writes it: at most four digits after the point."""
    return f"{value:.4f}".rstrip("0").rstrip(".")


def scored(cell: str) -> list[tuple[str, float]]:
    """``books 0.8, shoes 1`` → pairs."""
    return [
        (name, float(score)) for name, score in (part.split() for part in cell.split(", ") if part != "–")
    ]


class Step(NamedTuple):
    """What a record of the example made of the user."""

    event: EncodedEvent
    outcome: Outcome
    written: bool
    states: States
    columns: Mapping[str, Any]
    inputs: Any
    when: datetime


def event_of(row: Row) -> EncodedEvent:
    topic, offset = row["record"].split()
    numbers = np.zeros((), EVENT_DTYPE)
    numbers["event_time_us"] = micros(datetime.fromisoformat(row["event time"]).replace(tzinfo=UTC))
    numbers["topic_key"], numbers["offset"] = TOPICS.index(topic), int(offset)
    numbers["event_key"] = numbers["content_key"] = int(row["id"], 16)
    numbers["modality"] = Modality[row["modality"].upper()]
    numbers["lang"] = LANGUAGES.index(row["language"])
    numbers["tag"] = NO_TAG
    for place, (tag, score) in enumerate(scored(row["tags"])):
        numbers["tag"][place], numbers["tag_score"][place] = TAXONOMY.slots[tag], score
    numbers["sentiment"] = np.nan if row["sentiment"] == "–" else float(row["sentiment"])
    for aspect, sign in scored(row["aspects"]):
        numbers["aspect_mask"] |= np.uint16(1 << ASPECTS.index(aspect))
        numbers["aspect_sentiment"][ASPECTS.index(aspect)] = sign
    numbers["embedding"]["xyz".index(row["vector"])] = 1
    return EncodedEvent("ann", "shop", row["id"], topic, "{}", numbers.tobytes())


def micros(when: datetime) -> int:
    return int(when.timestamp() * 1e6)


def numbers_of(events: list[EncodedEvent]) -> Any:
    return np.frombuffer(b"".join(event.numbers for event in events), EVENT_DTYPE)


def profile_of(states: States) -> tuple[Mapping[str, Any], Any]:
    """Columns with the plain sum as the fused vector, and what a fusion reads."""
    inputs, _ = fusion_inputs(states, POLICY)
    return profile_columns(states, unit(inputs.sum(axis=(1, 2))), TAXONOMY, *HEX), inputs


@cache
def steps() -> list[Step]:
    """The records of the page's example, folded one after the other."""
    states, made = empty_states(1, SPACES), []
    for minutes, row in enumerate(table("step", "record"), start=1):
        event, when = event_of(row), FIRST_ROUND + timedelta(minutes=minutes)
        result = fold(states, np.zeros(1, np.int64), numbers_of([event]), POLICY, micros(when))
        states = result.states
        outcome = Outcome(result.outcome[0])
        made.append(Step(event, outcome, not result.unchanged[0], states, *profile_of(states), when))
    return made


def after(step: int) -> Step:
    return steps()[step - 1]


def test_each_record_of_the_example_does_what_the_page_says() -> None:
    for row, step in zip(table("step", "outcome"), steps(), strict=True):
        said = step.columns
        assert row == {
            "step": row["step"],
            "outcome": step.outcome.name,
            "written": "yes" if step.written else "no",
            "revision": str(said["revision"][0]),
            "version": str(said["version"][0]),
            "confidence": number(said["confidence"][0]),
            "top_category": said["top_category"][0],
            "sentiment": number(said["sentiment"][0]),
            "sentiment_recent": number(said["sentiment_recent"][0]),
        }


def test_the_weights_of_the_events_are_those_of_the_fold() -> None:
    newest_us = numbers_of([after(3).event])["event_time_us"]
    index = grid(newest_us, POLICY.half_lives_s)
    age = age_factor(newest_us, np.array([POLICY.half_lives_s]))[0]
    for row, step in zip(table("event", "days before"), steps(), strict=False):
        own_us = numbers_of([step.event])["event_time_us"]
        ten, forty = decay(own_us, index, POLICY.half_lives_s)[0]
        days = int(newest_us[0] - own_us[0]) / 8.64e10
        assert list(row.values()) == [
            step.event.event_id, number(days), number(ten), number(forty), number(forty * age[1])
        ]  # fmt: skip


def test_the_arithmetic_in_the_text_is_that_of_the_fold() -> None:
    text, step = FLAT.replace("−", "-"), after(3)
    weights = [row["40 d, as of the newest event"] for row in table("event", "days before")]
    events = -4 * np.log2(1 - step.columns["confidence"][0])
    assert f"{' + '.join(weights)} = {events:.3f}" in text
    assert f"1 - 2^(-{events:.3f} / 4) = {number(step.columns['confidence'][0])}" in text
    assert f"gives {number(step.columns['sentiment'][0])}." in text
    assert f"/ 1.25 = {number(step.columns['sentiment_recent'][0])}." in text
    late, newest = (numbers_of([after(n).event])["event_time_us"] for n in (6, 3))
    weight = decay(late, grid(newest, POLICY.half_lives_s), POLICY.half_lives_s)[0, 1]
    assert f"2^(-60/40) = {number(weight)}" in text
    for n in (1, 3, 7):
        time_us = numbers_of([after(n).event])["event_time_us"]
        points = grid(time_us, POLICY.half_lives_s)[0] * POLICY.half_lives_s // DAY_S
        for day in (int(time_us[0]) // (DAY_S * 1_000_000), int(points[1])):
            assert f"day {day:,}" in text
    assert f"about {USERS_SAMPLED:,} sampled users" in text
    assert "At most ten tags" in text
    assert TOP == 10


def in_the_record(states: States) -> dict[str, float]:
    head = states.head[0]
    text, image = head["modality"][Modality.TEXT], head["modality"][Modality.IMAGE]
    return {
        "modality.weight, text, 10 d": text["weight"][0],
        "modality.weight, text, 40 d": text["weight"][1],
        "modality.weight, image, 40 d": image["weight"][1],
        "modality.sum, text, 40 d, x": text["sum"][1, 0],
        "modality.sum, text, 40 d, z": text["sum"][1, 2],
        "tag.weight, books, 40 d": head["tag"][TAXONOMY.slots["books"]]["weight"].sum(axis=0)[1],
        "sentiment_weight, 40 d": head["sentiment_weight"][1],
        "sentiment_sum, 40 d": head["sentiment_sum"][1],
    }


def test_the_sums_in_the_record_are_those_of_the_fold() -> None:
    for row in table("in the record"):
        for number_of_step in (3, 6, 7):
            value = in_the_record(after(number_of_step).states)[row["in the record"]]
            assert row[f"after step {number_of_step}"] == number(value), row


def test_the_tags_and_aspects_of_the_example_are_those_of_the_profile() -> None:
    step = after(3)
    head, slots = step.states.head, TAXONOMY.slots
    age = age_factor(head["last_event_us"], head["half_life_s"])[0, 1]
    tags = {tag["id"]: tag for tag in json.loads(step.columns["tags"][0])}
    rows = table("tag", "decayed sum")
    assert [row["tag"] for row in rows] == step.columns["interests"][0]
    for row in rows:
        members = [c.id for c in TAXONOMY.categories if row["tag"] in (c.id, c.parent)]
        total = sum(head[0]["tag"][slots[member]]["weight"][:, 1].sum() * age for member in members)
        tag = tags[row["tag"]]
        assert list(row.values()) == [
            row["tag"], number(total), str(tag["level"]), number(tag["weight"]), number(tag["confidence"])
        ]  # fmt: skip
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.+?)```", PAGE, re.S)]
    assert tags["books"] in blocks
    assert json.loads(step.columns["aspects"][0]) in blocks


def test_the_inputs_of_the_fusion_are_those_of_the_example() -> None:
    parts = {"text": Modality.TEXT, "image": Modality.IMAGE}
    for row in table("modality", "part of the 10-day mean"):
        for place, cell in enumerate(list(row.values())[1:]):
            vector = after(3).inputs[0, parts[row["modality"]], place]
            assert cell == f"({', '.join(number(x) for x in vector[:3])})"
            assert not vector[3:].any()


def test_order_and_batches_change_nothing() -> None:
    events, end = [step.event for step in steps()], after(7).columns
    for order in ([6, 4, 5, 1, 3, 0, 2], [2, 0, 1, 4, 3, 6, 5]):
        for size in (7, 3, 1):
            states = empty_states(1, SPACES)
            for start in range(0, 7, size):
                part = numbers_of([events[i] for i in order[start : start + size]])
                states = fold(states, np.zeros(len(part), np.int64), part, POLICY, 1).states
            columns, _ = profile_of(states)
            for name in ("version", "tags", "aspects", "languages", "first_event", "last_event"):
                assert columns[name] == end[name], name
            for name in ("confidence", "sentiment", "embedding", "text_embedding"):
                np.testing.assert_allclose(columns[name], end[name], atol=1e-6)
            assert size < 7 or columns["revision"] == [1]


def test_the_window_of_the_example_is_that_of_the_fold() -> None:
    states, policy = empty_states(1, SPACES), FoldPolicy(window_offsets=4)
    for row in table("offset", "id"):
        item = numbers_of([steps()[0].event]).copy()
        item["offset"], item["event_key"] = int(row["offset"]), int(row["id"])
        item["content_key"] = 99 if row["content"] == "another" else int(row["id"])
        result = fold(states, np.zeros(1, np.int64), item, policy, 1)
        states = result.states
        entries = ", ".join(map(str, states.window["offset"].tolist()))
        top, floor = states.sources["top"][0], states.sources["floor"][0]
        assert (row["outcome"], row["top"], row["floor"], row["window after it"]) == (
            Outcome(result.outcome[0]).name, str(top), str(floor), entries
        ), row  # fmt: skip


def test_the_outcomes_and_sizes_are_those_of_the_code() -> None:
    assert [row["name"] for row in table("name", "what became of the event")] == [o.name for o in Outcome]
    served = sum(len(value) for view in encode_views(after(3).columns)[0].values() for value in view.values())
    for size in (HEAD_DTYPE, PREFIX_DTYPE, SOURCE_DTYPE, WINDOW_DTYPE, EVENT_DTYPE):
        assert f"{size.itemsize:,} bytes" in FLAT
    assert f"{len(pack(after(3).states)[0]):,} bytes and {served:,} bytes" in FLAT
    assert f"`{POLICY.window_offsets}`" in FLAT
    assert f"`{POLICY.window_entries}`" in FLAT
    reserved = HEAD_DTYPE["reserved"].itemsize, HEAD_DTYPE["modality"].base["reserved"].itemsize
    assert "{} in the head, {} in each modality".format(*reserved) in FLAT


def fields_of(dtype: np.dtype[Any], prefix: str = "") -> list[str]:
    return [f"{prefix}{name}" for name in dtype.names or () if not name.startswith("reserved")]


def test_the_layout_of_the_record_is_that_of_the_schema() -> None:
    expected = []
    for name in fields_of(HEAD_DTYPE):
        inner = HEAD_DTYPE[name].base
        expected += fields_of(inner, f"{name}.") if inner.names else [name]
    expected += fields_of(SOURCE_DTYPE, "source.") + fields_of(WINDOW_DTYPE, "window.")
    listed = [name for row in table("field of the record") for name in row["field of the record"].split(", ")]
    assert listed == expected


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tables as a run writes them, a round a record."""
    directory = tmp_path_factory.mktemp("shop") / "data"
    for step in steps():
        write_table(directory, "profiles", [profile_batch(["ann"], step.columns)], step.when)
        if step.outcome in (Outcome.APPLIED, Outcome.SEEN):
            write_table(directory, "events", [event_batch([step.event], HEX[0], TAXONOMY)], step.when)
    return directory


@pytest.mark.parametrize("name", ["profiles", "events"])
def test_the_columns_of_the_tables_are_those_of_the_schemas(history: Path, name: str) -> None:
    rows = table("column of events") if name == "events" else table("column of profiles")
    listed = [(row[f"column of {name}"], row["type"]) for row in rows]
    described = query(history, f"DESCRIBE {name}").to_pylist()
    assert listed == [(row["column_name"], row["column_type"]) for row in described]
    schema = EVENTS_SCHEMA if name == "events" else PROFILES_SCHEMA
    assert [column for column, _ in listed] == [*schema.names, "dt"]
    if name == "profiles":
        views = {row["column of profiles"]: row["view"] for row in rows if row["view"] in VIEWS}
        assert views == {field.name: field.view for field in PROFILE_FIELDS}
    assert f"`{name}`: {', '.join(f'`{key}`' for key in KEYS[name])}" in FLAT  # type: ignore[index]


QUERIES = re.findall(r"```sql\n(.+?)```\s+```text\n(.+?)```", PAGE, re.S)


@pytest.mark.parametrize(("text", "printed"), QUERIES)
def test_every_query_prints_what_the_page_says(history: Path, text: str, printed: str) -> None:
    rows = query(history, text).to_pylist()
    lines = [["" if value is None else str(value) for value in row.values()] for row in rows]
    assert [line.split() for line in printed.splitlines()] == [[*rows[0]], *lines]


def test_every_query_was_found() -> None:
    assert len(QUERIES) == PAGE.count("```sql") >= 3


CONDITIONS = re.findall(r"portrait (?:audience|group) '([^']+)'", PAGE)


@pytest.mark.parametrize("text", CONDITIONS)
def test_every_condition_compiles_and_finds_the_user_of_the_example(history: Path, text: str) -> None:
    assert find_audience(history, compile_expression(text, TAXONOMY), NOW).matched == 1


def test_there_are_conditions_to_try() -> None:
    assert len(CONDITIONS) >= 3


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose ``feature_repo`` serves the user of the example, over SQLite."""
    folder = tmp_path_factory.mktemp("shop")
    repo = folder / "feature_repo"
    write_repo(repo, history_dir=folder / "data")
    apply_repo(repo)
    step = after(7)
    record, (views,) = pack(step.states)[0], encode_views(step.columns)
    times = step.columns["last_event"][0], step.columns["created"][0]
    store = open_store(repo)
    assert store.compare_and_set([ProfileWrite("ann", 0, 1, record, views, *times)]) == [True]
    store.close()
    return folder


@pytest.mark.parametrize("place", [0, 1])
def test_the_programs_that_read_profiles_run(shop: Path, monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    program, printed = re.findall(r"```python\n(.+?)```\s+```text\n(.+?)```", PAGE, re.S)[place]
    monkeypatch.chdir(shop)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(program, {})  # noqa: S102 - the page's own
    assert {*map(tuple, map(str.split, out.getvalue().splitlines()))} == {
        *map(tuple, map(str.split, printed.splitlines()))
    }


def test_the_server_answers_the_request_of_the_page(shop: Path) -> None:
    from feast import FeatureStore
    from feast.feature_server import get_app
    from starlette.testclient import TestClient

    (body, printed) = re.findall(r"curl .+?-d '(.+?)'\n```\s+```json\n(.+?)```", PAGE, re.S)[0]
    client = TestClient(get_app(FeatureStore(repo_path=str(shop / "feature_repo"))))
    answer = client.post("/get-online-features", json=json.loads(body)).json()
    assert by_feature(answer) == by_feature(json.loads(printed))


def by_feature(answer: Any) -> dict[str, Any]:
    """Feast keeps no order of the features of a view."""
    return dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))


def test_every_path_and_name_is_there() -> None:
    for path in re.findall(r"`((?:features|models|pipelines|tests|infra)/[\w/.]+)`", FLAT):
        assert (ROOT / path).exists(), path
    for dotted in re.findall(r"`(features(?:\.\w+)+)(?:\(\))?`", FLAT):
        assert resolved(dotted), dotted
    for names, path in re.findall(r"((?:`\w+`(?:, | and )?)+) in `([\w/]+\.py)`", FLAT):
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", text), f"{name} in {path}"


def resolved(dotted: str) -> bool:
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            found = getattr(found, name, None)
        return found is not None
    return False


def test_the_page_names_every_file_that_knows_where_parquet_files_are() -> None:
    known = re.compile(r'dt=|"\*\*"|/\*\*/')
    files = {
        str(path.relative_to(ROOT))
        for folder in ("features", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        if known.search(path.read_text(encoding="utf-8"))
    }
    (section,) = re.findall(r"### Another parquet layout\n(.+?)\n### ", PAGE, re.S)
    assert set(re.findall(r"`((?:features|pipelines)/[\w/]+\.py)`", section)) >= files


def test_the_sections_are_in_the_list_at_the_top() -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.M)
    anchors = re.findall(r"\]\(#([\w-]+)\)", PAGE.split("\n## ")[0])
    assert anchors == [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]
    assert all(len(line) <= 110 or line.startswith("|") for line in PAGE.splitlines())
    assert not [a for a, b in pairwise(titles) if a == b]

"""Erase without a broker: what can be done is done, the receipt says what is missing, bad input is named."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from click import Command
from click.testing import CliRunner

from features.errors import UsageError
from features.online import SourcePosition
from features.online.open import open_store
from features.schema import Kind
from features.similar.index import SimilarUsers
from features.tables.schema import PROFILES_SCHEMA
from features.tables.writer import write_table
from pipelines.cli.upkeep import COMMANDS
from pipelines.console.user_list import listed
from pipelines.kafka.client import KafkaUnavailableError
from pipelines.kafka.safe_offsets import POSITIONS
from pipelines.messages.parse import topic_key
from pipelines.operations.erase import Clock, check_ids, erase_users
from pipelines.operations.init import write_project
from pipelines.settings import Settings, load_settings
from pipelines.steps.fold import fold_events
from tests.contract.test_fold_loop import _context, _encoded, _records
from tests.support.user_ids import HOSTILE, NO_IDS
from tests.unit.features.builders import At

DAY = datetime(2026, 1, 2, tzinfo=UTC)
CONTROLS_ID = "controls-id"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project whose broker is away."""
    write_project(tmp_path)
    overrides = ["kafka.bootstrap_servers=['127.0.0.1:1']", "kafka.connect_timeout_s=0.1"]
    return load_settings(tmp_path / "portrait.yaml", overrides, environment={})


def fill(settings: Settings, clock_s: float) -> None:
    """Three users in store, tables and index; then the first is erased in the store alone."""
    store = open_store(settings.feature_repo)
    context = dataclasses.replace(_context(store), clock=lambda: clock_s)
    folded = fold_events(_encoded(_records(users=3, each=2)), context)
    assert folded.events is not None
    write_table(settings.history.dir, "events", [folded.events], DAY)
    write_table(settings.history.dir, "profiles", folded.profiles, DAY)
    SimilarUsers(settings.history.dir).refresh()
    erase = At(0, topic_key(CONTROLS_ID), 0, 5, 77, Kind.ERASE)
    fold_events(_encoded([erase]), context)
    store.close()


def statuses(settings: Settings, now_s: float) -> dict[str, tuple[str, int, int]]:
    receipt = erase_users(settings, None, grace_s=0.0, clock=Clock(lambda: now_s, lambda _: None))
    assert receipt.users == 1
    return {s.store: (s.state, s.users_done, s.removed) for s in receipt.stores}


def test_rows_and_index_entries_go_and_the_letters_wait_for_a_broker(settings: Settings) -> None:
    fill(settings, clock_s=1_800_000_000)
    assert statuses(settings, 1_800_000_700) == {
        "online store": ("done", 1, 0),
        "events parquet": ("done", 1, 2),
        "profiles parquet": ("done", 1, 1),
        "similar users index": ("done", 1, 1),
        "changelog": ("absent", 0, 0),
        "dead letters": ("pending", 0, 0),
    }
    found = statuses(settings, 1_800_000_700)
    assert sum(removed for _, _, removed in found.values()) == 0


def test_tables_wait_until_the_run_has_written_past_the_erase(settings: Settings) -> None:
    fill(settings, clock_s=1_800_000_000)
    assert statuses(settings, 1_800_000_001)["events parquet"] == ("pending", 0, 2)
    store = open_store(settings.feature_repo)
    position = SourcePosition(CONTROLS_ID, "controls", 0)
    store.write_positions(POSITIONS, {position: 5})
    assert statuses(settings, 1_800_000_001)["events parquet"] == ("pending", 0, 0)
    store.write_positions(POSITIONS, {position: 6})
    assert statuses(settings, 1_800_000_001)["events parquet"] == ("done", 1, 0)
    store.close()


def test_rows_that_come_late_are_found_by_the_next_run(settings: Settings) -> None:
    fill(settings, clock_s=1_800_000_000)
    statuses(settings, 1_800_000_700)
    row = {"user_id": "user0", "revision": 1, "embedding": [0.0] * 64, "incarnation": 0}
    write_table(settings.history.dir, "profiles", [pa.RecordBatch.from_pylist([row], PROFILES_SCHEMA)], DAY)
    assert statuses(settings, 1_800_000_700)["profiles parquet"] == ("done", 1, 1)


def test_files_that_cannot_be_looked_into_keep_it_pending_and_are_named(settings: Settings) -> None:
    fill(settings, clock_s=1_800_000_000)
    odd = settings.history.dir / "events" / "dt=2026-01-02" / "mine.parquet"
    odd.write_bytes(b"PAR1")
    receipt = erase_users(settings, None, grace_s=0.0, clock=Clock(lambda: 1_800_000_700, lambda _: None))
    (status,) = (s for s in receipt.stores if s.store == "events parquet")
    assert status.state == "pending"
    assert "mine.parquet: expected a whole parquet file" in status.note
    assert "mine.parquet" in receipt.as_text()
    assert json.loads(receipt.as_json())["done"] is False


def test_an_erase_that_cannot_be_asked_for_says_so(settings: Settings) -> None:
    with pytest.raises(KafkaUnavailableError, match=r"expected a broker at 127\.0\.0\.1:1"):
        erase_users(settings, ["ann"])


@pytest.mark.parametrize("user", NO_IDS)
def test_a_malformed_id_is_named_by_its_place_and_nothing_is_sent(user: str) -> None:
    with pytest.raises(UsageError, match=r"user 2: user id: expected 1 to 256 bytes .* nothing was sent"):
        check_ids(["ann", user])


def test_any_text_may_be_an_id(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("".join(f"{user}\n" for user in HOSTILE), encoding="utf-8-sig")
    assert check_ids(listed([], file)) == check_ids(HOSTILE) == HOSTILE


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_line_of_a_list_is_an_id_as_it_stands(tmp_path: Path, ends: str) -> None:
    file = tmp_path / "users.txt"
    file.write_bytes(ends.join(["# ann", "-x", "", " bob ", "a\u00a0b"]).encode())
    assert listed([], file) == ["# ann", "-x", " bob ", "a\u00a0b"]


@pytest.mark.parametrize("user", ["a\x85b", "a\u2028b", "a\x1cb", "张" * 86])
def test_what_is_no_id_is_named_by_its_line(tmp_path: Path, user: str) -> None:
    file = tmp_path / "users.txt"
    file.write_text(f"ann\n{user}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"users\.txt:2: expected a user id \(1 to 256 bytes"):
        listed([], file)


def test_users_come_from_arguments_and_a_list_each_once(tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_text("bob\n\ncarl\nbob\n", encoding="utf-8")
    assert check_ids(listed(["ann", "bob"], file)) == ["ann", "bob", "carl"]
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(UsageError, match="expected at least one user id"):
        listed([], file)
    with pytest.raises(UsageError, match="expected at least one user"):
        listed([], None)
    with pytest.raises(UsageError, match=r"none\.txt: expected user ids"):
        listed([], tmp_path / "none.txt")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: Command) -> None:
    shown = CliRunner().invoke(command, ["--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.output


def test_a_receipt_names_users_and_nothing_of_them(settings: Settings) -> None:
    fill(settings, clock_s=1_800_000_000)
    receipt = erase_users(settings, None, grace_s=0.0, clock=Clock(lambda: 1_800_000_700, lambda _: None))
    assert set(json.loads(receipt.as_json())) == {
        "done", "users", "requested", "user_ids", "stores", "started", "ended",
    }  # fmt: skip
    assert receipt.ended == "2027-01-15T08:11:40.000Z"

"""The commands on many users: counts first, the erased nowhere, exit codes, JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from features.errors import PortraitError
from features.fold.fold import FoldPolicy, fold
from features.fold.packed_state import Spaces, States, empty_states, pack
from features.online import ProfileStore, ProfileWrite
from features.online.encode import encode_views
from features.online.open import open_store
from features.profile.columns import profile_columns
from features.repo.apply import write_repo
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, NO_TAG, Kind
from features.tables.rows import profile_batch
from features.tables.writer import write_table
from features.taxonomy import load_taxonomy
from pipelines.cli.main import cli
from tests.unit.features.profile_table import NOW

TAXONOMY = load_taxonomy()
HEX = "ab" * 32, "cd" * 32
SPACES = Spaces.of(*HEX, TAXONOMY)
NOW_US = int(NOW.timestamp() * 1e6)
LIKES = {"ann": "books", "bob": "books", "cid": "shoes", "eve": "books"}
USERS = list(LIKES)


def content(user: int, offset: int, kind: Kind = Kind.CONTENT) -> np.ndarray[Any, Any]:
    event = np.zeros(1, EVENT_DTYPE)
    event["event_time_us"], event["offset"], event["event_key"] = NOW_US, offset, offset + 1
    event["topic_key"], event["kind"], event["tag"] = 1 + kind, kind, NO_TAG
    event["tag"][0, 0], event["tag_score"][0, 0] = TAXONOMY.slots[LIKES[USERS[user]]], 0.9
    return event


def stored(store: ProfileStore, states: States) -> dict[str, Any]:
    """Put states into the store, tombstones as such; gives the columns of their profiles."""
    vectors = np.eye(len(states), EMBEDDING_DIM, dtype=np.float32) * 0.6
    vectors[1, :2] = 0.36, 0.48  # bob is nearer to ann than the others are
    vectors[:, 63] = 0.8
    columns = profile_columns(states, vectors, TAXONOMY, *HEX)
    parts = zip(USERS, states.head["revision"].tolist(), pack(states), encode_views(columns), strict=True)
    writes = [
        ProfileWrite(user, revision - 1, revision, record, None if states.erased[i] else views, 1, 1)
        for i, (user, revision, record, views) in enumerate(parts)
    ]
    assert any(store.compare_and_set(writes))
    return columns


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Four users in store and parquet; then eve is erased, of which only the store knows yet."""
    write_repo(tmp_path / "feature_repo", history_dir=tmp_path / "data")
    store = open_store(tmp_path / "feature_repo")
    events = np.concatenate([content(user, user) for user in range(4)])
    states = fold(empty_states(4, SPACES), np.arange(4), events, FoldPolicy(), NOW_US).states
    columns = stored(store, states)
    write_table(tmp_path / "data", "profiles", [profile_batch(USERS, columns)], NOW)
    assert run(tmp_path, "similar", "--refresh").exit_code == 0
    erase = content(3, 9, Kind.ERASE)
    stored(store, fold(states, np.array([3]), erase, FoldPolicy(), NOW_US).states)
    store.close()
    return tmp_path


def run(shop: Path, *arguments: str) -> Result:
    given = ["--set", f"feature_repo={shop / 'feature_repo'}", "--set", f"history.dir={shop / 'data'}"]
    return CliRunner().invoke(cli, [*arguments, *given])


def test_counts_come_first_and_the_erased_are_in_no_answer(shop: Path) -> None:
    done = run(shop, "audience", 'interest("books") > 0.4', "--out", str(shop / "who.parquet"))
    assert done.stderr == "scanned 4 profile rows of 3 users; 2 match\n"
    assert done.stdout == f"wrote 2 users to {shop / 'who.parquet'}\n"
    assert pq.read_table(shop / "who.parquet")["user_id"].to_pylist() == ["ann", "bob"]
    printed = run(shop, "audience", 'interest("books") > 0.4', "--limit", "1").stdout.splitlines()
    assert printed == ["user_id\tinterest_books\ttop_tags", "ann\t1\tbooks"]


def test_counting_alone_writes_nothing(shop: Path) -> None:
    counted = ("audience", 'top("图书")', "--count", "--out", str(shop / "who.txt"))
    assert run(shop, *counted).stdout == "2\n"
    assert json.loads(run(shop, *counted, "--json").stdout) == {"rows": 4, "users": 3, "matched": 2}
    assert not (shop / "who.txt").exists()


def test_users_like_seeds_are_the_nearest_others(shop: Path) -> None:
    (shop / "seeds.txt").write_text("ann\nnobody\n")
    done = run(shop, "audience", "--like", str(shop / "seeds.txt"), "--limit", "5", "--json")
    assert "1 of 2 users of" in done.stderr
    members = json.loads(done.stdout)["members"]
    assert [member["user_id"] for member in members] == ["bob", "cid"]
    assert members[0]["similarity"] == pytest.approx(0.856)
    close = run(shop, "audience", 'similarity > 0.9 or top("shoes")', "--like", str(shop / "seeds.txt"))
    assert [line.split("\t")[0] for line in close.stdout.splitlines()] == ["user_id", "cid"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["audience"], "expected a condition or --like FILE, got neither"),
        (["audience", "--like", "x.txt"], "expected --limit N or a condition on similarity"),
        (["audience", "--like", "x.txt", "--limit", "1"], "x.txt: expected user ids"),
        (["audience", "sentiment > 0", "--out", "who.csv"], "expected a name that ends in .parquet or .txt"),
        (["audience", 'interest("bookz") > 0'], "did you mean 'books'"),
        (["group", "sentiment >"], "audience:1:12: expected"),
        (["similar"], "expected USER, or --refresh"),
        (["similar", "ann", "--rebuild"], "expected USER, or --refresh"),
    ],
)
def test_wrong_usage_is_one_answer_with_exit_code_2(shop: Path, arguments: list[str], says: str) -> None:
    error = run(shop, *arguments).exception
    assert isinstance(error, SystemExit | PortraitError)
    if isinstance(error, PortraitError):
        assert error.exit_code == 2
        assert says in str(error)
    else:
        assert error.code == 2
        assert says in run(shop, *arguments).output


def test_similar_users_come_with_the_tags_that_they_share(shop: Path) -> None:
    done = run(shop, "similar", "ann", "--top", "2")
    assert (done.exit_code, done.output) == (0, "+0.856  bob  books\n+0.640  cid  –\n")
    found = json.loads(run(shop, "similar", "ann", "--json").stdout)
    assert found["similar"][0] == {"user_id": "bob", "similarity": 0.856, "shared_tags": ["books"]}


@pytest.mark.parametrize(("user", "status"), [("nobody", "unknown"), ("eve", "erased")])
def test_a_user_without_a_profile_has_no_neighbours_and_exit_code_1(
    shop: Path, user: str, status: str
) -> None:
    done = run(shop, "similar", user)
    assert (done.exit_code, done.output) == (1, f"{user}: {status}\n")
    assert json.loads(run(shop, "similar", user, "--json").stdout)["status"] == status


def test_a_refresh_drops_who_is_erased_and_says_what_it_did(shop: Path) -> None:
    done = json.loads(run(shop, "similar", "--refresh", "--json").stdout)
    assert (done["users"], done["dropped"], done["space"]) == (3, 1, HEX[1])
    again = run(shop, "similar", "ann", "--refresh", "--top", "1")
    assert again.stdout == "+0.856  bob  books\n"
    assert "0 dropped; 3 users in space cdcdcdcdcdcdcdcd" in again.stderr


def test_a_group_is_a_page_or_json(shop: Path) -> None:
    page = run(shop, "group", 'top("books")').stdout
    assert "2 of 3 users" in page
    assert "Books 图书" in page
    found = json.loads(run(shop, "group", "--json").stdout)
    assert (found["users"], found["everybody"]) == (3, 3)
    assert found["age"]["newest_event"] == "2026-06-30T12:00:00Z"
    assert "0 of 3 users" in run(shop, "group", 'top("hotel")').stdout


def test_the_help_explains_the_language(shop: Path) -> None:
    for command in ("audience", "group"):
        assert "interest(CATEGORY)" in run(shop, command, "--help").output

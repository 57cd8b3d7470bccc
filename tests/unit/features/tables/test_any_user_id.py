"""Any text may be a user id: files, views, erase, audiences and the index keep each apart, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.audience.find import NEVER, find_audience, write_members
from features.online.erased_users import Erased
from features.report.measure import measure_report
from features.report.page import page
from features.schema import EMBEDDING_DIM, visible
from features.similar.index import SimilarUsers
from features.tables.compact import compact
from features.tables.erase import remove_users
from features.tables.events_by_user import distinct_users, events_by_user
from features.tables.rows import event_batch
from features.tables.views import connect, query
from features.tables.writer import write_table
from pipelines.console.user_list import read_user_list
from tests.support.user_ids import HOSTILE
from tests.unit.features.profile_table import NOW, SPACE, tags_of, write_profiles
from tests.unit.features.tables.test_rows import TAXONOMY, simple_event

GONE, STAYING = HOSTILE[::2], HOSTILE[1::2]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A profile and an event of each, in tables that are then sorted."""
    vectors = np.random.default_rng(0).normal(size=(len(HOSTILE), EMBEDDING_DIM)).astype(np.float32)
    profiles = {
        user: tags_of({"books": 1.0}) | {"embedding": vector, "version": place}
        for place, (user, vector) in enumerate(zip(HOSTILE, vectors, strict=True))
    }
    write_profiles(tmp_path, profiles)
    events = [
        simple_event(i, event_key=i + 1, embedding=[0.5] * EMBEDDING_DIM)._replace(user_id=user)
        for i, user in enumerate(HOSTILE)
    ]
    write_table(tmp_path, "events", [event_batch(events, "e1", TAXONOMY)], NOW)
    compact(tmp_path, today=True, grace_s=0.0)
    return tmp_path


def gone(user: str) -> Erased:
    return Erased(user, datetime(2026, 7, 1, tzinfo=UTC), False, 0, {}, None)


def users_of(history: Path, table: str) -> list[str]:
    return sorted(query(history, f"FROM {table}")["user_id"].to_pylist())


def test_views_show_each_once(history: Path) -> None:
    for view in ("profiles_latest", "events_unique", "tags_long"):
        assert users_of(history, view) == sorted(HOSTILE), view
    with connect(history) as db:
        for user in HOSTILE:
            found = db.execute("SELECT version FROM profiles_latest WHERE user_id = ?", [user]).fetchall()
            assert found == [(HOSTILE.index(user),)]


def test_the_events_of_each_are_found_by_its_id(history: Path) -> None:
    assert distinct_users(history, "e1") == sorted(HOSTILE)
    found = [
        (user, key)
        for some in events_by_user(history, "e1", TAXONOMY, STAYING)
        for user, key in zip(some.users, some.numbers["event_key"].tolist(), strict=True)
    ]
    assert sorted(found) == sorted((user, HOSTILE.index(user) + 1) for user in STAYING)


def test_an_erase_takes_each_alone(history: Path) -> None:
    for user in GONE[::5]:
        found = remove_users(history, [gone(user)], grace_s=0.0)
        assert [table.users for table in found.values()] == [{user}, {user}]
    found = remove_users(history, map(gone, GONE), grace_s=0.0)
    assert [table.left_alone for table in found.values()] == [[], []]
    assert users_of(history, "profiles") == users_of(history, "events") == sorted(STAYING)


@pytest.mark.parametrize("suffix", [".txt", ".parquet"])
def test_an_audience_that_is_written_is_read_again_as_the_same_users(history: Path, suffix: str) -> None:
    file = history / f"members{suffix}"
    members = find_audience(history, None, NOW, counts_from=dict.fromkeys(GONE, NEVER))
    write_members(members, file)
    assert read_user_list(file) == members.members["user_id"].to_pylist() == sorted(STAYING)


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    everybody = find_audience(write_some(tmp_path, "\ufeffann"), None, NOW)
    write_members(everybody, tmp_path / "x.txt")
    assert read_user_list(tmp_path / "x.txt") == ["\ufeffann"]
    assert pq.read_table(next(tmp_path.rglob("profiles/**/*.parquet")))["user_id"].to_pylist() == [
        "\ufeffann"
    ]


def write_some(folder: Path, *users: str) -> Path:
    write_profiles(folder, {user: tags_of({"books": 1.0}) for user in users})
    return folder


def test_the_index_of_similar_users_knows_each(history: Path) -> None:
    users = SimilarUsers(history)
    assert users.refresh().users == len(HOSTILE)
    vectors = {
        row["user_id"]: np.asarray(row["embedding"], np.float32)
        for row in query(history, "SELECT user_id, embedding FROM profiles_latest").to_pylist()
    }
    for user, vector in vectors.items():
        assert users.near(vector, SPACE, 1)[0].user_id == user
    assert users.remove(GONE) == len(GONE)
    assert {found.user_id for found in users.near(vectors[GONE[0]], SPACE, 999)} == set(STAYING)


@pytest.mark.parametrize("user", ["<script>alert(1)</script>", "{{7*7}}", "\u202egnp", "&amp;", '"x'])
def test_the_report_shows_an_id_as_text(tmp_path: Path, user: str) -> None:
    html = page(measure_report(write_some(tmp_path, user), now=NOW, examples=True))
    shown = (
        visible(user).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
    )
    assert f"<bdi>{shown}</bdi>" in html
    assert "\u202e" not in html

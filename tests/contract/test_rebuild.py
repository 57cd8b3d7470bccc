"""The store rebuilt from the ``events`` table equals the live one, on every store, whatever was there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.fold.differences import differing
from features.fold.packed_state import unpack
from features.online import ProfileStore
from features.schema import Kind
from features.tables.events_by_user import distinct_users
from features.tables.writer import write_table
from pipelines.operations.check import Checked, _look
from pipelines.operations.import_tombstones import import_marks
from pipelines.operations.rebuild import Rebuilt, fold_table
from pipelines.steps.fold import fold_events
from tests.contract.test_fold_loop import NAMES, SPACES, _context, _encoded, _records, _stored
from tests.support.online_repo import Repo
from tests.unit.features.builders import CONTROLS, At

pytestmark = [pytest.mark.integration, pytest.mark.parametrize("repo", ["sqlite", "redis"], indirect=True)]

USERS, EACH = 5, 8
DAY = datetime(2026, 1, 2, tzinfo=UTC)


def live(store: ProfileStore, directory: Path, records: list[At], step: int = 7) -> None:
    """What a run leaves: the store, and both tables, in files of a few events."""
    context = _context(store)
    for start in range(0, len(records), step):
        folded = fold_events(_encoded(records[start : start + step]), context)
        assert folded.events is not None
        write_table(directory, "events", [folded.events], DAY)
        if folded.profiles:
            write_table(directory, "profiles", folded.profiles, DAY)


def other_project(repo: Repo) -> ProfileStore:
    file = repo.path / "feature_store.yaml"
    file.write_text(file.read_text().replace(repo.project, f"other{repo.project}"))
    return repo.open()


def rebuilt(store: ProfileStore, directory: Path, **more: Any) -> Rebuilt:
    report = Rebuilt()
    fold_table(directory, _context(store), report, **more)
    return report


def mismatches(store: ProfileStore, directory: Path) -> list[str]:
    users = distinct_users(directory, NAMES[0])
    found = _look(users, directory, _context(store), Checked())
    return sorted(f"{mismatch.user_id}: {mismatch.reason}" for mismatch, _ in found)


def test_an_empty_store_becomes_the_live_one(store: ProfileStore, repo: Repo, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    live(store, directory, _records(USERS, EACH))
    fresh = other_project(repo)
    report = rebuilt(fresh, directory)
    assert (report.users, report.rebuilt, report.applied) == (USERS, USERS, USERS * EACH)
    a, b = _stored(store, USERS), _stored(fresh, USERS)
    assert differing(a.head, b.head) == {}
    np.testing.assert_array_equal(a.window, b.window)
    assert mismatches(fresh, directory) == []
    fresh.close()


def test_what_is_rebuilt_is_the_newest_profile_of_the_table(
    store: ProfileStore, repo: Repo, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    live(store, directory, _records(USERS, EACH))
    before = _newest(directory)
    fresh = other_project(repo)
    rebuilt(fresh, directory)
    held = _stored(fresh, USERS).head["revision"].tolist()
    assert held == [before[f"user{u}"] + 1 for u in range(USERS)]
    assert _newest(directory) == {f"user{u}": held[u] for u in range(USERS)}
    newest = max(directory.glob("profiles/dt=*/*.parquet"), key=lambda file: file.stat().st_mtime_ns)
    newest.unlink()  # as if killed after the store was written
    rebuilt(fresh, directory)
    assert _newest(directory) == {f"user{u}": held[u] for u in range(USERS)}
    fresh.close()


def _newest(directory: Path) -> dict[str, int]:
    newest: dict[str, int] = {}
    for file in directory.glob("profiles/dt=*/*.parquet"):
        for row in pq.ParquetFile(file).read(["user_id", "revision"]).to_pylist():
            newest[row["user_id"]] = max(newest.get(row["user_id"], 0), row["revision"])
    return newest


def test_a_rebuild_of_a_whole_store_changes_nothing(store: ProfileStore, tmp_path: Path) -> None:
    live(store, tmp_path / "data", _records(USERS, EACH))
    names = [f"user{u}" for u in range(USERS)]
    before = store.read_states(names)
    files = sorted((tmp_path / "data").rglob("*.parquet"))
    report = rebuilt(store, tmp_path / "data")
    assert (report.rebuilt, report.applied) == (0, 0)
    assert store.read_states(names) == before
    assert sorted((tmp_path / "data").rglob("*.parquet")) == files


def test_users_without_a_state_and_with_a_damaged_one_are_healed(
    store: ProfileStore, repo: Repo, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    live(store, directory, _records(USERS, EACH))
    wanted = _stored(store, USERS)
    store.remove(["user0", "user1"])
    repo.load_views_alone("user0")
    (record,) = store.read_states(["user2"])
    assert record is not None
    _damage(repo, "user2", record)
    found = mismatches(store, directory)
    assert [m.split(":")[0] for m in found] == ["user0", "user1", "user2"]
    assert found[1:] == ["user1: absent", "user2: damaged"]
    report = rebuilt(store, directory)
    assert (report.rebuilt, report.healed, report.left_alone) == (3, 2, [])
    assert differing(_stored(store, USERS).head, wanted.head) == {}
    assert mismatches(store, directory) == []


def _damage(repo: Repo, user: str, record: bytes) -> None:
    import sqlite3
    from contextlib import closing

    from features.online.feast_keys import entity_key
    from features.online.redis_profiles import STATE

    spoilt = record[:-1] + bytes([record[-1] ^ 1])
    if repo.server is None:
        with closing(sqlite3.connect(repo.path / "online.db")) as db, db:
            query = f'UPDATE "{repo.project}_portrait_state" SET record = ? WHERE user_id = ?'  # noqa: S608
            db.execute(query, (spoilt, user))
        return
    with repo.server.client() as client:
        client.hset(entity_key(user) + repo.project.encode(), STATE, spoilt)


ERASE, READMIT = At(0, CONTROLS, 0, 5, 777, Kind.ERASE), At(0, CONTROLS, 0, 6, 778, Kind.READMIT)


def test_erased_users_stay_erased_and_readmitted_ones_keep_their_new_life_alone(
    store: ProfileStore, repo: Repo, tmp_path: Path
) -> None:
    directory = tmp_path / "data"
    records = _records(USERS, EACH)
    back = [r._replace(user=1) for r in (ERASE, READMIT)]
    live(store, directory, [*records, ERASE])
    live(store, directory, [back[0]], step=1)
    live(store, directory, [back[1], At(1, 1, 1, 5_000, 4242)], step=1)
    fresh = other_project(repo)
    assert import_marks(store, fresh, SPACES) == 2
    assert import_marks(store, fresh, SPACES) == 0
    report = rebuilt(fresh, directory)
    assert report.erased == 1  # her rows were not removed from the tables
    states, wanted = _stored(fresh, USERS), _stored(store, USERS)
    assert states.erased.tolist() == [True, False, False, False, False]
    assert states.head["modality"]["count"].sum(axis=1).tolist() == [0, 1, EACH, EACH, EACH]
    assert differing(states.head, wanted.head) == {}
    assert mismatches(fresh, directory) == mismatches(store, directory) == []
    fresh.close()


def test_marks_win_over_a_live_state_that_knows_of_no_erase(
    store: ProfileStore, repo: Repo, tmp_path: Path
) -> None:
    live(store, tmp_path / "data", [*_records(1, EACH), ERASE])
    fresh = other_project(repo)
    fold_events(_encoded(_records(1, EACH)), _context(fresh))
    assert import_marks(store, fresh, SPACES) == 1
    assert unpack(fresh.read_states(["user0"]), SPACES).erased.tolist() == [True]
    fresh.close()


def test_events_from_before_a_known_erase_are_left_out(
    store: ProfileStore, repo: Repo, tmp_path: Path
) -> None:
    live(store, tmp_path / "data", _records(2, EACH))
    fresh = other_project(repo)
    rebuilt(fresh, tmp_path / "data", ended_us={"user0": 1 << 60})
    assert _stored(fresh, 2).head["version"].tolist() == [0, EACH]
    fresh.close()


def test_a_user_of_whom_a_part_is_there_is_completed(store: ProfileStore, repo: Repo, tmp_path: Path) -> None:
    live(store, tmp_path / "data", _records(USERS, EACH))
    fresh = other_project(repo)
    fold_events(_encoded(_records(USERS, EACH)[::3]), _context(fresh))
    rebuilt(fresh, tmp_path / "data")
    assert differing(_stored(fresh, USERS).head, _stored(store, USERS).head) == {}
    fresh.close()

"""The index of similar users follows the table of profiles, and keeps nothing of whoever is gone."""

from __future__ import annotations

import errno
import json
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.audience.find import NEVER
from features.fold.decayed_sums import unit
from features.schema import EMBEDDING_DIM
from features.similar import storage
from features.similar.index import OtherSpaceError, Refreshed, SimilarUsers
from features.similar.storage import SimilarError, exclusive
from features.tables.compact import compact
from tests.unit.features.profile_table import NOW, OTHER_SPACE, SPACE, write_profiles

LATER = NOW + timedelta(hours=1)


def vectors(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return unit(np.random.default_rng(seed).normal(size=(n, EMBEDDING_DIM)))


def rows_of(made: np.ndarray[Any, np.dtype[np.float32]], first: int = 0, **changed: Any) -> dict[str, Any]:
    return {f"user{first + i}": {"embedding": vector} | changed for i, vector in enumerate(made)}


@pytest.fixture
def people(tmp_path: Path) -> SimilarUsers:
    """An index of forty users, and the table behind it."""
    write_profiles(tmp_path, rows_of(vectors(40)))
    users = SimilarUsers(tmp_path)
    users.refresh()
    return users


def names(users: SimilarUsers, vector: Any, top: int = 3, **options: Any) -> list[str]:
    return [found.user_id for found in users.near(vector, SPACE, top, **options)]


def bytes_of(users: SimilarUsers) -> bytes:
    return b"".join(path.read_bytes() for path in users.folder.iterdir())


def test_the_nearest_are_those_of_exact_arithmetic(people: SimilarUsers) -> None:
    made = vectors(40)
    exact = made[7] @ made.T
    order = np.argsort(-exact)
    found = people.near(made[7], SPACE, 5, without=["user7"])
    assert [f.user_id for f in found] == [f"user{i}" for i in order[1:6]]
    np.testing.assert_allclose([f.similarity for f in found], exact[order[1:6]], atol=1e-6)


def test_more_than_there_are_gives_all_and_nobody_twice(people: SimilarUsers) -> None:
    assert sorted(names(people, vectors(1)[0], top=100)) == sorted(f"user{i}" for i in range(40))


def test_the_newest_profile_counts_and_users_without_a_vector_are_left_out(tmp_path: Path) -> None:
    old, new = vectors(2)
    write_profiles(tmp_path, {"ann": {"embedding": old}, "bob": {}})
    write_profiles(tmp_path, {"ann": {"embedding": new, "revision": 2}}, LATER)
    users = SimilarUsers(tmp_path)
    assert users.refresh() == Refreshed(1, 1, 0, 0, 2, True, SPACE)
    assert users.near(new, SPACE, 5)[0].similarity == pytest.approx(1)


def test_a_refresh_reads_new_files_alone_and_replaces_changed_users(
    people: SimilarUsers, tmp_path: Path
) -> None:
    moved = vectors(2, seed=9)
    write_profiles(tmp_path, rows_of(moved, first=39), LATER)
    assert people.refresh() == Refreshed(41, 1, 1, 0, 1, False, SPACE)
    assert names(people, moved[0], 1) == ["user39"]
    assert people.refresh() == Refreshed(41, 0, 0, 0, 0, False, SPACE)


def test_a_row_that_comes_late_changes_nothing(people: SimilarUsers, tmp_path: Path) -> None:
    write_profiles(tmp_path, rows_of(vectors(1, seed=9)), NOW - timedelta(days=1))
    assert people.refresh().replaced == 0
    assert people.near(vectors(40)[0], SPACE, 1)[0].similarity == pytest.approx(1)


def test_a_compaction_changes_nothing(people: SimilarUsers, tmp_path: Path) -> None:
    before = names(people, vectors(1)[0], 40)
    write_profiles(tmp_path, rows_of(vectors(40)))
    compact(tmp_path, today=True, grace_s=0.0)
    assert people.refresh() == Refreshed(40, 0, 0, 0, 1, False, SPACE)
    assert names(people, vectors(1)[0], 40) == before


def test_users_whose_rows_are_gone_or_who_are_erased_are_dropped(
    people: SimilarUsers, tmp_path: Path
) -> None:
    (file,) = (tmp_path / "profiles").glob("dt=*/*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.slice(2), file.with_name("sorted-new.parquet"))
    file.unlink()
    done = people.refresh({"user5": NEVER, "nobody": NEVER, "user6": 0})
    assert (done.users, done.dropped) == (37, 3)
    left = names(people, vectors(1)[0], 40)
    assert not {"user0", "user1", "user5"} & set(left)
    held = bytes_of(people)
    assert not [
        i for i in (0, 1, 5) if vectors(40)[i].tobytes() in held or f"user{i}".encode() + b"u" in held
    ]


def test_an_erased_user_is_never_taken_in(tmp_path: Path) -> None:
    write_profiles(tmp_path, rows_of(vectors(3)))
    users = SimilarUsers(tmp_path)
    assert users.refresh({"user1": NEVER}).users == 2
    assert vectors(3)[1].tobytes() not in bytes_of(users)


def test_only_what_came_after_a_readmission_counts(people: SimilarUsers, tmp_path: Path) -> None:
    assert people.refresh({"user1": 1}).dropped == 1
    write_profiles(tmp_path, rows_of(vectors(1, seed=9), first=1, incarnation=1), LATER)
    assert people.refresh({"user1": 1}).added == 1
    assert people.refresh({"user1": 1}).users == 40
    write_profiles(tmp_path, rows_of(vectors(1, seed=8), first=1, incarnation=2), LATER + timedelta(hours=1))
    assert people.refresh({"user1": 2}) == Refreshed(40, 0, 1, 0, 1, False, SPACE)


def test_a_full_disk_leaves_the_older_index(people: SimilarUsers, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = bytes_of(people)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SimilarError, match="got No space left on device"):
        people.remove(["user1"])
    assert bytes_of(people) == before
    assert len(SimilarUsers(people.folder.parent)) == 40


def test_removing_users_leaves_no_trace_of_them_and_can_be_repeated(people: SimilarUsers) -> None:
    made = vectors(40)
    for gone in (["user3", "nobody"], ["user4", "user5"]):
        people.remove(gone)
    assert (people.remove(["user3"]), len(people)) == (0, 37)
    assert sorted(names(people, made[3], 100)) == sorted(f"user{i}" for i in range(40) if i not in (3, 4, 5))
    held = bytes_of(people)
    assert [made[i].tobytes() in held for i in (2, 3, 4, 5)] == [True, False, False, False]
    assert b"user4" not in held.replace(b"user40", b"")
    assert len(list(people.folder.iterdir())) == 4  # lock, pointer, and one generation


def test_an_index_can_become_empty_and_be_filled_again(people: SimilarUsers, tmp_path: Path) -> None:
    assert people.remove([f"user{i}" for i in range(40)]) == 40
    assert people.near(vectors(1)[0], SPACE, 3) == []
    write_profiles(tmp_path, rows_of(vectors(1, seed=9)), LATER)
    assert people.refresh().users == 1


def test_removing_from_no_index_does_nothing(tmp_path: Path) -> None:
    assert SimilarUsers(tmp_path).remove(["ann"]) == 0


def test_many_changes_build_the_graph_anew(people: SimilarUsers, tmp_path: Path) -> None:
    write_profiles(tmp_path, rows_of(vectors(20, seed=9)), LATER)
    assert people.refresh().rebuilt
    assert names(people, vectors(20, seed=9)[4], 1) == ["user4"]
    write_profiles(tmp_path, rows_of(vectors(1, seed=8)), LATER + timedelta(hours=1))
    assert not people.refresh().rebuilt


def test_another_space_is_refused_by_name_until_it_is_rebuilt(people: SimilarUsers, tmp_path: Path) -> None:
    with pytest.raises(OtherSpaceError, match=f"{SPACE[:16]}, .* got {OTHER_SPACE[:16]}"):
        people.near(vectors(1)[0], OTHER_SPACE, 3)
    write_profiles(tmp_path, rows_of(vectors(2), profile_space=OTHER_SPACE), LATER)
    before = bytes_of(people)
    with pytest.raises(OtherSpaceError, match="--refresh --rebuild"):
        people.refresh()
    assert bytes_of(people) == before
    assert people.refresh(rebuild=True).space == OTHER_SPACE
    assert len(people) == 2
    assert people.space == OTHER_SPACE


def test_older_rows_of_another_space_are_passed_over(people: SimilarUsers, tmp_path: Path) -> None:
    write_profiles(tmp_path, rows_of(vectors(2), profile_space=OTHER_SPACE), NOW - timedelta(days=1))
    assert people.refresh().replaced == 0


def test_those_like_seeds_are_ranked_by_the_mean_of_the_seeds(people: SimilarUsers) -> None:
    made = vectors(40)
    found, known = people.like(["user1", "user2", "nobody"])
    assert (known, found.num_rows) == (2, 38)
    exact = np.delete(made @ unit(made[[1, 2]].mean(axis=0)), [1, 2])
    order = sorted(zip(found["similarity"].to_pylist(), found["user_id"].to_pylist(), strict=True))
    np.testing.assert_allclose([s for s, _ in order], np.sort(exact), atol=1e-6)
    with pytest.raises(SimilarError, match="expected some of the 1 users of the list"):
        people.like(["nobody"])


def test_a_reader_follows_what_another_process_changed(people: SimilarUsers, tmp_path: Path) -> None:
    reader = SimilarUsers(tmp_path)
    assert len(reader) == 40
    people.remove(["user7"])
    assert len(reader) == 39


def test_a_change_waits_for_the_one_before_it(people: SimilarUsers) -> None:
    waiting = threading.Thread(target=people.remove, args=(["user0"],))
    with exclusive(people.folder):
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join()
    assert len(people) == 39


def test_what_a_killed_writer_left_is_passed_over_and_cleaned(people: SimilarUsers) -> None:
    (people.folder / "index-0.usearch").write_bytes(b"half")
    assert len(SimilarUsers(people.folder.parent)) == 40
    people.remove(["user0"])
    assert not (people.folder / "index-0.usearch").exists()


@pytest.mark.parametrize(
    "content", [b"half a", json.dumps({"space": "x"}).encode(), json.dumps([1]).encode(), b"\xff"]
)
def test_a_damaged_pointer_is_an_answer(people: SimilarUsers, content: bytes) -> None:
    (people.folder / "current.json").write_bytes(content)
    with pytest.raises(SimilarError, match=r"expected an index of similar users, got .*--refresh --rebuild"):
        len(SimilarUsers(people.folder.parent))
    assert people.refresh(rebuild=True).users == 40


@pytest.mark.parametrize("kind", ["usearch", "arrow"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_file_is_an_answer(people: SimilarUsers, kind: str, cut: bool) -> None:
    (file,) = people.folder.glob(f"*.{kind}")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] if cut else bytes(len(whole)))
    with pytest.raises(SimilarError, match="expected an index of similar users, got"):
        len(SimilarUsers(people.folder.parent))


def test_no_index_and_no_profiles_are_answers(tmp_path: Path) -> None:
    users = SimilarUsers(tmp_path)
    with pytest.raises(SimilarError, match="got none; make it with `portrait similar --refresh`"):
        len(users)
    with pytest.raises(SimilarError, match="expected profiles, got none"):
        users.refresh()


@pytest.mark.parametrize("kind", ["half written", "foreign", "other vectors"])
def test_files_that_are_no_profiles_are_named_and_the_index_stays(people: SimilarUsers, kind: str) -> None:
    (good,) = (people.folder.parent / "profiles").glob("dt=*/*.parquet")
    bad = good.with_name("part-0.parquet")
    if kind == "half written":
        bad.write_bytes(good.read_bytes()[:-100])
    elif kind == "foreign":
        pq.write_table(pa.table({"user_id": [1], "price": [2.0]}), bad)
    else:
        table = pq.read_table(good)
        short = pa.array([[0.5]] * len(table), pa.list_(pa.float32()))
        pq.write_table(table.set_column(table.schema.get_field_index("embedding"), "embedding", short), bad)
    before = bytes_of(people)
    with pytest.raises(
        SimilarError, match=r"(part-0\.parquet|similar): expected (a whole|the columns|vectors of 64)"
    ):
        people.refresh()
    assert bytes_of(people) == before


def test_two_users_of_one_hash_are_refused_rather_than_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "keys_of", lambda users: np.full(len(users), 5, np.uint64))
    write_profiles(tmp_path, rows_of(vectors(2)))
    with pytest.raises(SimilarError, match="two alike"):
        SimilarUsers(tmp_path).refresh()

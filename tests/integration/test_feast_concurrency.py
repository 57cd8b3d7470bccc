"""Many processes and threads write and read one store through Feast: nothing is lost, nothing goes back."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from features.repo.apply import apply_repo, write_repo
from tests.support.redis_server import redis_server

__all__ = ["redis_server"]

pytestmark = pytest.mark.integration

WRITERS, ROUNDS = 8, 5
SHARED = tuple(f"shared{i}" for i in range(10))


@pytest.fixture(params=["sqlite", "redis"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    server = None if request.param == "sqlite" else request.getfixturevalue("redis_server").connection_string
    project = f"p{uuid4().hex[:8]}"
    write_repo(tmp_path / "repo", history_dir=tmp_path / "data", project=project, redis=server)
    apply_repo(tmp_path / "repo")
    return str(tmp_path / "repo")


def test_eight_processes_and_eight_threads_lose_and_reorder_nothing(repo: str) -> None:
    from tests.support.feast_process import FeatureStore, forkserver, race, read

    both = 2 * WRITERS
    with (
        ProcessPoolExecutor(WRITERS, mp_context=forkserver()) as processes,
        ThreadPoolExecutor(WRITERS) as threads,
    ):
        running = [
            (processes if writer < WRITERS else threads).submit(race, repo, writer, both, ROUNDS, SHARED)
            for writer in range(both)
        ]
        assert [wrong for future in running for wrong in future.result(timeout=120)] == []
    store = FeatureStore(repo_path=repo)
    last = both * ROUNDS
    assert read(store, SHARED) == [(last, last)] * len(SHARED)
    own = [(f"own{r % both}-{r + 1}", r + 1) for r in range(last)]
    assert read(store, [user for user, _ in own]) == [(revision, revision) for _, revision in own]


@pytest.mark.faults
def test_a_killed_writer_leaves_whole_rows_and_all_that_it_acknowledged(repo: str) -> None:
    from tests.support.feast_process import FeatureStore, forkserver, read, write_for_ever

    store = FeatureStore(repo_path=repo)
    acknowledged = 0
    for acknowledgements in (1, 4):
        ours, theirs = forkserver().Pipe(duplex=False)
        arguments = (repo, SHARED, acknowledged + 1000, theirs)
        writer = forkserver().Process(target=write_for_ever, args=arguments)
        writer.start()
        theirs.close()
        for _ in range(acknowledgements):
            acknowledged = ours.recv()
        writer.kill()
        writer.join()
        while ours.poll():
            try:
                acknowledged = ours.recv()
            except EOFError:
                break
        ours.close()
        writer.close()
        for revision, same in read(store, SHARED):
            assert revision == same
            assert revision in (acknowledged, acknowledged + 1)

"""The ``feast`` command over our stores: plan and apply; and what a join may not know yet."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from features.repo.apply import write_repo
from features.tables.rows import profile_batch
from features.tables.writer import write_table
from tests.support.profiles import NOW_US, columns_of
from tests.support.redis_server import redis_server

__all__ = ["redis_server"]

pytestmark = [
    pytest.mark.integration,
    # ibis, through which Feast reads parquet, calls DuckDB by its old names.
    pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning"),
]

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)


def write_history(directory: Path, revision: int, event_s: int, created_s: int) -> None:
    """A row of ann: her newest event and the writing of her profile, in seconds after NOW."""
    times = {"event_timestamp": [NOW_US + event_s * 10**6], "created": [NOW_US + created_s * 10**6]}
    write_table(directory, "profiles", [profile_batch(["ann"], columns_of([revision]) | times)], NOW)


def feast(repo: Path, *arguments: str) -> str:
    """What the command prints, run in a process of its own."""
    from tests.support.feast_process import feast_command, forkserver

    with ProcessPoolExecutor(1, mp_context=forkserver()) as process:
        code, output = process.submit(feast_command, ["--chdir", str(repo), *arguments]).result(timeout=120)
    assert code == 0, output
    return output


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_plan_announces_what_apply_does_and_nothing_afterwards(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    from tests.support.feast_process import FeatureStore

    server = None if kind == "sqlite" else request.getfixturevalue("redis_server").connection_string
    repo = tmp_path / "repo"
    write_repo(repo, history_dir=tmp_path / "data", project=f"p{uuid4().hex[:8]}", redis=server)
    planned = feast(repo, "plan")
    for name in ("user_profile", "user_modalities", "profile_card"):
        assert name in planned
    assert FeatureStore(repo_path=str(repo)).list_feature_views() == []
    assert "user_profile" in feast(repo, "apply")
    again = feast(repo, "plan")
    assert "No changes to registry" in again
    assert "No changes to infrastructure" in again
    names = [view.name for view in FeatureStore(repo_path=str(repo)).list_feature_views()]
    assert sorted(names) == ["user_modalities", "user_profile"]


def test_a_join_may_leave_out_what_was_not_written_by_then(tmp_path: Path) -> None:
    """An event of second 1 that came late, in second 100, is no knowledge of second 50."""
    import pandas as pd

    from features.repo.apply import apply_repo
    from tests.support.feast_process import FeatureStore

    write_repo(tmp_path / "repo", history_dir=tmp_path / "data", project="joined")
    apply_repo(tmp_path / "repo")
    write_history(tmp_path / "data", revision=1, event_s=0, created_s=10)
    write_history(tmp_path / "data", revision=2, event_s=1, created_s=100)
    store = FeatureStore(repo_path=str(tmp_path / "repo"))
    wanted = pd.DataFrame({"user_id": ["ann"], "event_timestamp": [NOW + timedelta(seconds=50)]})
    card = store.get_feature_service("profile_card")
    joined = {
        leak: store.get_historical_features(wanted, card, filter_by_created_timestamp=not leak).to_df()
        for leak in (True, False)
    }
    assert {leak: found["revision"].tolist() for leak, found in joined.items()} == {True: [2], False: [1]}
    assert joined[False]["text_count"].tolist() == [1]
    assert "embedding" not in joined[False]

"""Produce → run → Feast → parquet, over a real Kafka, on real content, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.support.job import Job, control, make_job, real_events
from tests.support.kafka_server import KafkaServer
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.integration, pytest.mark.data, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kafka_server: KafkaServer
) -> Job:
    """A job that ran over the events of 25 real users, with duplicates and bad events among them."""
    redis = None
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        redis = server.connection_string
    job = make_job(tmp_path_factory.mktemp(request.param), kafka_server, redis=redis)
    job.produce(real_events(25))
    job.run("apply")
    job.run("run", "--until-caught-up")
    return job


def test_nothing_is_lost_doubled_or_diverged(finished: Job) -> None:
    found = finished.audit()
    assert found.clean, found.notes[:10]
    assert found.applied >= 450
    assert found.identities == found.applied + found.rejected


def test_bad_events_lie_byte_for_byte_in_the_dead_letter_topics(finished: Job) -> None:
    told = (dict(r.headers)["portrait-error-reason"] for r in finished.dead_letters())
    reasons = sorted((reason or b"").decode() for reason in told)
    expected = ["bad_encoding", "bad_json", "bad_time", "corrupt_media", "corrupt_media", "key_mismatch"]
    assert set(expected) <= set(reasons)
    assert "unsupported_format" in reasons
    assert finished.audit().altered_dead_letters == 0


def test_a_second_run_finds_nothing_to_do(finished: Job) -> None:
    before = finished.positions_committed()
    finished.run("run", "--until-caught-up")
    assert finished.positions_committed() == before
    assert finished.audit().clean


def test_show_serves_the_profile_through_feast(finished: Job) -> None:
    row = json.loads(finished.run("show", "ud00000", "--json").stdout)
    assert row["text_count"] + row["image_count"] + row["voice_count"] == row["version"] > 5
    assert len(row["embedding"]) == 64
    assert abs(sum(x * x for x in row["embedding"]) - 1) < 1e-3
    assert row["interests"]
    assert finished.run("show", "nobody", expect=1).stdout.count("nobody") + 1


def test_the_online_profile_equals_the_newest_row_of_the_parquet_table(finished: Job) -> None:
    row = json.loads(finished.run("show", "ud00003", "--json").stdout)
    files = str(finished.settings.history.dir / "profiles" / "**" / "*.parquet")
    (stored,) = duckdb.execute(
        "SELECT embedding, revision, interests FROM read_parquet(?) WHERE user_id = 'ud00003' "
        "ORDER BY revision DESC LIMIT 1",
        [files],
    ).fetchall()
    assert stored[0] == pytest.approx(row["embedding"])
    assert (stored[1], stored[2]) == (row["revision"], row["interests"])


def test_plan_says_what_would_run(finished: Job) -> None:
    plan = json.loads(finished.run("plan", "--json").stdout)
    assert plan["ok"]
    assert [check["what"] for check in plan["checks"]] == [
        "topics", "letters", "models", "store", "history", "start"
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # of ibis, about DuckDB 2
def test_a_point_in_time_join_reads_the_profiles(finished: Job) -> None:
    import pandas as pd
    from feast import FeatureStore

    from features.online import feast_import  # noqa: F401

    store = FeatureStore(repo_path=str(finished.settings.feature_repo))
    asked = pd.DataFrame(
        {"user_id": ["ud00000", "ud00001"], "event_timestamp": pd.to_datetime(["2027-01-01"] * 2, utc=True)}
    )
    joined = store.get_historical_features(asked, ["user_profile:embedding", "user_profile:version"]).to_df()
    assert (joined["version"] > 0).all()
    assert [len(v) for v in joined["embedding"]] == [64, 64]


def test_an_erased_user_stays_absent_though_every_topic_is_read_again(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    changelog = kafka_server.new_topic()
    job = make_job(tmp_path / "erase", kafka_server, **{"outputs.changelog": changelog})
    job.produce(real_events(3))
    job.run("apply")
    job.run("run", "--until-caught-up")
    assert job.run("show", "ud00001").returncode == 0
    job.produce(control("erase", "ud00001", 1))
    job.run("run", "--until-caught-up")
    job.run("show", "ud00001", expect=1)
    told = job.read([changelog])
    latest = {record.key: record.value for record in sorted(told, key=lambda r: (r.partition, r.offset))}
    assert latest[b"ud00001"] is None
    assert json.loads(latest[b"ud00000"] or b"")["user_id"] == "ud00000"
    job.overrides.append('kafka.group_id="another"')  # no positions of its own: the store's are taken
    job.produce(real_events(3))
    job.run("run", "--until-caught-up")
    job.run("show", "ud00001", expect=1)
    assert job.run("show", "ud00000").returncode == 0
    job.produce(control("readmit", "ud00001", 2))
    job.run("run", "--until-caught-up")
    row: dict[str, Any] = json.loads(job.run("show", "ud00001", "--json").stdout)
    assert (row["incarnation"], row["interests"]) == (1, [])

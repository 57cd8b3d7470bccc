"""An erase on a real Kafka: what goes, what stays, and that nothing brings the user back until she asks."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import PortraitError
from features.online.erased_users import erased_users, tombstones
from features.online.lookup import lookup
from features.repo.apply import apply_repo
from features.tables.erase import rows_left
from features.tables.writer import write_table
from pipelines.demo.events import EVENT_FILE
from pipelines.kafka.producer import Sender
from pipelines.messages.dead_letter import dead_letter
from pipelines.messages.record import Reason, Rejected
from pipelines.operations.backfill import Backfilled, backfill, refuse_unclean, switch
from pipelines.operations.check import check, write_metrics
from pipelines.operations.erase import Clock, erase_users, readmit_users
from pipelines.operations.produce import produce_file
from pipelines.operations.rebuild import rebuild
from pipelines.operations.replay import replay_dead_letters
from pipelines.process import worker
from pipelines.runners.local import LocalRun
from pipelines.settings import Settings, SettingsError, load_settings
from pipelines.settings_edit import set_values
from tests.support.job import Job, make_job
from tests.support.kafka_server import KafkaServer
from tests.support.messages import binary

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

GONE, OTHERS = "shopper-gone", ["shopper-a", "shopper-b"]
TEXTS = ("这本书很好看", "the hotel room was clean and quiet", "水果很新鲜", "phone is slow")


def _events(users: Sequence[str], start: int = 0, text: str | None = None) -> pa.Table:
    """Reviews that are accepted, and for every user one that is rejected."""
    rows = []
    for user in users:
        for i, said in enumerate([*TEXTS, ""]):
            value = json.dumps({"text": text or said}) if said else "{"
            headers = {
                "ce_specversion": "1.0", "ce_id": f"{user}-{start + i}", "ce_source": "test",
                "ce_type": "portrait.review.v1", "ce_time": f"2026-03-0{i + 1}T00:00:00Z", "ce_subject": user,
                "content-type": "application/json",
            }  # fmt: skip
            rows.append(
                {"topic": "reviews", "key": user, "value": value.encode(), "headers": list(headers.items())}
            )
    return pa.Table.from_pylist(rows, EVENT_FILE)


def _send(job: Job, table: pa.Table) -> None:
    file = job.folder / "sent.parquet"
    pq.write_table(table, file)
    produce_file(file, job.settings)


def _run(job: Job) -> None:
    LocalRun(job.settings).run(until_caught_up=True)


def _status(job: Job, user: str) -> str:
    return lookup(worker(job.settings).store, [user])[0].status


def _letters(job: Job) -> Counter[tuple[bytes | None, bytes | None, bytes]]:
    return Counter((r.key, r.value, dict(r.headers)["ce_id"] or b"") for r in job.dead_letters())


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, kafka_server: KafkaServer) -> Job:
    """A job that has run, and then erased one of three users."""
    changelog = kafka_server.new_topic()
    folder = tmp_path_factory.mktemp("erase")
    job = make_job(folder / "job", kafka_server, **{"outputs.changelog": changelog})
    _send(job, _events([GONE, *OTHERS]))
    _run(job)
    assert _status(job, GONE) == "fresh"
    receipt = erase_users(job.settings, [GONE], grace_s=0.0)
    assert (receipt.requested, receipt.done) == (1, False)
    pending = {status.store: status.state for status in receipt.stores}
    assert set(pending.values()) == {"pending", "absent"}
    _run(job)
    return job


def test_it_goes_from_every_store_and_the_receipt_says_so(job: Job) -> None:
    before = _letters(job)
    receipt = erase_users(job.settings, [GONE], grace_s=0.0)
    assert receipt.requested == 0
    assert {s.store: (s.state, s.removed) for s in receipt.stores} == {
        "online store": ("done", 0),
        "events parquet": ("done", 4),
        "profiles parquet": ("done", 1),
        "similar users index": ("absent", 0),
        "changelog": ("done", 0),
        "dead letters": ("done", 1),
    }
    assert receipt.done
    assert _status(job, GONE) == "erased"
    assert tombstones(worker(job.settings).store) == {GONE}
    marks = list(erased_users(worker(job.settings).store))
    assert all(table.rows == 0 for table in rows_left(job.settings.history.dir, marks).values())
    kept = Counter({letter: n for letter, n in before.items() if letter[0] != GONE.encode()})
    assert _letters(job) == kept
    assert kept.total() == len(OTHERS)
    again = erase_users(job.settings, None, grace_s=0.0)
    assert (again.users, again.done, sum(s.removed for s in again.stores)) == (1, True, 0)
    assert GONE not in "".join(json.dumps(dataclasses.asdict(s)) for s in receipt.stores)
    told = [r for r in job.read([job.settings.outputs.changelog or ""]) if r.key == GONE.encode()]
    assert told[-1].value is None


def test_the_user_stays_absent_when_every_source_is_read_again(job: Job) -> None:
    _send(job, _events([GONE, *OTHERS]))  # sent again: other records, the same ids
    _send(job, _events([GONE], start=50))
    assert replay_dead_letters(job.settings).sent.total() == len(OTHERS)
    _run(job)
    assert _status(job, GONE) == "erased"
    assert {key for key, _, _ in _letters(job)} == {user.encode() for user in OTHERS}
    receipt = erase_users(job.settings, [GONE], grace_s=0.0)
    assert {s.store: s.removed for s in receipt.stores if s.removed} == {}
    assert check(job.settings, None).ok


def test_the_user_stays_absent_after_a_rebuild_into_an_empty_store(job: Job) -> None:
    fresh = _fresh_store(job, "rebuilt")
    report = rebuild(fresh)
    assert (report.rebuilt, report.controls_read) == (len(OTHERS), 1)
    statuses = [p.status for p in lookup(worker(fresh).store, [GONE, *OTHERS])]
    assert statuses == ["erased", "fresh", "fresh"]
    live = lookup(worker(job.settings).store, OTHERS)
    for mine, theirs in zip(lookup(worker(fresh).store, OTHERS), live, strict=True):
        assert mine.embedding == pytest.approx(theirs.embedding, abs=1e-5)
        assert (mine.interests, mine.version) == (theirs.interests, theirs.version)
    assert check(fresh, None).ok


def _fresh_store(job: Job, name: str) -> Settings:
    repo = job.folder / name
    repo.mkdir()
    text = (job.settings.feature_repo / "feature_store.yaml").read_text(encoding="utf-8")
    (repo / "feature_store.yaml").write_text(text.replace("project: portrait", f"project: {name}"))
    return dataclasses.replace(job.settings, feature_repo=repo)


def test_the_user_stays_absent_after_a_backfill_that_is_switched_to(job: Job) -> None:
    file = job.folder / "portrait.yaml"
    text = file.read_text(encoding="utf-8")
    values = {key: json.loads(value) for key, _, value in (o.partition("=") for o in job.overrides)}
    file.write_text(set_values(text, values), encoding="utf-8")
    live = load_settings(file)
    done, fresh = backfill(live, None, name="beside")
    assert done.ledger.clean, done.as_text()
    assert (done.tombstones_imported, done.ledger.missing, done.ledger.extra) == (1, 0, 0)
    assert done.ledger.users_fresh == done.ledger.users_live == len(OTHERS)
    statuses = [p.status for p in lookup(worker(fresh).store, [GONE, *OTHERS])]
    assert statuses == ["erased", "fresh", "fresh"]
    refuse_unclean(done, accept_missing=False)
    switch(done, fresh, file, ())
    switched = load_settings(file)
    assert switched.feature_repo.resolve() == fresh.feature_repo.resolve()
    assert switched.history.dir.resolve() == fresh.history.dir.resolve()
    assert LocalRun(switched).run(until_caught_up=True).records == 0
    (file.with_name("portrait.yaml.before-beside")).replace(file)
    assert load_settings(file) == live


def test_the_user_stays_absent_after_a_backfill_from_event_files(job: Job) -> None:
    file = job.folder / "archive.parquet"
    pq.write_table(_events([GONE, OTHERS[0]]), file)
    done, fresh = backfill(job.settings, [file], name="from_files")
    assert (done.records, done.ledger.not_erased, done.ledger.divergence) == (10, 0, 0)
    assert done.ledger.missing > 0
    with pytest.raises(PortraitError, match="expected a clean ledger"):
        refuse_unclean(done, accept_missing=False)
    statuses = [p.status for p in lookup(worker(fresh).store, [GONE, *OTHERS])]
    assert statuses == ["erased", "fresh", "unknown"]
    again, _ = backfill(job.settings, [file], name="from_files")
    assert (again.records, again.tombstones_imported) == (0, 0)


def test_a_switch_that_flags_would_undo_is_refused(job: Job) -> None:
    file = job.folder / "portrait.yaml"
    before = file.read_text(encoding="utf-8")
    fresh = dataclasses.replace(job.settings, feature_repo=job.folder / "x")
    with pytest.raises(SettingsError, match=r"expected kafka\.group_id to come from the settings file"):
        switch(Backfilled("x", ""), fresh, file, ["kafka.group_id=other"])
    assert file.read_text(encoding="utf-8") == before


def test_a_readmission_waits_for_the_erase_and_starts_from_nothing(job: Job) -> None:
    record = binary(value=b"{", key=GONE.encode(), ce_subject=GONE)
    record = record._replace(topic=job.settings.kafka.topics.reviews)
    sender = Sender(job.settings.kafka)  # of her, a letter is left
    sender.send(*dead_letter(Rejected(record, Reason.BAD_JSON, "ParseEvents", "", "expected JSON")))
    sender.close()
    with pytest.raises(PortraitError, match="expected users whose erase is done"):
        readmit_users(job.settings, [GONE])
    receipt = erase_users(job.settings, [GONE], wait_s=60, grace_s=0.0, clock=Clock())
    assert receipt.done, receipt.as_text()
    assert readmit_users(job.settings, [GONE, *OTHERS]) == (1, 2)
    _run(job)
    _send(job, _events([GONE], start=130))
    _run(job)
    (profile,) = lookup(worker(job.settings).store, [GONE])
    assert (profile.status, profile.incarnation, profile.text_count) == ("fresh", 1, 4)
    assert check(job.settings, None).ok
    fresh = _fresh_store(job, "after_readmission")
    rebuild(fresh, tombstones_from=job.settings.feature_repo)
    (again,) = lookup(worker(fresh).store, [GONE])
    assert (again.incarnation, again.text_count, again.interests) == (1, 4, profile.interests)


@pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")  # of ibis, about DuckDB 2
def test_the_user_stays_absent_after_feast_materializes_a_row_that_was_left(job: Job) -> None:
    erase_users(job.settings, [GONE], grace_s=0.0)
    _run(job)
    left = job.settings.history.dir.glob("profiles/dt=*/*.parquet")
    row = next(pq.ParquetFile(file).read().slice(0, 1) for file in left)
    names = pa.array([GONE], pa.string())
    batch = row.set_column(0, "user_id", names).to_batches()[0]
    write_table(job.settings.history.dir, "profiles", [batch], datetime.now(UTC))
    apply_repo(job.settings.feature_repo)
    from feast import FeatureStore

    now = datetime.now(UTC)
    feast = FeatureStore(repo_path=str(job.settings.feature_repo))
    feast.materialize(now - timedelta(days=10_000), now + timedelta(days=1))
    served = feast.get_online_features(["user_profile:interests"], [{"user_id": GONE}]).to_dict()
    assert served["interests"] == [None]
    assert _status(job, GONE) == "erased"
    assert erase_users(job.settings, [GONE], wait_s=60, grace_s=0.0).done


def test_a_check_names_who_differs_and_exports_the_figure(job: Job, tmp_path: Path) -> None:
    files = sorted((job.settings.history.dir / "events").glob("dt=*/*.parquet"))
    rows = pq.ParquetFile(files[0]).read()
    files[0].unlink()
    found = check(job.settings, None, sleep=lambda _: None)
    write_metrics(found, tmp_path / "check.prom", lambda: 1_800_000_000.5)
    write_table(job.settings.history.dir, "events", rows.to_batches(), datetime.now(UTC))
    assert {m.user_id for m in found.mismatches} <= set(rows["user_id"].to_pylist())
    assert "modality" in found.mismatches[0].reason
    figures = (tmp_path / "check.prom").read_text(encoding="utf-8").splitlines()
    assert f"portrait_check_mismatches {len(found.mismatches)}.0" in figures
    assert "portrait_check_timestamp_seconds 1.8000000005e+09" in figures
    assert check(job.settings, 10, seed=1).ok


def test_settings_without_a_broker_still_say_where_an_erase_stands(job: Job, tmp_path: Path) -> None:
    kafka = dataclasses.replace(job.settings.kafka, bootstrap_servers=("127.0.0.1:1",), connect_timeout_s=0.2)
    away = dataclasses.replace(job.settings, kafka=kafka)
    assert erase_users(away, None, grace_s=0.0).users == 1  # re-admitted: known, nothing to remove
    with pytest.raises(PortraitError, match=r"expected a broker at 127\.0\.0\.1:1"):
        erase_users(away, ["someone"], grace_s=0.0)
    with pytest.raises(PortraitError, match=r"expected a broker at 127\.0\.0\.1:1"):
        rebuild(away)

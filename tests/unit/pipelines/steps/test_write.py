"""Where results go: rows to the process's one writer, records to the brokers before a bundle ends."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from features.fold.packed_state import pack
from features.online import ProfileWrite, StoreError
from features.repo.apply import write_repo
from features.schema import EMBEDDING_DIM, Kind
from features.tables.schema import EVENTS_SCHEMA, PROFILES_SCHEMA, HistoryError
from pipelines import metrics
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.process import worker
from pipelines.settings import History, Outputs, Settings, SettingsError
from pipelines.steps import write
from pipelines.steps.write import (
    WriteChangelog,
    WriteEvents,
    WriteProfiles,
    WriteRejected,
    changelog_value,
    history_writer,
    sender,
)
from tests.support.user_ids import HOSTILE
from tests.unit.features.builders import CONTROLS, At, folded, nobody

TIME = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
PROFILE = {
    "user_id": "ann",
    "revision": 7,
    "event_timestamp": TIME,
    "embedding": [0.5, -0.25],
    "tags": '[{"id": "fruit", "zh": "水果"}]',
    "sentiment": None,
}
EVENT = {"user_id": "ann", "event_id": "1", "embedding": np.zeros(EMBEDDING_DIM, np.float16)}
RECORD = Record("images", "id", 3, 9, 1_750_000_000_000, b"ann", b"\xff\xd8 not a photo", (("ce_id", b"1"),))
REJECTED = Rejected(
    RECORD, Reason.CORRUPT_MEDIA, "EncodeImage", "ContentError", "expected a photo, got another"
)


class RecordingSender:
    """Stands in for the brokers: keeps what was sent and whether it was acknowledged; may fail."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.acknowledged = 0
        self.error: Exception | None = None

    def send(self, topic: str, key: bytes | None, value: bytes | None, headers: Sequence[Any]) -> None:
        self.sent.append((topic, key, value, tuple(headers)))

    def flush(self) -> None:
        if self.error:
            raise self.error
        self.acknowledged = len(self.sent)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_repo(tmp_path / "feature_repo", history_dir=tmp_path)
    return Settings(
        history=History(dir=tmp_path),
        outputs=Outputs(changelog="changes"),
        feature_repo=tmp_path / "feature_repo",
    )


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> RecordingSender:
    recording = RecordingSender()
    monkeypatch.setattr(write, "sender", lambda _settings: recording)
    return recording


def run(elements: list[Any], sink: beam.PTransform[Any, Any]) -> None:
    options = PipelineOptions([], direct_running_mode="in_memory", pipeline_type_check=False)
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        pipeline | beam.Create(elements) | sink


def profiles(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), PROFILES_SCHEMA)


def test_rows_wait_in_the_writer_until_the_driver_flushes(settings: Settings, tmp_path: Path) -> None:
    run([profiles(PROFILE)], WriteProfiles(settings))
    run(
        [pa.RecordBatch.from_pylist([EVENT], EVENTS_SCHEMA)],
        WriteEvents(settings),
    )
    assert list(tmp_path.rglob("*.parquet")) == []
    files = history_writer(settings).flush()
    rows = {file.parts[-3]: pq.ParquetFile(file).read().to_pylist() for file in files}
    assert [row["user_id"] for row in rows["profiles"]] == ["ann"]
    assert [row["event_id"] for row in rows["events"]] == ["1"]


def test_a_group_of_rows_becomes_few_whole_files_of_bounded_size(tmp_path: Path) -> None:
    small = Settings(history=History(dir=tmp_path, flush_bytes=10_000))
    packed = [profiles(PROFILE | {"revision": n}).serialize().to_pybytes() for n in range(100)]
    run([(0, packed)], beam.ParDo(write._WriteFilesFn("profiles", small)))
    files = [pq.ParquetFile(file).read() for file in tmp_path.rglob("*.parquet")]
    assert sorted(n for file in files for n in file["revision"].to_pylist()) == list(range(100))
    assert len(files) == 100 / (10_000 // len(packed[0]))
    assert not list(tmp_path.rglob("*.tmp"))


def test_rows_of_another_table_fail_the_bundle(settings: Settings) -> None:
    with pytest.raises(Exception, match="events: expected a batch of its schema") as caught:
        run([profiles(PROFILE)], WriteEvents(settings))
    causes = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert any(isinstance(cause, HistoryError) for cause in causes)


def test_a_process_has_one_writer_and_one_producer_for_its_settings(
    settings: Settings, tmp_path: Path
) -> None:
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301
    assert history_writer(copy) is history_writer(settings)
    assert sender(copy) is sender(settings)
    assert history_writer(Settings(history=History(dir=tmp_path / "other"))) is not history_writer(settings)


def test_sinks_pickle_without_their_clients(settings: Settings, brokers: RecordingSender) -> None:
    history_writer(settings)
    for sink in (WriteProfiles, WriteEvents, WriteRejected, WriteChangelog):
        assert len(pickle.dumps(sink(settings))) < 5_000


def test_a_dead_letter_is_the_record_byte_for_byte_and_counted(
    settings: Settings, brokers: RecordingSender
) -> None:
    counter = metrics.REJECTS.labels(reason=Reason.CORRUPT_MEDIA)
    before = counter._value.get()
    run([REJECTED], WriteRejected(settings))
    ((topic, key, value, headers),) = brokers.sent
    assert (topic, key, value, headers[0]) == ("images.dead", RECORD.key, RECORD.value, ("ce_id", b"1"))
    assert ("portrait-error-reason", b"corrupt_media") in headers
    assert brokers.acknowledged == 1
    assert counter._value.get() == before + 1


def test_the_dead_letter_suffix_is_a_setting(brokers: RecordingSender, settings: Settings) -> None:
    run([REJECTED], WriteRejected(replace(settings, outputs=Outputs(dead_letter_suffix=".bad"))))
    assert brokers.sent[0][0] == "images.bad"


def _erase(settings: Settings, user: str, cut: int | None = None) -> None:
    """Write a tombstone, or so many bytes of one."""
    (record,) = pack(folded(nobody(1), [At(0, CONTROLS, 2, 3, 900, Kind.ERASE)]))
    write = ProfileWrite(user, 0, 1, record[:cut], None, 0, 1)
    assert worker(settings).store.compare_and_set([write]) == [True]


def _rejects(*keys: bytes | None) -> list[Rejected]:
    return [REJECTED._replace(record=RECORD._replace(key=key, offset=n)) for n, key in enumerate(keys)]


def test_a_reject_of_an_erased_user_is_counted_and_kept_nowhere(
    settings: Settings, brokers: RecordingSender
) -> None:
    _erase(settings, "ann")
    rejects, dropped = metrics.REJECTS.labels(reason=Reason.CORRUPT_MEDIA), metrics.REJECTS_OF_ERASED
    before = rejects._value.get(), dropped._value.get()
    run(_rejects(b"ann", b"bob", b"ann"), WriteRejected(settings))
    assert [key for _, key, _, _ in brokers.sent] == [b"bob"]
    assert (rejects._value.get() - before[0], dropped._value.get() - before[1]) == (3, 2)


def test_the_erased_are_known_by_a_subject_too(settings: Settings, brokers: RecordingSender) -> None:
    _erase(settings, "ann")
    record = RECORD._replace(key=b"another", headers=(("ce_subject", b"ann"),))
    run([REJECTED._replace(record=record)], WriteRejected(settings))
    assert brokers.sent == []


@pytest.mark.parametrize("key", [None, b"\xff", b"", b"no\nuser id", b"x" * 500])
def test_a_reject_that_names_no_user_is_kept(
    settings: Settings, brokers: RecordingSender, key: bytes | None
) -> None:
    _erase(settings, "ann")
    run(_rejects(key), WriteRejected(settings))
    assert [sent for _, sent, _, _ in brokers.sent] == [key]


def test_a_reject_of_a_user_whose_state_is_damaged_is_kept(
    settings: Settings, brokers: RecordingSender
) -> None:
    _erase(settings, "ann", cut=-1)
    run([REJECTED], WriteRejected(settings))
    assert len(brokers.sent) == 1


def test_many_rejects_are_all_sent(settings: Settings, brokers: RecordingSender) -> None:
    run(_rejects(*(b"user-%d" % n for n in range(1_100))), WriteRejected(settings))
    assert len({key for _, key, _, _ in brokers.sent}) == brokers.acknowledged == 1_100


def test_a_bundle_of_rejects_fails_while_the_store_cannot_be_asked(
    settings: Settings, brokers: RecordingSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreError("store: expected an answer, got none")

    monkeypatch.setattr(worker(settings).store, "read_views", away)
    with pytest.raises(Exception, match="expected an answer"):
        run([REJECTED], WriteRejected(settings))
    assert brokers.sent == []


def test_a_bundle_whose_records_are_not_acknowledged_fails(
    settings: Settings, brokers: RecordingSender
) -> None:
    brokers.error = ConnectionError("brokers are down")
    with pytest.raises(Exception, match="brokers are down"):
        run([REJECTED], WriteRejected(settings))


def test_a_change_is_the_profile_under_the_users_key(settings: Settings, brokers: RecordingSender) -> None:
    run([profiles(PROFILE, PROFILE | {"user_id": "bob"})], WriteChangelog(settings))
    assert [(topic, key) for topic, key, _, _ in brokers.sent] == [("changes", b"ann"), ("changes", b"bob")]
    assert brokers.sent[0][3] == (("revision", b"7"),)
    assert json.loads(brokers.sent[0][2])["user_id"] == "ann"
    assert brokers.acknowledged == 2


def test_any_user_is_the_key_of_its_change(settings: Settings, brokers: RecordingSender) -> None:
    run([profiles(*(PROFILE | {"user_id": user} for user in HOSTILE)), *HOSTILE], WriteChangelog(settings))
    written = {(key, json.loads(value)["user_id"]) for _, key, value, _ in brokers.sent if value is not None}
    assert written == {(user.encode(), user) for user in HOSTILE}
    assert {key for _, key, value, _ in brokers.sent if value is None} == {user.encode() for user in HOSTILE}


def test_an_erased_user_is_a_null_value(settings: Settings, brokers: RecordingSender) -> None:
    run(["ann"], WriteChangelog(settings))
    assert brokers.sent == [("changes", b"ann", None, ())]
    assert brokers.acknowledged == 1


def test_a_changelog_without_a_topic_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"outputs\.changelog: expected a topic, got none"):
        WriteChangelog(Settings())


def test_a_changelog_value_is_plain_json() -> None:
    (row,) = profiles(PROFILE).to_pylist()
    value = json.loads(changelog_value(row))
    assert set(value) == set(PROFILES_SCHEMA.names)
    assert value["embedding"] == [0.5, -0.25]
    assert value["tags"] == [{"id": "fruit", "zh": "水果"}]
    assert value["event_timestamp"] == "2026-01-02T03:04:05.678901Z"
    assert value["sentiment"] is None

"""Dead letters of one user go from a real Kafka; everybody else's stay, byte for byte."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.producer import Sender
from pipelines.messages.dead_letter import REPLAYED, dead_letter, original
from pipelines.messages.mentioned_users import users_of_letter
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.operations.erase_dead_letters import letters_left, remove_letters
from pipelines.operations.replay import replay_dead_letters
from pipelines.settings import TopicMapping
from tests.support.job import Job, make_job
from tests.support.kafka_server import KafkaServer
from tests.support.messages import RECORD_MS, binary, structured

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def _letter(job: Job, user: str, number: int, partition: int = 0, suffix: str = ".dead") -> None:
    record = binary(value=b"{" + str(number).encode(), key=user.encode(), ce_subject=user, ce_id=str(number))
    record = record._replace(topic=job.settings.kafka.topics.reviews, offset=number)
    message = dead_letter(Rejected(record, Reason.BAD_JSON, "ParseEvents", "", "expected JSON"), suffix)
    sender = Sender(job.settings.kafka)
    sender.send(*message, partition=partition, timestamp_ms=RECORD_MS + number)
    sender.close()


def _letters(job: Job) -> Counter[Record]:
    """All letters, without where they lie."""
    return Counter(r._replace(offset=0) for r in job.dead_letters())


def _without(letters: Counter[Record], user: str) -> Counter[Record]:
    return Counter({r: n for r, n in letters.items() if r.key != user.encode()})


@pytest.fixture
def job(tmp_path: Path, kafka_server: KafkaServer) -> Job:
    """Letters of three users in two partitions; the last of partition 1 is nobody's that goes."""
    job = make_job(tmp_path / "letters", kafka_server)
    # Letters with old times: retention must not take them while the test runs.
    kafka_server.new_topic(4, f"{job.settings.kafka.topics.reviews}.dead", **{"retention.ms": "-1"})
    for number, user in enumerate(["ann", "bob", "ann", "carl"]):
        _letter(job, user, number)
    for number, user in enumerate(["bob", "carl"], 10):
        _letter(job, user, number, partition=1)
    return job


def test_the_letters_of_a_user_go_and_all_others_stay_byte_for_byte(job: Job) -> None:
    before = _letters(job)
    removed = remove_letters(job.settings, ["ann", "unknown"])
    assert (removed.letters, removed.users, removed.copied) == (2, {"ann"}, 1)
    assert _letters(job) == _without(before, "ann")
    assert letters_left(job.settings, ["ann"]).letters == 0
    assert remove_letters(job.settings, ["ann"]).copied == 0


def test_the_letters_of_a_backfill_go_too(job: Job, kafka_server: KafkaServer) -> None:
    suffix = ".dead.backfill_1"
    name = f"{job.settings.kafka.topics.reviews}{suffix}"
    topic = kafka_server.new_topic(1, name, **{"retention.ms": "-1"})
    for number, user in enumerate(["ann", "bob"]):
        _letter(job, user, number, suffix=suffix)
    assert letters_left(job.settings, ["ann"]).letters == 3
    remove_letters(job.settings, ["ann"])
    assert letters_left(job.settings, ["ann"]).letters == 0
    assert [record.key for record in job.read([topic])] == [b"bob"]


def test_others_survive_a_kill_between_copy_and_removal(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _letters(job)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.operations.erase_dead_letters.delete_before", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_letters(job.settings, ["ann"])
    assert before <= _letters(job)
    remove_letters(job.settings, ["ann"])
    left = _letters(job)
    assert set(left) == set(_without(before, "ann"))
    assert left >= _without(before, "ann")


def test_a_letter_that_was_replayed_is_not_replayed_again_after_it_was_moved(job: Job) -> None:
    assert replay_dead_letters(job.settings).sent.total() == 6
    _letter(job, "dora", 20)
    _letter(job, "ann", 21)
    remove_letters(job.settings, ["ann"])
    marked = {r.key: REPLAYED in dict(r.headers) for r in job.dead_letters() if r.partition == 0}
    assert marked == {b"bob": True, b"carl": True, b"dora": False}
    assert replay_dead_letters(job.settings).sent.total() == 1
    assert replay_dead_letters(job.settings).sent.total() == 0
    for record in job.dead_letters():
        assert original(record).headers == record.headers[:7]


def test_brokers_that_do_not_delete_are_named_and_nothing_is_lost(
    job: Job, kafka_server: KafkaServer, tmp_path: Path
) -> None:
    other = make_job(tmp_path / "compacted", kafka_server)
    dead = f"{other.settings.kafka.topics.reviews}.dead"
    kafka_server.new_topic(4, dead, **{"cleanup.policy": "compact"})
    _letter(other, "ann", 1)
    with pytest.raises(KafkaFailureError, match=r"expected the brokers to delete .* cleanup\.policy=delete"):
        remove_letters(other.settings, ["ann"])
    assert len(other.dead_letters()) == 1


def test_a_letter_is_known_by_key_subject_structured_subject_or_mapping(job: Job) -> None:
    def letter(record: Record) -> Record:
        made = dead_letter(Rejected(record, Reason.BAD_FIELD, "", "", ""))
        return record._replace(key=made.key, value=made.value, headers=made.headers)

    mapping = {"shop": TopicMapping("portrait.review.v1", "customer.id", "body")}
    mapped = Record("shop", "", 0, 0, 0, None, json.dumps({"customer": {"id": 7}}).encode(), ())
    assert users_of_letter(letter(binary(key=b"x")), {}) == {"ann", "x"}
    assert users_of_letter(letter(structured(key=None, subject="bob")), {}) == {"bob"}
    assert users_of_letter(letter(mapped), mapping) == {"7"}
    assert users_of_letter(letter(mapped._replace(value=b"{")), mapping) == set()
    assert users_of_letter(mapped._replace(key=b"\xff"), mapping) == set()


def test_a_job_without_dead_letter_topics_has_no_letters(tmp_path: Path, kafka_server: KafkaServer) -> None:
    job = make_job(tmp_path / "none", kafka_server)
    settings = dataclasses.replace(job.settings, kafka=kafka_server.settings())
    assert remove_letters(settings, ["ann"]).letters == 0

"""No record stops a run: rejects that do not fit their topic are spooled, replayed and erased."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer

from pipelines.messages.dead_letter import SPOOLED, TRUNCATED, USERS
from pipelines.operations.erase_dead_letters import remove_letters
from pipelines.operations.plan import letters_plan
from pipelines.operations.replay import replay_dead_letters
from pipelines.process import worker
from pipelines.runners.local import LocalRun
from tests.support.job import Job, make_job
from tests.support.kafka_server import KafkaServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

TEXT = "好"


def send_review(server: KafkaServer, topic: str, user: str, characters: int, number: int) -> bytes:
    """A review of so many characters that travels as a few kB; its value."""
    value = json.dumps({"text": TEXT * characters}, ensure_ascii=False).encode()
    headers = {
        "ce_specversion": "1.0", "ce_id": f"r{number}", "ce_source": "/shop", "ce_type": "portrait.review.v1",
        "ce_time": "2026-06-01T10:00:00Z", "ce_subject": user, "content-type": "application/json",
    }  # fmt: skip
    producer = KafkaProducer(
        bootstrap_servers=list(server.bootstrap_servers), compression_type="gzip", max_request_size=20_000_000
    )
    try:
        sent = [(name, text.encode()) for name, text in headers.items()]
        producer.send(topic, value, user.encode(), headers=sent).get(timeout=30)
    finally:
        producer.close()
    return value


def run(job: Job) -> None:
    LocalRun(job.settings).run(until_caught_up=True)


def spool_files(job: Job) -> list[Path]:
    folder = job.settings.outputs.dead_letter_spool
    assert folder is not None
    return sorted(folder.iterdir()) if folder.exists() else []


def test_a_record_larger_than_the_client_sends_is_spooled_and_its_neighbours_go_through(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    job = make_job(tmp_path / "large", kafka_server)
    reviews = job.settings.kafka.topics.reviews
    send_review(kafka_server, reviews, "ann", 3, 1)
    value = send_review(kafka_server, reviews, "big", 3_200_000, 2)
    send_review(kafka_server, reviews, "bob", 3, 3)
    run(job)
    stored = worker(job.settings).store.read_states(["ann", "bob", "big"])
    assert [record is None for record in stored] == [False, False, True]
    (letter,) = job.dead_letters()
    headers = dict(letter.headers)
    assert (headers["portrait-error-reason"], letter.value) == (b"too_large", b"")
    (file,) = spool_files(job)
    assert file.name == (headers[SPOOLED] or b"").decode()
    assert headers["portrait-error-size"] == str(len(value)).encode()


def test_a_topic_of_kafkas_default_size_stops_nothing_and_replay_sends_the_whole_record(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    job = make_job(tmp_path / "small-topic", kafka_server)
    reviews = job.settings.kafka.topics.reviews
    kafka_server.new_topic(4, f"{reviews}.dead", **{"max.message.bytes": "1048588"})
    assert any("takes letters of 1048588 bytes" in line for line in letters_plan(job.settings))
    narrow = replace(job.settings, kafka=replace(job.settings.kafka, max_record_bytes=1_000_000))
    value = send_review(kafka_server, reviews, "ann", 600_000, 1)
    LocalRun(narrow).run(until_caught_up=True)
    assert len(spool_files(job)) == 1
    assert replay_dead_letters(job.settings).sent == {"too_large": 1}
    first, again = job.read([reviews])
    assert (again.key, again.value, again.headers) == (first.key, value, first.headers)


def test_without_a_folder_the_letter_is_cut_and_replay_passes_it_by(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    job = make_job(tmp_path / "cut", kafka_server, **{"outputs.dead_letter_spool": None})
    send_review(kafka_server, job.settings.kafka.topics.reviews, "ann", 3_200_000, 1)
    run(job)
    (letter,) = job.dead_letters()
    headers = dict(letter.headers)
    assert (headers[TRUNCATED], json.loads(headers[USERS] or b"")) == (b"1", ["ann"])
    assert len(letter.value or b"") == 1_000
    replayed = replay_dead_letters(job.settings)
    assert (replayed.sent.total(), replayed.skipped) == (0, 1)


def test_an_erased_users_spooled_letter_goes_with_its_file(tmp_path: Path, kafka_server: KafkaServer) -> None:
    job = make_job(tmp_path / "erased", kafka_server)
    reviews = job.settings.kafka.topics.reviews
    for number, user in enumerate(("ann", "bob")):
        send_review(kafka_server, reviews, user, 3_200_000, number)
    run(job)
    assert len(spool_files(job)) == 2
    assert remove_letters(job.settings, ["ann"]).letters == 1
    (file,) = spool_files(job)
    (letter,) = job.dead_letters()
    assert (letter.key, dict(letter.headers)[SPOOLED]) == (b"bob", file.name.encode())

"""Reading and writing over a real Kafka: order, caps, transactions, gaps, restarts, logins."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition

from models.encoder import TextContent
from pipelines.events import Event, ParseRules, parse
from pipelines.kafka import (
    KafkaFailureError,
    KafkaUnavailableError,
    OffsetGapError,
    RoundReader,
    Sender,
    dead_letter,
    original,
    start_positions,
    topics_info,
)
from pipelines.records import Reason, Record, Rejected
from pipelines.settings import Kafka, Security, Settings, Topics
from tests.kafka_server import SASL_PASSWORD, SASL_USER, KafkaServer

pytestmark = pytest.mark.integration

LIMIT_S = 60.0


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def reading(
    kafka: Kafka,
    *topics: str,
    worker_of: tuple[int, int] = (0, 1),
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[RoundReader]:
    """A reader at the start positions of its settings."""
    reader = RoundReader(kafka, topics, worker_of, clock)
    try:
        reader.seek(start_positions(kafka, reader, reader.committed(), {}))
        yield reader
    finally:
        reader.close()


def read_until(reader: RoundReader, done: Callable[[list[Record]], bool]) -> list[Record]:
    """Poll until ``done``, bounded; the records in the order given."""
    records: list[Record] = []
    deadline_s = time.monotonic() + LIMIT_S
    while not done(records):
        if time.monotonic() > deadline_s:
            pytest.fail(f"{len(records)} records in {LIMIT_S:g} s, and not done")
        records += reader.poll(1_000, 1 << 20, 100)
    return records


def read_all(reader: RoundReader) -> list[Record]:
    """Everything that the topics hold now."""
    ends = reader.end_offsets()
    return read_until(reader, lambda _: reader.reached(ends))


def send(kafka: Kafka, topic: str, values: list[bytes], partition: int | None = None) -> None:
    sender = Sender(kafka)
    for i, value in enumerate(values):
        sender.send(topic, f"user{i % 7}".encode(), value, partition=partition)
    sender.close()


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [str(i).encode() for i in range(start, start + count)]


def values(records: list[Record]) -> list[int]:
    return [int(r.value or b"-1") for r in records]


def test_every_record_is_read_once_within_both_caps(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic()
    send(kafka, topic, [f"{i:>100}".encode() for i in range(5_000)])
    with reading(kafka, topic) as reader:
        ends = reader.end_offsets()
        rounds = []
        while not reader.reached(ends):
            rounds.append(reader.poll(700, 50_000, 100))
        records = [record for each in rounds for record in each]

        assert sorted(values(records)) == list(range(5_000))
        assert max(map(len, rounds)) <= 700
        assert max(sum(len(r.key or b"") + len(r.value or b"") for r in each) for each in rounds) <= 50_000
        assert reader.positions() == ends
        assert sum(reader.lag().values()) == 0
    for own in by_partition(records).values():
        assert [r.offset for r in own] == list(range(len(own)))


def by_partition(records: list[Record]) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record)
    return found


def test_a_record_larger_than_the_byte_cap_comes_alone(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    send(kafka, topic, [b"1", b"x" * 3_000_000, b"2"])
    with reading(kafka, topic) as reader:
        rounds = [reader.poll(10, 1_000, 10_000) for _ in range(3)]
    assert [[len(r.value or b"") for r in each] for each in rounds] == [[1], [3_000_000], [1]]


def test_workers_share_the_partitions_and_leave_none(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(5)
    send(kafka, topic, numbered(200))
    read = []
    for worker in range(2):
        with reading(kafka, topic, worker_of=(worker, 2)) as reader:
            records = read_all(reader)
            assert {r.partition % 2 for r in records} == {worker}
            read += values(records)
    assert sorted(read) == list(range(200))


def test_what_was_committed_is_where_the_next_run_begins(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(start="committed"), kafka_server.new_topic(2)
    send(kafka, topic, numbered(100))
    with reading(kafka_server.settings(group_id=kafka.group_id), topic) as reader:
        read_all(reader)
        reader.commit(reader.positions())
        assert reader.committed() == reader.positions()
    send(kafka, topic, numbered(10, start=100))
    with reading(kafka, topic) as reader:
        assert sorted(values(read_all(reader))) == list(range(100, 110))


def test_a_failed_round_is_read_again_after_seeking_back(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(2)
    send(kafka, topic, numbered(300))
    with reading(kafka, topic) as reader:
        before = reader.positions()
        first = read_until(reader, lambda records: len(records) >= 150)
        reader.seek(before)
        again = read_all(reader)
    assert sorted(values(again)) == list(range(300))
    assert {(r.partition, r.offset) for r in first} <= {(r.partition, r.offset) for r in again}


def transactional(kafka_server: KafkaServer, name: str) -> KafkaProducer:
    producer = KafkaProducer(bootstrap_servers=list(kafka_server.bootstrap_servers), transactional_id=name)
    producer.init_transactions()
    return producer


def test_only_committed_transactions_are_read_and_their_markers_count_as_done(
    kafka_server: KafkaServer,
) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    producer = transactional(kafka_server, topic)
    for start, commit in ((0, True), (100, False), (200, True), (300, False)):
        producer.begin_transaction()
        for value in numbered(10, start):
            producer.send(topic, value)
        producer.flush()
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    with reading(kafka, topic) as reader:
        ends = reader.end_offsets()
        records = read_until(reader, lambda _: reader.reached(ends))
        assert values(records) == [*range(10), *range(200, 210)]
        assert list(ends.values()) == [44]  # 40 records and 4 markers
        assert reader.positions() == ends
    producer.close()


def test_an_open_transaction_is_not_waited_for(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    send(kafka, topic, numbered(5))
    producer = transactional(kafka_server, topic)
    producer.begin_transaction()
    producer.send(topic, b"77")
    producer.flush()
    with reading(kafka, topic) as reader:
        assert values(read_all(reader)) == [0, 1, 2, 3, 4]
        producer.commit_transaction()
        assert values(read_all(reader)) == [77]
    producer.close()


def delete_before(kafka_server: KafkaServer, topic: str, offset: int) -> None:
    with kafka_server.admin() as admin:
        admin.delete_records({TopicPartition(topic, 0): offset})


def test_records_lost_to_retention_are_an_error_that_names_the_gap(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    send(kafka, topic, numbered(100))
    with reading(kafka, topic) as reader:
        reader.seek(dict.fromkeys(reader.assigned(), 10))
        delete_before(kafka_server, topic, 60)
        with pytest.raises(
            OffsetGapError, match=r"expected records from offset 10, got a log of 60 to 100: 50 rec"
        ):
            read_all(reader)


@pytest.mark.parametrize(("policy", "expected"), [("earliest", range(60, 100)), ("latest", range(0))])
def test_a_policy_goes_on_after_the_gap_and_says_so(
    kafka_server: KafkaServer, caplog: pytest.LogCaptureFixture, policy: str, expected: range
) -> None:
    kafka, topic = kafka_server.settings(on_out_of_range=policy), kafka_server.new_topic(1)
    send(kafka, topic, numbered(100))
    with reading(kafka, topic) as reader:
        reader.seek(dict.fromkeys(reader.assigned(), 10))
        delete_before(kafka_server, topic, 60)
        assert values(read_all(reader)) == list(expected)
    assert "50 records are gone" in caplog.text


def test_a_position_past_the_end_is_a_gap_too(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    send(kafka, topic, numbered(5))
    with reading(kafka, topic) as reader:
        reader.seek(dict.fromkeys(reader.assigned(), 50))
        with pytest.raises(OffsetGapError, match="the log ends before it"):
            read_until(reader, lambda records: len(records) > 0)


def test_an_added_partition_is_read_from_its_first_offset(kafka_server: KafkaServer) -> None:
    kafka, topic, clock = kafka_server.settings(), kafka_server.new_topic(1), Clock()
    send(kafka, topic, numbered(10))
    with reading(kafka, topic, clock=clock) as reader:
        assert values(read_all(reader)) == list(range(10))
        with kafka_server.admin() as admin:
            admin.create_partitions({topic: 2})
            admin.wait_for_topics([topic])
        send(kafka, topic, numbered(10, start=10), partition=1)
        clock.now_s += kafka.discover_every_s
        assert values(read_until(reader, lambda records: len(records) >= 10)) == list(range(10, 20))
        assert [p.partition for p in reader.assigned()] == [0, 1]


def test_a_recreated_topic_is_another_source_read_from_its_start(kafka_server: KafkaServer) -> None:
    kafka, topic, clock = kafka_server.settings(), kafka_server.new_topic(1), Clock()
    send(kafka, topic, numbered(10))
    with reading(kafka, topic, clock=clock) as reader:
        before = read_all(reader)
        with kafka_server.admin() as admin:
            admin.delete_topics([topic])
        recreate(kafka_server, topic)
        send(kafka, topic, numbered(5, start=100))
        clock.now_s += kafka.discover_every_s
        after = read_until(reader, lambda records: len(records) >= 5)
    assert values(after) == list(range(100, 105))
    assert [r.offset for r in after] == list(range(5))
    assert {r.topic_id for r in before}.isdisjoint({r.topic_id for r in after})


def recreate(kafka_server: KafkaServer, topic: str) -> None:
    """Deletion is asynchronous: the name is free a moment later."""
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        try:
            kafka_server.new_topic(1, name=topic)
        except Exception as error:
            if type(error).__name__ != "TopicAlreadyExistsError" or time.monotonic() > deadline_s:
                raise
        else:
            return


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_reading_goes_on_in_order_after_a_restart_of_the_broker(kafka_server: KafkaServer, end: str) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(2)
    send(kafka, topic, numbered(100))
    with reading(kafka, topic) as reader:
        records = read_all(reader)
        getattr(kafka_server, end)()
        assert reader.poll(10, 1 << 20, 100) == []
        kafka_server.start()
        send(kafka, topic, numbered(100, start=100))
        records += read_until(reader, lambda more: len(more) >= 100)
        reader.commit(reader.positions())
        assert reader.committed() == reader.positions()
    assert sorted(values(records)) == list(range(200))
    for own in by_partition(records).values():
        assert [r.offset for r in own] == list(range(len(own)))


def test_a_start_by_timestamp_begins_at_the_first_record_from_then(kafka_server: KafkaServer) -> None:
    topic = kafka_server.new_topic(1)
    sender = Sender(kafka_server.settings())
    for i in range(10):
        sender.send(topic, b"u", str(i).encode(), timestamp_ms=1_700_000_000_000 + i)
    sender.close()
    kafka = kafka_server.settings(start="timestamp", start_timestamp_ms=1_700_000_000_004)
    with reading(kafka, topic) as reader:
        assert values(read_all(reader)) == list(range(4, 10))


def test_missing_topics_are_named_together_and_none_is_created(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic()
    for _ in range(2):
        with pytest.raises(KafkaFailureError, match=r"got no nope-1, nope-2; create each: kafka-topics.sh"):
            topics_info(kafka, ["nope-1", topic, "nope-2"])


def test_a_missing_broker_is_an_error_that_names_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    kafka = Kafka(bootstrap_servers=(address,), connect_timeout_s=1.0)
    with pytest.raises(
        KafkaUnavailableError, match=f"expected a broker at {address}, got connection refused in 1 s"
    ):
        RoundReader(kafka, ["reviews"])


def test_a_silent_server_is_an_error_that_names_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        kafka = Kafka(bootstrap_servers=(address,), connect_timeout_s=1.0)
        with pytest.raises(
            KafkaUnavailableError, match=f"expected a broker at {address}, got no answer in 1 s"
        ):
            topics_info(kafka, ["reviews"])


def review(i: int) -> dict[str, Any]:
    return {"text": f"review {i} 很好", "rating": 5}


def attributes(i: int) -> dict[str, str]:
    return {"specversion": "1.0", "id": f"e{i}", "source": "/shop", "type": "portrait.review.v1",
            "time": "2024-05-01T10:00:00Z", "subject": f"user{i}"}  # fmt: skip


def test_both_modes_of_cloudevents_are_parsed_from_real_records(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic()
    sender = Sender(kafka)
    for i in range(0, 20, 2):
        headers = [(f"ce_{name}", value.encode()) for name, value in attributes(i).items()]
        body = json.dumps(review(i)).encode()
        sender.send(topic, f"user{i}".encode(), body, [*headers, ("content-type", b"application/json")])
    for i in range(1, 20, 2):
        body = json.dumps(attributes(i) | {"data": review(i)}).encode()
        sender.send(topic, f"user{i}".encode(), body, [("content-type", b"application/cloudevents+json")])
    sender.close()
    rules = ParseRules.of(Settings(kafka=Kafka(topics=Topics(reviews=topic))))
    with reading(kafka, topic) as reader:
        parsed = [parse(record, rules) for record in read_all(reader)]
    assert Counter(type(each) for each in parsed) == {Event: 20}
    said = {(e.user_id, e.content) for e in parsed if isinstance(e, Event)}
    assert said == {(f"user{i}", TextContent(f"review {i} 很好", None, 5.0)) for i in range(20)}


def test_a_dead_letter_near_the_size_limit_comes_back_byte_for_byte(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    kafka_server.new_topic(1, name=f"{topic}.dead")
    record = Record(topic, "id", 0, 7, 1_700_000_000_123, b"\xff\x00", bytes(kafka.max_record_bytes),
                    (("ce_id", b"\xfe"), ("twice", b"1"), ("twice", None), ("empty", b"")))  # fmt: skip
    sender = Sender(kafka)
    sender.send(*dead_letter(Rejected(record, Reason.BAD_JSON, "ParseEvents", "ValueError", "a detail")))
    sender.close()
    with reading(kafka, f"{topic}.dead") as reader:
        [dead] = read_all(reader)
    assert (dead.key, dead.value) == (record.key, record.value)
    assert dict(dead.headers)["portrait-error-reason"] == b"bad_json"
    assert original(dead) == (topic, record.key, record.value, record.headers, record.timestamp_ms)


class NotUtf8(str):
    """A header name as only a broken producer writes it."""

    def encode(self, *_: Any) -> bytes:
        return b"\xff\xfe"


@pytest.mark.parametrize("codec", [None, "gzip"])
def test_a_record_with_unreadable_header_names_costs_no_neighbour(
    kafka_server: KafkaServer, codec: str | None
) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    servers = list(kafka.bootstrap_servers)
    producer = KafkaProducer(bootstrap_servers=servers, compression_type=codec, linger_ms=50)
    for value, name in ((b"0", "a"), (b"1", NotUtf8("b")), (b"2", "c"), (b"3", NotUtf8("d"))):
        producer.send(topic, key=b"u", value=value, headers=[("first", b"x"), (name, b"y")])
    producer.close()
    with reading(kafka, topic) as reader:
        records = read_all(reader)
    assert [(r.offset, r.key, r.value) for r in records] == [(i, b"u", b"%d" % i) for i in range(4)]
    for good, bad in (records[:2], records[2:]):
        assert len(good.headers) == 2
        rejected = parse(bad, ParseRules.of(Settings()))
        assert isinstance(rejected, Rejected)
        assert rejected.reason is Reason.BAD_ENCODING
        assert abs(bad.timestamp_ms - good.timestamp_ms) < 60_000


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_are_read(kafka_server: KafkaServer, codec: str) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(1)
    producer = KafkaProducer(
        bootstrap_servers=list(kafka.bootstrap_servers), compression_type=codec, linger_ms=50
    )
    for value in numbered(50):
        producer.send(topic, value)
    producer.close()
    with reading(kafka, topic) as reader:
        assert values(read_all(reader)) == list(range(50))


def test_a_failed_send_is_named_at_the_flush_and_the_sender_goes_on(kafka_server: KafkaServer) -> None:
    kafka = kafka_server.settings()
    topic = kafka_server.new_topic(1, **{"max.message.bytes": "10000"})
    sender = Sender(kafka)
    sender.send(topic, b"u", b"x" * 50_000)
    with pytest.raises(
        KafkaFailureError, match=rf"topic {topic}: expected every record to be acknowledged.*raise"
    ):
        sender.flush()
    sender.send(topic, b"u", b"1")
    sender.close()
    with reading(kafka, topic) as reader:
        assert values(read_all(reader)) == [1]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_login_reads_its_secrets_by_reference(
    kafka_server: KafkaServer, tmp_path: Path, mechanism: Any
) -> None:
    topic = kafka_server.new_topic(1)
    send(kafka_server.settings(), topic, numbered(3))
    kafka = sasl_settings(kafka_server, tmp_path, mechanism, SASL_PASSWORD)
    with reading(kafka, topic) as reader:
        assert values(read_all(reader)) == [0, 1, 2]


def test_a_refused_login_is_named_without_the_secret(kafka_server: KafkaServer, tmp_path: Path) -> None:
    kafka = sasl_settings(kafka_server, tmp_path, "PLAIN", "not-it")
    with pytest.raises(
        KafkaFailureError, match=r"kafka\.security: expected .* got (Sasl|a closed)"
    ) as refused:
        topics_info(kafka, ["any"])
    assert "not-it" not in str(refused.value)


def sasl_settings(server: KafkaServer, folder: Path, mechanism: Any, password: str) -> Kafka:
    (folder / "user").write_text(SASL_USER + "\n")
    (folder / "password").write_text(password + "\n")
    security = Security(
        protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        sasl_username=f"file:{folder}/user",
        sasl_password=f"file:{folder}/password",
    )
    return server.settings(bootstrap_servers=server.sasl_servers, security=security, connect_timeout_s=5.0)

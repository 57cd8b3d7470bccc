"""Reading from a real Kafka: caps, order, transactions, gaps, new partitions, restarts."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaProducer, TopicPartition

from pipelines.kafka.producer import Sender
from pipelines.kafka.reader import OffsetGapError
from tests.support.kafka_reading import (
    LIMIT_S,
    Clock,
    by_partition,
    numbered,
    read_all,
    read_until,
    reading,
    send,
    values,
)
from tests.support.kafka_server import KafkaServer

pytestmark = pytest.mark.integration


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

"""Reaching, parsing from and writing to a real Kafka: errors by name, both modes, dead letters, logins."""

from __future__ import annotations

import json
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from models.encoder import TextContent
from pipelines.kafka.client import KafkaFailureError, KafkaUnavailableError
from pipelines.kafka.producer import Sender
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.topics import topics_info
from pipelines.messages.dead_letter import dead_letter, original
from pipelines.messages.parse import Event, ParseRules, parse
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Kafka, Security, Settings, Topics
from tests.support.kafka_reading import numbered, read_all, reading, send, values
from tests.support.kafka_server import SASL_PASSWORD, SASL_USER, KafkaServer, make_certificate
from tests.support.ports import free_ports

pytestmark = pytest.mark.integration


def test_missing_topics_are_named_together_and_none_is_created(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic()
    for _ in range(2):
        with pytest.raises(KafkaFailureError, match=r"got no nope-1, nope-2; create them: portrait apply"):
            topics_info(kafka, ["nope-1", topic, "nope-2"])


def test_a_missing_broker_is_an_error_that_names_the_address() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
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


def test_a_login_over_tls_checks_the_certificate(kafka_server: KafkaServer, tmp_path: Path) -> None:
    topic = kafka_server.new_topic(1)
    plain = sasl_settings(kafka_server, tmp_path, "PLAIN", SASL_PASSWORD)
    security = replace(plain.security, protocol="SASL_SSL", ssl_cafile=kafka_server.certificate)
    trusting = replace(plain, bootstrap_servers=kafka_server.tls_servers, security=security)
    send(trusting, topic, numbered(3))
    with reading(trusting, topic) as reader:
        assert values(read_all(reader)) == [0, 1, 2]

    stranger = make_certificate(tmp_path / "stranger")
    wary = replace(trusting, security=replace(security, ssl_cafile=stranger), connect_timeout_s=2.0)
    with pytest.raises(KafkaFailureError, match=r"kafka\.security: .*certificate files"):
        topics_info(wary, ["any"])


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

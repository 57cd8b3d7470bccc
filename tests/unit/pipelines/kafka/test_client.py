"""Kafka without Kafka: start positions, dead letters, client settings, and the embedded broker."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.online import SourcePosition
from pipelines.demo.broker import EmbeddedBroker
from pipelines.kafka.client import client_config
from pipelines.kafka.producer import Sender
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.start_offsets import Policy, start_of, start_positions
from pipelines.kafka.topics import topics_info
from pipelines.messages.dead_letter import dead_letter, original
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Kafka, Security, SettingsError

P0 = SourcePosition("id", "reviews", 0)
P1 = SourcePosition("id", "reviews", 1)


@pytest.mark.parametrize(("start", "committed", "mirrored", "expected"), [
    ("earliest", 70, 50, 50),  # the store lost its last second
    ("earliest", 50, 70, 50),  # the group lags behind
    ("latest", None, 50, 50),  # the group expired
    ("committed", None, 50, 50),
    ("earliest", 70, None, "earliest"),  # a store that never covered the partition
    ("latest", 70, None, 70),
    ("committed", 70, None, 70),
    ("earliest", None, None, "earliest"),
    ("latest", None, None, "latest"),
    ("timestamp", None, None, "timestamp"),
    ("earliest", 0, 0, 0),
])  # fmt: skip
def test_a_start_is_the_lower_stored_position_else_the_policy(
    start: Any, committed: int | None, mirrored: int | None, expected: int | str
) -> None:
    assert start_of(Kafka(start=start, start_timestamp_ms=1), P0, committed, mirrored) == expected


@pytest.mark.parametrize(("start", "named"), [("committed", "kafka.start: expected a position of reviews"),
                                              ("timestamp", "kafka.start_timestamp_ms")])  # fmt: skip
def test_a_start_that_nothing_defines_is_refused_by_name(start: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        start_of(Kafka(start=start), P0, None, None)


class Offsets:
    """A reader's side of the question."""

    def assigned(self) -> tuple[SourcePosition, ...]:
        return (P0, P1)

    def offsets_of(self, policy: Policy, partitions: Any) -> dict[SourcePosition, int]:
        return dict.fromkeys(partitions, {"earliest": 5, "latest": 99, "timestamp": 42}[policy])


def test_every_partition_gets_a_start_and_other_incarnations_of_a_topic_none() -> None:
    recreated = {SourcePosition("old id", "reviews", 1): 70, P0: 30}
    assert start_positions(Kafka(start="latest"), Offsets(), {P0: 40}, recreated) == {P0: 30, P1: 99}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RECORDS = st.builds(
    Record,
    topic=st.just("reviews"),
    topic_id=st.just("id"),
    partition=st.integers(0, 9),
    offset=st.integers(0, 2**62),
    timestamp_ms=st.integers(-(2**63), 2**63 - 1),
    key=st.none() | st.binary(max_size=8),
    value=st.none() | st.binary(max_size=8),
    headers=st.lists(st.tuples(TEXT, st.none() | st.binary(max_size=8)), max_size=4).map(tuple),
)


@given(RECORDS)
def test_a_dead_letter_gives_back_the_record_byte_for_byte(record: Record) -> None:
    message = dead_letter(
        Rejected(record, Reason.BAD_JSON, "ParseEvents", "ValueError", "expected x"), ".dlq"
    )
    assert message.topic == "reviews.dlq"
    assert message.key is not None or message.value is not None  # kafka-python sends nothing else
    assert all(isinstance(value, bytes) for _, value in message.headers)
    assert message.headers[: len(record.headers)] == tuple((n, v or b"") for n, v in record.headers)
    dead = Record("reviews.dlq", "x", 0, 0, 9, message.key, message.value, message.headers)
    assert original(dead) == (record.topic, record.key, record.value, record.headers, record.timestamp_ms)


def test_a_dead_letter_says_why_where_and_when_in_headers() -> None:
    record = Record(
        "images", "id", 2, 7, 1_700_000_000_123, b"ann", b"\xff", (("portrait-error-reason", b"mine"),)
    )
    headers = dead_letter(Rejected(record, Reason.CORRUPT_MEDIA, "EncodeImage", "OSError", "d" * 900)).headers
    said = dict(headers[1:])
    assert said["portrait-error-reason"] == b"corrupt_media"
    assert said["portrait-error-stage"] == b"EncodeImage"
    assert said["portrait-error-class"] == b"OSError"
    assert (said["portrait-error-topic"], said["portrait-error-partition"]) == (b"images", b"2")
    assert said["portrait-error-offset"] == b"7"
    assert said["portrait-error-time"] == b"2023-11-14T22:13:20.123Z"
    assert said["portrait-error-version"]
    assert said["portrait-error-detail"] == b"d" * 500


def test_replaying_a_record_that_is_no_dead_letter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"reviews\[1\]@5: expected a dead letter"):
        original(Record("reviews", "id", 1, 5, 0, b"k", b"v", (("x", b"y"),)))


def test_secrets_are_read_where_they_are_used_and_named_where_they_are_missing(tmp_path: Path) -> None:
    (tmp_path / "user").write_text("ann\n")
    login: dict[str, Any] = {
        "sasl_username": f"file:{tmp_path}/user",
        "sasl_password": "env:NO_SUCH_VARIABLE",
    }
    security = Security(protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", **login)
    kafka = Kafka(security=security)
    assert "ann" not in repr(kafka)
    with pytest.raises(SettingsError, match="env:NO_SUCH_VARIABLE"):
        client_config(kafka)


def test_a_login_needs_all_its_parts() -> None:
    with pytest.raises(SettingsError, match=r"kafka\.security: expected sasl_mechanism"):
        client_config(Kafka(security=Security(protocol="SASL_SSL")))


def test_tls_settings_reach_the_client(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("pw")
    security = Security(protocol="SSL", ssl_cafile=tmp_path / "ca", ssl_certfile=tmp_path / "crt",
                        ssl_keyfile=tmp_path / "key", ssl_password=f"file:{tmp_path}/pw")  # fmt: skip
    config = client_config(Kafka(security=security))
    assert config["security_protocol"] == "SSL"
    assert config["ssl_check_hostname"] is True
    assert (config["ssl_cafile"], config["ssl_password"]) == (str(tmp_path / "ca"), "pw")


def test_the_embedded_broker_keeps_what_is_sent_while_it_lives(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with EmbeddedBroker() as broker:
        kafka = Kafka(bootstrap_servers=broker.bootstrap_servers)
        assert {len(info.partitions) for info in topics_info(kafka, kafka.topics.all()).values()} == {4}
        sender = Sender(kafka)
        for i in range(100):
            sender.send("reviews", f"user{i}".encode(), b"the content", (("a", b"1"),))
        sender.close()
        reader = RoundReader(kafka, kafka.topics.all())
        reader.seek(start_positions(kafka, reader, reader.committed(), {}))
        ends, records = reader.end_offsets(), []
        while not reader.reached(ends):
            records += reader.poll(30, 1 << 20, 100)
        reader.commit(reader.positions())
        assert reader.committed() == ends
        reader.close()
    assert sorted(int((r.key or b"")[4:]) for r in records) == list(range(100))
    assert {r.topic_id.endswith("/reviews") for r in records} == {True}
    assert "the content" not in caplog.text

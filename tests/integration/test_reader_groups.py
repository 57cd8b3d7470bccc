"""The endless source over a real Kafka, driven as a runner drives it: call, checkpoint, call again."""

from __future__ import annotations

import pytest
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from apache_beam.transforms.core import _BundleFinalizerParam

from pipelines.kafka.key_groups import group_elements
from pipelines.kafka.streaming_source import (
    GroupPositions,
    GroupPositionsCoder,
    GroupTracker,
    ReadGroupFn,
    _idle,
)
from pipelines.messages.record import Record
from pipelines.settings import Kafka
from tests.support.kafka_reading import numbered, send, values
from tests.support.kafka_server import KafkaServer

pytestmark = pytest.mark.integration


def call(kafka: Kafka, topic: str, group: int, checkpoint: bytes) -> tuple[list[Record], bytes]:
    """One process call from a checkpoint's bytes to the next checkpoint's."""
    coder = GroupPositionsCoder()
    tracker = ThreadsafeRestrictionTracker(GroupTracker(coder.decode(checkpoint)))
    fn, finalizer = ReadGroupFn(kafka, (topic,), {}), _BundleFinalizerParam()
    records = list(fn.process(group_elements(2)[group], finalizer, RestrictionTrackerView(tracker)))
    status = tracker.deferred_status()
    assert status is not None
    return records, coder.encode(status[0])


def test_groups_read_every_record_once_from_checkpoint_to_checkpoint(kafka_server: KafkaServer) -> None:
    kafka, topic = kafka_server.settings(), kafka_server.new_topic(4)
    checkpoints = [GroupPositionsCoder().encode(GroupPositions())] * 2
    read: list[Record] = []
    for count in (300, 600, 900):
        send(kafka, topic, numbered(300, start=count - 300))
        for _ in range(20):  # a call gives what arrives within its hold
            for group in range(2):
                records, checkpoints[group] = call(kafka, topic, group, checkpoints[group])
                assert {r.partition % 2 for r in records} <= {group}
                read += records
            if len(read) >= count:
                break
        if count == 600:  # a lost worker: the next call opens its readers anew
            close_readers()
    close_readers()
    assert sorted(values(read)) == list(range(900))


def close_readers() -> None:
    for held in _idle.values():
        held.reader.close()
    _idle.clear()

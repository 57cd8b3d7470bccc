"""``portrait replay``: send dead letters to their source topics again, byte for byte, each once.

A replayed record is a new record with its old timestamp, so judgements that depend on time come out
alike, and its id is known to the fold. Positions on the dead-letter topics are committed under a group
of their own after the sends are acknowledged; a crash in between repeats a few, which the fold absorbs.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import Progress

from pipelines.kafka.producer import RecordTooLargeError, Sender
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.topics import existing_topics
from pipelines.messages.dead_letter import PREFIX, REPLAYED, original
from pipelines.messages.record import Record
from pipelines.runners.prepare import dead_letter_topics
from pipelines.settings import Settings
from pipelines.steps.spool import DeadLetterSpool, SpoolError, spool_of, whole_letter

_LOG = logging.getLogger(__name__)
_POLL_MS: Final = 200


@dataclasses.dataclass
class Replayed:
    """How many dead letters were sent again, by reason, and how many were passed over."""

    sent: Counter[str] = dataclasses.field(default_factory=Counter)
    skipped: int = 0

    def as_json(self) -> str:
        return json.dumps({"sent": self.sent.total(), "by_reason": dict(self.sent), "skipped": self.skipped})

    def as_text(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.sent.items()))
        told = f"sent {self.sent.total()} dead letters again ({reasons or 'none waiting'})"
        return f"{told}, passed over {self.skipped}"


def replay_dead_letters(settings: Settings, reasons: Sequence[str] = ()) -> Replayed:
    """Send again what the dead-letter topics hold now and no replay has passed yet.

    With ``reasons`` only those; others are passed over and stay in the topic, but a later replay begins
    after them. Raises KafkaFailureError.
    """
    topics = existing_topics(
        settings.kafka, dead_letter_topics(settings)
    )  # one comes to be with its first reject
    counts = Replayed()
    if not topics:
        return counts
    kafka = dataclasses.replace(settings.kafka, group_id=f"{settings.kafka.group_id}.replay")
    reader, sender, spool = RoundReader(kafka, topics), Sender(kafka), spool_of(settings)
    try:
        starts = reader.offsets_of("earliest", reader.assigned()) | reader.committed()
        ends = reader.end_offsets()
        reader.seek(starts)
        waiting = sum(ends[position] - offset for position, offset in starts.items())
        with Progress(transient=True, console=Console(stderr=True)) as progress:
            task = progress.add_task("replaying", total=waiting)
            while not reader.reached(ends):
                records = reader.poll(settings.rounds.max_records, settings.rounds.max_bytes, _POLL_MS)
                for record in records:
                    _send(record, sender, reasons, counts, spool)
                sender.flush()
                if records:
                    reader.commit(reader.positions())
                progress.advance(task, len(records))
    finally:
        sender.close()
        reader.close()
    return counts


def _send(
    record: Record, sender: Sender, reasons: Sequence[str], counts: Replayed, spool: DeadLetterSpool | None
) -> None:
    reason = (dict(record.headers).get(f"{PREFIX}reason") or b"").decode(errors="replace")
    if (reasons and reason not in reasons) or REPLAYED in dict(record.headers):
        counts.skipped += 1
        return
    try:
        before = original(whole_letter(record, spool))
    except (ValueError, SpoolError) as error:
        _LOG.warning("replay: %s; passed over", error)
        counts.skipped += 1
        return
    try:
        sender.send(before.topic, before.key, before.value, before.headers, timestamp_ms=before.timestamp_ms)
    except RecordTooLargeError as error:
        _LOG.warning("replay: %s; passed over", error)
        counts.skipped += 1
        return
    counts.sent[reason] += 1

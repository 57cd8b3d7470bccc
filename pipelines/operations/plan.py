"""``portrait plan``: everything that a run would need, checked, and what it would do; submits nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from features.errors import PortraitError
from pipelines.kafka.producer import HEADROOM_BYTES
from pipelines.kafka.topics import change_command, existing_topics, kept_days, max_message_bytes, topics_info
from pipelines.process import worker
from pipelines.runners.prepare import dead_letter_topics, open_reader, ready_store, source_topics
from pipelines.settings import Settings


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a run needs: what it is, whether it is there, and what was found or is wrong."""

    what: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All checks; a run would start if all are ok."""

    checks: list[Check]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def as_json(self) -> str:
        return json.dumps({"ok": self.ok, "checks": [asdict(c) for c in self.checks]}, ensure_ascii=False)

    def as_text(self) -> str:
        lines = [f"{'ok     ' if c.ok else 'FAILED '} {c.what:10} {c.detail}" for c in self.checks]
        end = "portrait run would start" if self.ok else "portrait run would not start"
        return "\n".join([*lines, end])


def make_plan(settings: Settings) -> Plan:
    """Check topics, models, store, history folder and start positions, each even where another fails."""
    return Plan(
        [
            _check(what, look, settings)
            for what, look in (
                ("topics", _topics),
                ("letters", letters_plan),
                ("models", _models),
                ("store", _store),
                ("history", _history),
                ("start", _start),
            )
        ]
    )


def _check(what: str, look: Callable[[Settings], Iterator[str]], settings: Settings) -> Check:
    try:
        return Check(what, True, "; ".join(look(settings)))
    except (PortraitError, OSError) as error:
        return Check(what, False, str(error))


def _topics(settings: Settings) -> Iterator[str]:
    for topic, info in topics_info(settings.kafka, source_topics(settings)).items():
        yield f"{topic} ({len(info.partitions)} partitions)"


def letters_plan(settings: Settings) -> Iterator[str]:
    """Which dead-letter topics a run would make, and which keep records for another time than they would.

    That stops no run, and is not changed by one. Raises KafkaFailureError.
    """
    kafka = settings.kafka
    days, names = kafka.dead_letter_retention_days, dead_letter_topics(settings)
    existing = existing_topics(kafka, names)
    kept_by_topic = kept_days(kafka, existing)
    yield f"{len(names) - len(existing)} topics to be created, which keep dead letters for {days:g} days"
    if unknown := existing.keys() - kept_by_topic.keys():
        yield f"the brokers do not tell how long {', '.join(sorted(unknown))} keep them"
    needed = kafka.max_record_bytes + HEADROOM_BYTES
    spool = settings.outputs.dead_letter_spool
    for topic, most in max_message_bytes(kafka, existing).items():
        if most < needed:
            rest = "are cut, since outputs.dead_letter_spool is null" if spool is None else f"go to {spool}"
            yield f"{topic} takes letters of {most} bytes, where {needed} may come; larger ones {rest}"
    for topic, kept in kept_by_topic.items():
        if kept != days:
            yield f"{topic} keeps them for {kept:g} days, until somebody says: " + change_command(
                kafka, topic, days
            )


def _models(settings: Settings) -> Iterator[str]:
    held = worker(settings)
    for modality, encoder in held.encoders.items():
        yield f"{modality.name.lower()} {encoder.fingerprint[:12]} on {encoder.device}"
    yield f"fusion {settings.models.fusion_kind} {held.fusion.fingerprint[:12]}"
    taxonomy = held.taxonomy
    yield f"{len(taxonomy.categories)} categories, {len(taxonomy.words)} spoken words mapped to one"


def _store(settings: Settings) -> Iterator[str]:
    ready_store(settings, claim=False)
    space = worker(settings).spaces.profile_space[:16]
    yield f"{settings.feature_repo}: durable, and fresh or of the space {space}"


def _history(settings: Settings) -> Iterator[str]:
    folder = settings.history.dir
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(f"history.dir: expected a writable folder, got {existing}; change its rights")
    yield f"{folder}: a file per table every {settings.history.flush_s:g} s"


def _start(settings: Settings) -> Iterator[str]:
    reader = open_reader(settings, worker(settings).store, (0, 1))
    try:
        behind = sum(reader.end_offsets().values()) - sum(reader.positions().values())
        partitions = len(reader.assigned())
        yield f"group {settings.kafka.group_id}: {behind} records to go in {partitions} partitions"
    finally:
        reader.close()

"""Take the dead letters of erased users out of the dead-letter topics.

A Kafka log cannot be edited. What it offers: compaction (keeps the newest record of a key, so it would drop
all but one letter of every other user as well), retention (erases in its own time, and everybody), and
DeleteRecords (drops everything below an offset). So, in each partition that holds a letter of an erased
user: letters of others that lie before the last of them are copied to the partition's end, byte for byte
(key, value, headers, timestamp), acknowledged, and then all up to it is deleted. Killed in between, the next
run does it again: a letter may be there twice, known by its ``portrait-error-topic``, ``-partition`` and
``-offset``, and none is lost.

``portrait replay`` sends each letter once, so a copy of one that it has passed gets the header
``portrait-error-replayed``, and its position moves past what is deleted. A replay that runs at that very
moment may end with an offset gap; run it again.

Whose a letter is, ``pipelines.messages.mentioned_users`` says.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from features.online import SourcePosition
from pipelines.kafka.producer import Sender
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.topics import delete_before, existing_topics, topics_beginning
from pipelines.messages.dead_letter import REPLAYED, SPOOLED
from pipelines.messages.mentioned_users import users_of_letter
from pipelines.messages.record import Record
from pipelines.runners.prepare import dead_letter_topics
from pipelines.settings import Settings
from pipelines.steps.spool import DeadLetterSpool, SpoolError, spool_of, whole_letter

_LOG = logging.getLogger(__name__)
_POLL_MS: Final = 200


@dataclasses.dataclass
class Letters:
    """What was found, or removed."""

    letters: int = 0
    users: set[str] = dataclasses.field(default_factory=set)
    copied: int = 0
    """Letters of others that were moved to the end."""
    cuts: dict[SourcePosition, int] = dataclasses.field(default_factory=dict)
    """Partitions that hold such letters → the offset after the last of them."""
    spooled: set[str] = dataclasses.field(default_factory=set)
    """Files of such letters that were too large for their topic."""


def letters_left(settings: Settings, users: Collection[str]) -> Letters:
    """What the dead-letter topics hold of these users; changes nothing. Raises KafkaFailureError."""
    found, wanted, spool = Letters(), frozenset(users), spool_of(settings)
    for record in _read(settings, None):
        if own := _users(record, settings, spool) & wanted:
            if (name := dict(record.headers).get(SPOOLED)) is not None:
                found.spooled.add(name.decode(errors="replace"))
            found.letters += 1
            found.users |= own
            position = SourcePosition(record.topic_id, record.topic, record.partition)
            found.cuts[position] = record.offset + 1
    return found


def remove_letters(settings: Settings, users: Collection[str]) -> Letters:
    """Remove every letter of these users that is there now. Raises KafkaFailureError."""
    found, wanted, spool = letters_left(settings, users), frozenset(users), spool_of(settings)
    if not found.cuts:
        return found
    passed = _replay_positions(settings, found.cuts)
    sender = Sender(settings.kafka)
    try:
        for record in _read(settings, found.cuts):
            if _users(record, settings, spool) & wanted:
                continue
            position = SourcePosition(record.topic_id, record.topic, record.partition)
            headers = record.headers
            if record.offset < passed.get(position, 0) and REPLAYED not in dict(headers):
                headers = (*headers, (REPLAYED, b"1"))
            sender.send(
                record.topic, record.key, record.value, headers, record.partition, record.timestamp_ms
            )
            found.copied += 1
        sender.flush()
    finally:
        sender.close()
    if spool is not None:
        spool.remove(found.spooled)
    _move_replay(settings, {p: found.cuts[p] for p, offset in passed.items() if offset < found.cuts[p]})
    delete_before(settings.kafka, found.cuts)
    return found


def _users(letter: Record, settings: Settings, spool: DeadLetterSpool | None) -> set[str]:
    """Every user that a letter names, also where it stands for a larger one."""
    try:
        letter = whole_letter(letter, spool)
    except SpoolError as error:
        _LOG.warning("erase: %s; the users are those that the letter itself names", error)
    return users_of_letter(letter, settings.mapping)


def _read(settings: Settings, ends: Mapping[SourcePosition, int] | None) -> Iterator[Record]:
    """The dead-letter topics from their starts to what they hold now, or these partitions up to ``ends``."""
    if (reader := _reader(settings)) is None:
        return
    try:
        chosen = reader.assigned() if ends is None else tuple(ends)
        ends = reader.end_offsets() if ends is None else ends
        reader.seek(reader.offsets_of("earliest", chosen))
        while not reader.reached(ends):
            for record in reader.poll(settings.rounds.max_records, settings.rounds.max_bytes, _POLL_MS):
                position = SourcePosition(record.topic_id, record.topic, record.partition)
                if record.offset < ends.get(position, 0):
                    yield record
    finally:
        reader.close()


def _reader(settings: Settings) -> RoundReader | None:
    """A reader in the replay's group; None where there is no dead-letter topic yet.

    The topics of backfills (``.dead.<name>``) are read too: letters in them are as old as the live ones.
    """
    own = dead_letter_topics(settings)
    names = [*own, *topics_beginning(settings.kafka, [f"{name}." for name in own])]
    topics = existing_topics(settings.kafka, names)
    kafka = dataclasses.replace(settings.kafka, group_id=f"{settings.kafka.group_id}.replay")
    return RoundReader(kafka, topics) if topics else None


def _replay_positions(settings: Settings, chosen: Collection[SourcePosition]) -> dict[SourcePosition, int]:
    reader = _reader(settings)
    if reader is None:
        return {}
    try:
        return {p: offset for p, offset in reader.committed().items() if p in chosen}
    finally:
        reader.close()


def _move_replay(settings: Settings, positions: Mapping[SourcePosition, int]) -> None:
    """Before the records go: a replay would meet a gap. What it had not passed is copied by now."""
    if positions and (reader := _reader(settings)):
        try:
            reader.commit(positions)
        finally:
            reader.close()

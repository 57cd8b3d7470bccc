"""Before the first record of a run: a checked store, a reader at the right offsets, output topics."""

from __future__ import annotations

from typing import Final

from features.errors import PortraitError
from features.online import ProfileStore
from pipelines.kafka.producer import HEADROOM_BYTES
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.safe_offsets import POSITIONS
from pipelines.kafka.start_offsets import start_positions
from pipelines.kafka.topics import create_topics, retention_config
from pipelines.process import worker
from pipelines.settings import Settings

_ANOTHER_STORE: Final = "fill a fresh store beside it and switch: portrait backfill --from-kafka EARLIEST"


def ready_store(settings: Settings, *, claim: bool = True) -> ProfileStore:
    """The process's store, checked: durable enough, and of the spaces of our models.

    ``claim`` names the spaces in a fresh store; without it nothing is written.

    Raises StoreError, or PortraitError naming the setting to change.
    """
    held = worker(settings)
    store = held.store
    if (problems := store.durability_problems()) and not settings.accept_store_risks:
        raise PortraitError(
            "store: expected one that keeps what it acknowledged, got:\n  "
            + "\n  ".join(problems)
            + "\n  or set accept_store_risks: true"
        )
    claimed = store.claim_space(*held.spaces) if claim else store.read_space() or held.spaces
    for name, ours, theirs in zip(("event_space", "profile_space"), held.spaces, claimed, strict=True):
        if ours != theirs:
            raise PortraitError(
                f"store: expected {name} {ours[:16]}, got {theirs[:16]}: its vectors come from other models "
                f"or half-lives and are never mixed; name those that wrote it, or {_ANOTHER_STORE}"
            )
    return store


def open_reader(settings: Settings, store: ProfileStore, worker_of: tuple[int, int]) -> RoundReader:
    """A reader that begins at the lower of the store's mirrored and the group's committed positions."""
    reader = RoundReader(settings.kafka, topics=source_topics(settings), worker_of=worker_of)
    mirrored = store.read_positions(POSITIONS)
    committed = reader.committed()
    for position, offset in mirrored.items():
        lowest = offset - settings.fold.window_offsets
        if committed.get(position, offset) < lowest:
            raise PortraitError(
                f"{position.topic}[{position.partition}]: expected a start at {lowest} or later, got the "
                f"group's {committed[position]}: the store covers up to {offset}, and events below its "
                f"anti-replay window would count as seen; reset the group forward, or {_ANOTHER_STORE}"
            )
    reader.seek(start_positions(settings.kafka, reader, committed, mirrored))
    return reader


def make_source_topics(settings: Settings) -> list[str]:
    """Create the source topics that are missing, for records of ``kafka.max_record_bytes``; their names."""
    size = {"max.message.bytes": str(settings.kafka.max_record_bytes)}
    return create_topics(settings.kafka, source_topics(settings), size)


def make_output_topics(settings: Settings) -> list[str]:
    """Create the dead-letter topics that are missing: without one, a single reject would stop the job.

    They take records somewhat larger than the sources do, and keep them for
    ``kafka.dead_letter_retention_days``. The changelog is its owner's to create.
    """
    kafka = settings.kafka
    configs = {
        "max.message.bytes": str(kafka.max_record_bytes + HEADROOM_BYTES),
        **retention_config(kafka.dead_letter_retention_days),
    }
    return create_topics(kafka, dead_letter_topics(settings), configs)


def source_topics(settings: Settings) -> list[str]:
    """Every topic that a run reads: the four of kafka.topics and those of mapping."""
    return list(dict.fromkeys([*settings.kafka.topics.all(), *settings.mapping]))


def dead_letter_topics(settings: Settings) -> list[str]:
    """Where the rejects of each source topic go."""
    return [topic + settings.outputs.dead_letter_suffix for topic in source_topics(settings)]

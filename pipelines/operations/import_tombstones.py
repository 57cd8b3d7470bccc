"""What a fresh or empty store must know before any event: who is erased, and who was.

Two sources tell it. Another store holds the marks themselves (tombstones, incarnations, which offsets are
gone). The controls topic holds every erase and re-admission that its retention left; what belonged to an
ended incarnation is then told by time alone, in favour of the erase.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

import numpy as np

from features.fold.packed_state import ERASED, RecordError, Spaces, States, pack, read_mark, unpack
from features.online import ProfileStore, ProfileWrite, StatelessUsersError
from features.online.erased_users import read_marks
from features.online.repair import remove_unusable
from features.schema import EVENT_DTYPE, EncodedEvent, Kind
from pipelines.kafka.reader import RoundReader
from pipelines.messages.parse import ControlEvent, ParseRules, encode_control, parse
from pipelines.settings import Settings
from pipelines.steps.fold import FoldContext, fold_events

_USERS_AT_ONCE: Final = 500
_POLL_MS: Final = 200


def import_marks(
    source: ProfileStore, target: ProfileStore, spaces: Spaces, clock: Callable[[], float] = time.time
) -> int:
    """Give ``target`` what ``source`` knows of erased users; how many were new to it.

    A user whom ``target`` knows as erased as often, or more often, stays as she is there.
    Raises StoreError, LayoutError, RecordError.
    """
    records = source.erased_users()
    imported = 0
    while batch := list(islice(records, _USERS_AT_ONCE)):
        for users, states in read_marks(batch, spaces):
            imported += _import(users, states, target, int(clock() * 1e6))
    return imported


def _import(users: list[str], states: States, target: ProfileStore, now_us: int) -> int:
    held = unpack(target.read_states(users), states.spaces)
    ranks = [s.head["incarnation"] * 2.0 + (s.head["flags"] & ERASED) for s in (held, states)]
    newer = np.flatnonzero(ranks[1] > ranks[0])
    before = held.head["revision"].astype(np.int64)
    head = states.head
    head["revision"] = np.maximum(before, head["revision"].astype(np.int64)) + 1
    head["created_us"] = np.maximum(np.maximum(head["created_us"], held.head["created_us"]) + 1, now_us)
    packed = pack(states)
    writes = [
        ProfileWrite(
            user_id=users[i],
            expected_revision=int(before[i]),
            revision=int(head["revision"][i]),
            record=packed[i],
            views=None,
            event_timestamp_us=0,
            created_us=int(head["created_us"][i]),
        )
        for i in newer.tolist()
    ]
    return sum(target.compare_and_set(writes))


@dataclasses.dataclass
class Controls:
    """What the controls topic said."""

    read: int = 0
    erased: int = 0
    """Users who are erased now."""
    ended_us: dict[str, int] = dataclasses.field(default_factory=dict)
    """Readmitted users → record time (µs) of their last erase: what is older belongs to before."""


def fold_controls(settings: Settings, context: FoldContext) -> Controls:
    """Read the controls topic from its start and fold every erase and re-admission into the store.

    Those that the store has met before change nothing. Raises KafkaFailureError.
    """
    rules = ParseRules.of(settings)
    kafka = dataclasses.replace(settings.kafka, group_id=f"{settings.kafka.group_id}.rebuild")
    reader = RoundReader(kafka, [settings.kafka.topics.controls])
    said, last_erase = Controls(), dict[str, int]()
    users: set[str] = set()
    try:
        reader.seek(reader.offsets_of("earliest", reader.assigned()))
        ends = reader.end_offsets()
        while not reader.reached(ends):
            records = reader.poll(settings.rounds.max_records, settings.rounds.max_bytes, _POLL_MS)
            parsed = (parse(record, rules) for record in records)
            controls = [encode_control(event) for event in parsed if isinstance(event, ControlEvent)]
            if controls:
                _fold(controls, context)
            said.read += len(controls)
            users |= {event.user_id for event in controls}
            for event in controls:
                _note_erase(event, last_erase)
    finally:
        reader.close()
    names = sorted(users)
    for start in range(0, len(names), _USERS_AT_ONCE):
        some = names[start : start + _USERS_AT_ONCE]
        for user, record in zip(some, context.store.read_states(some), strict=True):
            if record is not None and read_mark(record)[0]:
                said.erased += 1
            elif user in last_erase:
                said.ended_us[user] = last_erase[user]
    return said


def _fold(controls: list[EncodedEvent], context: FoldContext) -> None:
    try:
        fold_events(controls, context)
    except (StatelessUsersError, RecordError):
        remove_unusable(context.store, sorted({event.user_id for event in controls}))
        fold_events(controls, context)


def _note_erase(event: EncodedEvent, last_erase: dict[str, int]) -> None:
    numbers = np.frombuffer(event.numbers, EVENT_DTYPE)[0]
    if numbers["kind"] == Kind.ERASE:
        last_erase[event.user_id] = max(int(numbers["record_time_us"]), last_erase.get(event.user_id, 0))

"""The ledger: what was sent, against what the store, the parquet tables and the dead letters hold.

Afterwards loss (sent − applied − rejected), duplicates (applied more than once) and divergence (online
profile ≠ offline recomputation from the ``events`` table) must all be 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.fold.fold import FoldPolicy, fold
from features.fold.packed_state import Spaces, States, empty_states, unpack
from features.online import ProfileStore
from features.schema import EVENT_DTYPE, HEAD_DTYPE, EncodedEvent, Kind
from features.tables.rows import events_from_batch
from features.taxonomy import Taxonomy
from pipelines.messages.dead_letter import original
from pipelines.messages.parse import event_key
from pipelines.messages.record import Record

Headers = Sequence[tuple[str, bytes | None]]

TOLERANCE: Final = 1e-3
"""Largest difference of a decayed sum, relative to its weight: the fold's stated tolerance is below it."""


class Raw(NamedTuple):
    """A message as bytes: what must come back from a dead-letter topic unchanged."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass
class Sent:
    """Everything that a producer sent, each message numbered by its place."""

    messages: list[Raw] = field(default_factory=list)

    def add(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Note one message; sending it twice notes it twice."""
        self.messages.append(Raw(topic, key, value, tuple(headers)))

    def identities(self) -> Mapping[tuple[str, int], list[Raw]]:
        """(user, event key) → the messages that carry it, of those in binary mode."""
        found: dict[tuple[str, int], list[Raw]] = {}
        for raw in self.messages:
            headers = dict(raw.headers)
            source, event_id = headers.get("ce_source"), headers.get("ce_id")
            if raw.key is not None and source is not None and event_id is not None:
                key = event_key(source.decode(), event_id.decode())
                found.setdefault((raw.key.decode(errors="replace"), key), []).append(raw)
        return found


@dataclass
class Audit:
    """What the ledger found. ``notes`` names the first few of each kind."""

    sent: int = 0
    identities: int = 0
    applied: int = 0
    rejected: int = 0
    loss: int = 0
    duplicates: int = 0
    divergence: int = 0
    not_in_parquet: int = 0
    altered_dead_letters: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, diverged or altered."""
        bad = self.loss + self.duplicates + self.divergence + self.not_in_parquet + self.altered_dead_letters
        return bad == 0


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    store: ProfileStore
    history_dir: Path
    dead_letters: Sequence[Record]
    spaces: Spaces
    taxonomy: Taxonomy
    policy: FoldPolicy = field(default_factory=FoldPolicy)


def audit(sent: Sent, outcome: Outcome) -> Audit:
    """Compare what was sent with what was left behind; messages are in binary mode, or must be rejected."""
    identities = sent.identities()
    users = sorted({user for user, _ in identities})
    states = unpack(outcome.store.read_states(users), outcome.spaces)
    applied = _applied(users, states)
    dead = [_raw_of(record) for record in outcome.dead_letters]
    result = Audit(sent=len(sent.messages), identities=len(identities))
    rejected = _check_dead_letters(sent, dead, result)

    rows = read_events(outcome.history_dir, outcome.taxonomy)
    stored = {(e.user_id, int(np.frombuffer(e.numbers, EVENT_DTYPE)["event_key"][0])) for e in rows}
    for identity, raws in identities.items():
        was_applied = identity in applied
        was_rejected = any(raw in rejected for raw in raws)
        result.applied += was_applied
        result.rejected += was_rejected and not was_applied
        if not was_applied and not was_rejected:
            result.loss += 1
            result.notes.append(f"lost: {identity[0]} {raws[0].headers[:4]}")
        if was_applied and identity not in stored:
            result.not_in_parquet += 1
            result.notes.append(f"not in parquet: {identity[0]} {identity[1]:016x}")
    result.loss += sum(1 for raw in sent.messages if _is_anonymous(raw) and raw not in rejected)

    for i, user in enumerate(users):
        own = sum(1 for u, _ in applied if u == user)
        excess = int(states.head["version"][i]) - own
        if excess and not states.erased[i]:
            result.duplicates += abs(excess)
            result.notes.append(f"applied more than once: {user}, version exceeds its events by {excess}")
    _check_divergence(users, states, rows, outcome, result)
    return result


def _is_anonymous(raw: Raw) -> bool:
    return not {"ce_source", "ce_id"} <= {name for name, _ in raw.headers} or raw.key is None


def _applied(users: Sequence[str], states: States) -> set[tuple[str, int]]:
    """(user, event key) of every content record in the anti-replay windows."""
    window = states.window
    found = set()
    for i, user in enumerate(users):
        own = window[states.window_start[i] : states.window_start[i + 1]]
        found |= {(user, int(key)) for key in own["event_key"][own["kind"] == Kind.CONTENT]}
    return found


def _raw_of(record: Record) -> Raw:
    before = original(record)
    return Raw(before.topic, before.key, before.value, before.headers)


def _check_dead_letters(sent: Sent, dead: Sequence[Raw], result: Audit) -> set[Raw]:
    """Every dead letter must equal a message that was sent; gives the messages that were rejected."""
    known = Counter(sent.messages)
    for raw in dead:
        if raw not in known:
            result.altered_dead_letters += 1
            result.notes.append(f"dead letter that nobody sent: {raw.topic} {len(raw.value or b'')} bytes")
    return set(dead)


def read_events(history_dir: Path, taxonomy: Taxonomy) -> list[EncodedEvent]:
    """Every row of the ``events`` table, repeated ones included; fails on a file that cannot be read."""
    rows: list[EncodedEvent] = []
    for path in sorted((history_dir / "events").rglob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches():
            rows += events_from_batch(batch, taxonomy)
    return rows


def _check_divergence(
    users: Sequence[str], states: States, rows: Iterable[EncodedEvent], outcome: Outcome, result: Audit
) -> None:
    place = {user: i for i, user in enumerate(users)}
    own = [event for event in rows if event.user_id in place]
    numbers = np.frombuffer(b"".join(e.numbers for e in own), EVENT_DTYPE)
    index = np.array([place[e.user_id] for e in own], np.int64)
    again = fold(empty_states(len(users), outcome.spaces), index, numbers, outcome.policy, 0).states
    for i, user in enumerate(users):
        if states.erased[i]:
            continue
        if names := differing(states.head[i], again.head[i]):
            result.divergence += 1
            result.notes.append(f"diverged: {user} in {', '.join(names)}")


_BOOKKEEPING: Final = frozenset({"revision", "created_us", "incarnation"})


def differing(online: Any, offline: Any) -> list[str]:
    """Fields of two heads that differ: integers must be equal, floats within :data:`TOLERANCE`."""
    return [
        name
        for name in HEAD_DTYPE.names or ()
        if name not in _BOOKKEEPING and _differ(online[name], offline[name])
    ]


def _differ(a: Any, b: Any) -> bool:
    if a.dtype.names:
        return any(_differ(a[name], b[name]) for name in a.dtype.names)
    if a.dtype.kind == "f":
        return not np.allclose(a.astype(np.float64), b.astype(np.float64), rtol=TOLERANCE, atol=TOLERANCE)
    return not np.array_equal(a, b)


def read_table(history_dir: Path, table: str) -> pa.Table:
    """All rows of a table, hive partition included."""
    return pq.read_table(history_dir / table, partitioning="hive")

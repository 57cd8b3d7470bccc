"""Encoded events by shard → stored profiles: read states, fold, fuse, compare-and-set, repeat what lost.

The online store is the state. Beam keeps none, so a bundle that a runner repeats, on whatever worker,
finds the events it folded before in the states' anti-replay windows and changes nothing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash
from apache_beam.pvalue import PCollection

from features.fold.fold import FoldPolicy, FoldResult, fold, fusion_inputs
from features.fold.outcome import Outcome
from features.fold.packed_state import Spaces, pack, unpack
from features.online import ProfileStore, ProfileWrite, StatelessUsersError, StoreError
from features.online.encode import encode_views
from features.profile.columns import profile_columns
from features.schema import EVENT_DTYPE, PRIOR_EVENTS, EncodedEvent, Kind
from features.tables.rows import event_batch, profile_batch
from features.taxonomy import Taxonomy
from pipelines import metrics
from pipelines.job_counters import tell
from pipelines.process import worker
from pipelines.settings import Endless, Settings
from pipelines.steps.windowing import fold_panes

if TYPE_CHECKING:
    from models.fusion import Fusion

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

USERS_AT_ONCE: Final = 500
"""Users per read and per compare-and-set: bounds memory and how long a store is held."""
EVENTS_AT_ONCE: Final = 5_000
_FIRST_WAIT_S: Final = 0.05
_LONGEST_WAIT_S: Final = 2.0


class ShardByUser(beam.PTransform[Any, Any]):
    """``EncodedEvent`` → ``(shard, iterable of EncodedEvent)``; a user is always in the same shard.

    Endless input is grouped in ``panes``.
    """

    def __init__(self, shards: int, panes: Endless | None = None) -> None:
        super().__init__()
        self._shards = shards
        self._panes = panes

    def expand(self, events: PCollection[EncodedEvent]) -> Any:
        shards = self._shards
        keyed = events | "WithShard" >> beam.Map(
            lambda e: (xxhash.xxh3_64_intdigest(e[0].encode()) % shards, tuple(e))
        ).with_output_types(tuple[int, tuple[str, str, str, str, str, bytes]])
        if self._panes is not None:
            keyed |= "Panes" >> fold_panes(self._panes)
        return keyed | "GroupByShard" >> beam.GroupByKey()


class FoldProfiles(beam.PTransform[Any, Any]):
    """``(shard, events)`` → ``profiles`` and ``events`` (record batches), ``erased`` (user ids).

    Endless input comes in ``panes``, and its figures are told to the runner.
    """

    def __init__(self, settings: Settings, panes: Endless | None = None) -> None:
        super().__init__()
        self._fn = _FoldFn(settings, endless=panes is not None)

    def expand(self, shards: Any) -> Any:
        return shards | "Fold" >> beam.ParDo(self._fn).with_outputs("events", "erased", main="profiles")


class _FoldFn(beam.DoFn):
    def __init__(self, settings: Settings, endless: bool) -> None:
        self._settings = settings
        self._endless = endless

    def process(self, shard: tuple[int, Iterable[tuple[Any, ...]]]) -> Iterator[Any]:
        context = fold_context(self._settings)
        for events in chunks([EncodedEvent(*event) for event in shard[1]]):
            folded = fold_events(events, context)
            yield from folded.profiles
            yield beam.pvalue.TaggedOutput("events", folded.events)
            for user_id in folded.erased:
                yield beam.pvalue.TaggedOutput("erased", user_id)
        if self._endless:
            tell()


@dataclass(frozen=True)
class FoldContext:
    """What folding needs beside events; ``clock`` and ``sleep`` are injected in tests."""

    store: ProfileStore
    fusion: Fusion
    taxonomy: Taxonomy
    spaces: Spaces
    names: tuple[str, str]  # event_space and profile_space, hex
    policy: FoldPolicy
    prior_events: float = PRIOR_EVENTS
    attempts: int = 8
    counted: bool = True
    """Whether the metrics of a run take note; what is folded again (a rebuild) would make them untrue."""
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Folded:
    """What a batch of events made of its users."""

    profiles: list[pa.RecordBatch] = field(default_factory=list)
    events: pa.RecordBatch | None = None
    erased: list[str] = field(default_factory=list)
    outcomes: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))


def fold_context(settings: Settings) -> FoldContext:
    """The process's store, fusion and taxonomy as the settings name them."""
    held = worker(settings)
    fold = settings.fold
    policy = FoldPolicy(fold.half_lives_s, fold.window_offsets, fold.window_entries)
    return FoldContext(
        store=held.store,
        fusion=held.fusion,
        taxonomy=held.taxonomy,
        spaces=held.state_spaces,
        names=held.spaces,
        policy=policy,
        prior_events=fold.prior_events,
        attempts=fold.attempts,
    )


def chunks(events: Sequence[EncodedEvent]) -> Iterator[list[EncodedEvent]]:
    """Split by user, so that no chunk passes the store's batch bound and no user is in two chunks."""
    by_user: dict[str, list[EncodedEvent]] = {}
    for event in events:
        by_user.setdefault(event.user_id, []).append(event)
    chunk: list[EncodedEvent] = []
    users = 0
    for own in by_user.values():
        if chunk and (users == USERS_AT_ONCE or len(chunk) + len(own) > EVENTS_AT_ONCE):
            yield chunk
            chunk, users = [], 0
        chunk += own
        users += 1
    if chunk:
        yield chunk


def fold_events(events: Sequence[EncodedEvent], context: FoldContext) -> Folded:
    """Fold events into the stored states of their users, each once, whatever else writes meanwhile.

    Gives back the profile of every live user touched and a row for every event of a live user that was
    applied or already seen, so that a repeated bundle also repeats its parquet rows.

    Raises StoreError after the bounded retries, StatelessUsersError and SpaceMismatchError at once.
    """
    numbers = np.frombuffer(b"".join(e.numbers for e in events), EVENT_DTYPE)
    names, user_of = np.unique(np.array([e.user_id for e in events], dtype=object), return_inverse=True)
    folded, kept = fold_numbers(names.tolist(), user_of, numbers, context)
    folded.events = event_batch(
        [e for e, keep in zip(events, kept, strict=True) if keep], context.names[0], context.taxonomy
    )
    return folded


def fold_numbers(
    users: Sequence[str],
    user_of: npt.NDArray[np.intp],
    numbers: npt.NDArray[Any],
    context: FoldContext,
    revisions: npt.NDArray[np.int64] | None = None,
) -> tuple[Folded, npt.NDArray[np.bool_]]:
    """:func:`fold_events` on arrays: events (EVENT_DTYPE [e]) of ``users[user_of[e]]``.

    ``revisions`` [users]: what is written gets greater ones. Second: bool [e], the events to keep rows of.
    """
    folded = Folded(outcomes=np.zeros(len(numbers), np.uint8))
    kept = np.zeros(len(numbers), bool)
    pending = np.arange(len(users))
    for attempt in range(context.attempts):
        place = np.full(len(users), -1)
        place[pending] = np.arange(len(pending))
        chosen = np.flatnonzero(place[user_of] >= 0)
        asked = [users[i] for i in pending.tolist()]
        records = _retry(lambda asked=asked: context.store.read_states(asked), context)  # type: ignore[misc]
        now_us = int(context.clock() * 1e6)
        before = unpack(records, context.spaces)
        own, batch = place[user_of[chosen]], numbers.take(chosen)
        result = fold(before, own, batch, context.policy, now_us)
        if revisions is not None:
            held = result.states.head["revision"]
            held[~result.unchanged] = np.maximum(held, revisions[pending] + 1)[~result.unchanged]
        erases = own[batch["kind"] == Kind.ERASE]
        won = _store(asked, before.head["revision"], result, erases, context, folded)
        done = won[own]
        folded.outcomes[chosen[done]] = result.outcome[done]
        live = ~result.states.erased[own]
        kept[chosen[done & live & np.isin(result.outcome, _ROWS)]] = True
        if context.counted:
            _count(result, done, batch, now_us)
        pending = pending[~won]
        if not len(pending):
            return folded, kept
        metrics.CONFLICTS.inc(len(pending))
        context.sleep(_wait_s(attempt))
    raise StoreError(
        f"fold: expected every compare-and-set to succeed within {context.attempts} attempts, "
        f"got {len(pending)} users still contended; are many jobs writing this store?"
    )


_ALARMS: Final = {
    Outcome.CONFLICT: "carry an id seen before with other content",
    Outcome.INVALID: "hold numbers that no encoder gives",
}
_ROWS: Final = np.array([Outcome.APPLIED, Outcome.SEEN], np.uint8)


def _store(
    users: Sequence[str],
    held: npt.NDArray[np.uint64],
    result: FoldResult,
    erases: npt.NDArray[np.intp],
    context: FoldContext,
    folded: Folded,
) -> npt.NDArray[np.bool_]:
    """Write the changed users; True where the store now holds the folded state. Adds rows of those.

    ``held`` [users]: the revisions that were read. ``erases``: users that an erase of this batch is about;
    one that took effect before a crash is told again.
    """
    states, changed = result.states, ~result.unchanged
    vectors = context.fusion.fuse(*fusion_inputs(states, context.policy))
    columns = profile_columns(states, vectors, context.taxonomy, *context.names, context.prior_events)
    views = encode_views(columns)
    packed = pack(states)
    head = states.head
    numbers = (held, head["revision"], np.maximum(head["last_event_us"], 0), head["created_us"])
    parts = zip(users, packed, views, states.erased.tolist(), *(n.tolist() for n in numbers), strict=True)
    writes = [
        ProfileWrite(user_id, expected, revision, record, None if erased else view, event_us, created_us)
        for is_new, (user_id, record, view, erased, expected, revision, event_us, created_us) in zip(
            changed.tolist(), parts, strict=True
        )
        if is_new
    ]
    won = ~changed
    if writes:
        won[changed] = _retry(lambda: context.store.compare_and_set(writes), context)
    metrics.PROFILES.inc(int((won & changed).sum()))
    shown = won & ~states.erased
    if shown.any():
        rows = profile_batch(users, columns)
        folded.profiles.append(rows if shown.all() else rows.filter(pa.array(shown)))  # it copies vectors
    told = changed.copy()
    told[erases] = True
    folded.erased += [users[i] for i in np.flatnonzero(won & told & states.erased).tolist()]
    return won


def _count(result: FoldResult, done: npt.NDArray[np.bool_], numbers: npt.NDArray[Any], now_us: int) -> None:
    for value, count in zip(*np.unique(result.outcome[done], return_counts=True), strict=True):
        metrics.EVENTS.labels(outcome=Outcome(value).name.lower()).inc(int(count))
        if value in _ALARMS:
            _LOG.error("fold: %d events %s; they are dropped", count, _ALARMS[value])
    if result.shortened:
        metrics.WINDOW_ENTRIES_CUT.inc(result.shortened)
        _LOG.warning("fold: %d anti-replay entries were given up to fold.window_entries", result.shortened)
    for age_us in now_us - numbers["record_time_us"][done & (result.outcome == Outcome.APPLIED)]:
        metrics.FRESHNESS_SECONDS.observe(max(0.0, age_us / 1e6))


def _retry(call: Callable[[], _T], context: FoldContext) -> _T:
    """Repeat a store call with full jitter (AWS Architecture Blog, 2015); the last error goes up."""
    for attempt in range(context.attempts):
        try:
            return call()
        except StatelessUsersError:
            raise
        except StoreError as error:
            if attempt == context.attempts - 1:
                raise
            _LOG.warning("fold: store failed (%s), attempt %d of %d", error, attempt + 1, context.attempts)
            context.sleep(_wait_s(attempt))
    raise AssertionError("unreachable: attempts is at least 1")


def _wait_s(attempt: int) -> float:
    return random.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt))  # noqa: S311 - jitter, no secret

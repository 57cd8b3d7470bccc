"""``portrait rebuild``: fold the ``events`` table into the online store.

It is the run's own fold (states, windows, compare-and-set), so what the store already holds changes
nothing, a killed rebuild is simply run again, and a pipeline may run beside it. An empty store is filled;
users whom ``feast materialize`` loaded without a state, or whose state is damaged, are made anew; a user of
whom only a part is there is completed. Who is erased is learnt first: from the store's own tombstones, from
another store's, and from the controls topic.

Needs the ``events`` rows of this event space: ``profiles`` rows hold no state and are no source.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from features.fold.outcome import Outcome
from features.fold.packed_state import RecordError
from features.online import ProfileStore, StatelessUsersError
from features.online.open import open_store
from features.online.repair import remove_unusable
from features.schema import JOIN_KEY, visible
from features.tables.compact import exclusive
from features.tables.events_by_user import UserEvents, events_by_user
from features.tables.files import files_of
from features.tables.merge import Limits
from features.tables.schema import HistoryError
from features.tables.writer import HistoryWriter
from pipelines.operations.import_tombstones import Controls, fold_controls, import_marks
from pipelines.runners.prepare import ready_store
from pipelines.settings import Settings
from pipelines.steps.fold import FoldContext, Folded, fold_context, fold_numbers

_FLUSH_S: Final = 60.0
_FLUSH_BYTES: Final = 128 << 20
_SAY_EVERY_S: Final = 2.0
_AT_ONCE: Final = 2
"""Batches of users folded at once: one computes while the store works on the other's.

With a Redis on a core of its own, two take a quarter less time than one. Where rebuild and Redis share one
core, two cost a sixth more processor time.
"""


@dataclass
class Rebuilt:
    """What a rebuild did."""

    users: int = 0
    rebuilt: int = 0
    """Users that got events which the store had not met."""
    healed: int = 0
    """Of them: users who had views without a state, or a damaged one."""
    events: int = 0
    applied: int = 0
    erased: int = 0
    """Users with rows who are erased: nothing was made of them."""
    tombstones_imported: int = 0
    controls_read: int = 0
    seconds: float = 0.0
    events_per_second: int = 0
    left_alone: list[str] = field(default_factory=list)
    """Users whose state is damaged and who are not served: they may be erased."""

    def add(self, part: Rebuilt) -> None:
        """Count what was done with some more users."""
        for name in ("users", "rebuilt", "healed", "events", "applied", "erased", "left_alone"):
            setattr(self, name, getattr(self, name) + getattr(part, name))

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    def as_text(self) -> str:
        lines = [
            f"rebuilt {self.rebuilt} of {self.users} users from {self.events} events, {self.applied} of "
            f"them new to the store, in {self.seconds:.1f} s, {self.events_per_second} a second",
            f"healed {self.healed} users without a usable state; {self.erased} erased users stay erased "
            f"({self.tombstones_imported} tombstones imported, {self.controls_read} controls read)",
        ]
        left = [f"left alone, its state is damaged: {visible(user)}" for user in self.left_alone]
        return "\n".join(lines + left)


def rebuild(
    settings: Settings,
    *,
    controls: bool = True,
    tombstones_from: Path | None = None,
    limits: Limits | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Rebuilt:
    """Fold every event of the ``events`` table into the store; see the module.

    ``controls``: read the controls topic too. ``tombstones_from``: a feature repo whose store has
    tombstones. Raises HistoryError, CompactError while files are replaced, KafkaFailureError, StoreError.
    """
    ready_store(settings)
    report, context = Rebuilt(), fold_context(settings)
    if not files_of(settings.history.dir, "events"):
        raise HistoryError(
            f"{settings.history.dir}: expected files of the table events, got none; see history.dir, or fill "
            "the store from Kafka with `portrait run`"
        )
    if tombstones_from is not None:
        report.tombstones_imported = _import_from(tombstones_from, context)
        progress(f"imported {report.tombstones_imported} tombstones of {tombstones_from}")
    said = fold_controls(settings, context) if controls else Controls()
    report.controls_read = said.read
    fold_table(settings.history.dir, context, report, said.ended_us, limits, progress)
    return report


def fold_table(
    directory: Path,
    context: FoldContext,
    report: Rebuilt,
    ended_us: Mapping[str, int] = MappingProxyType({}),
    limits: Limits | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> None:
    """Fold all events of the table; new profiles become rows of ``profiles``. Counts in ``report``.

    ``ended_us``: users → record time (µs) up to which their events are left out.
    """
    context = replace(context, counted=False)
    started_s = said_s = time.monotonic()
    writer = HistoryWriter(directory, _FLUSH_S, _FLUSH_BYTES)
    with exclusive(directory):  # no file may go while they are read
        users = events_by_user(directory, context.names[0], context.taxonomy, limits=limits)
        for part in _side_by_side(lambda some: _fold_users(_after(some, ended_us), context, writer), users):
            report.add(part)
            if writer.due():
                writer.flush()
            if time.monotonic() - said_s >= _SAY_EVERY_S:
                said_s = time.monotonic()
                progress(f"{report.users} users, {report.events} events")
        writer.flush()
    report.seconds = round(time.monotonic() - started_s, 3)
    report.events_per_second = int(report.events / max(report.seconds, 1e-3))


def _side_by_side(work: Callable[[UserEvents], Rebuilt], batches: Iterable[UserEvents]) -> Iterator[Rebuilt]:
    """The work on each batch, in their order; no batch is read long before its turn."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begun: deque[Future[Rebuilt]] = deque()
        for some in batches:
            begun.append(pool.submit(work, some))
            if len(begun) > _AT_ONCE:
                yield begun.popleft().result()
        for last in begun:
            yield last.result()


def _import_from(repo: Path, context: FoldContext) -> int:
    source = open_store(repo)
    try:
        return import_marks(source, context.store, context.spaces, context.clock)
    finally:
        source.close()


def _after(some: UserEvents, ended_us: Mapping[str, int]) -> UserEvents:
    """Without the events that readmitted users had before their last erase, where only its time is known."""
    if not (limits := [ended_us.get(user, -1) for user in some.users]) or max(limits) < 0:
        return some
    kept = some.numbers["record_time_us"] > np.array(limits, np.int64)[some.user_of]
    return UserEvents(some.users, some.revisions, some.user_of[kept], some.numbers[kept])


def _fold_users(some: UserEvents, context: FoldContext, writer: HistoryWriter) -> Rebuilt:
    """Fold the events of some users; their new profiles become rows of ``profiles``."""
    report = Rebuilt()
    try:
        folded, _ = _fold(some, context)
    except (StatelessUsersError, RecordError):
        some = _heal(some, context.store, report)
        folded, _ = _fold(some, context)
    report.users += len(some.users)
    report.events += len(some.numbers)
    applied = folded.outcomes == Outcome.APPLIED
    report.applied += int(applied.sum())
    changed = np.unique(some.user_of[applied])
    report.rebuilt += len(changed)
    erased = np.unique(some.user_of[folded.outcomes == Outcome.ABSORBED])
    report.erased += len(np.setdiff1d(erased, changed))
    names = pa.array(some.users, pa.string())
    for batch in folded.profiles:
        # Those newer than the table's: a killed rebuild may have stored unwritten ones.
        place = pc.index_in(batch.column(JOIN_KEY), value_set=names).to_numpy()
        newer = batch.column("revision").to_numpy() > some.revisions[place]
        writer.add("profiles", batch if newer.all() else batch.filter(pa.array(newer)))
    return report


def _fold(some: UserEvents, context: FoldContext) -> tuple[Folded, npt.NDArray[Any]]:
    return fold_numbers(some.users, some.user_of, some.numbers, context, some.revisions)


def _heal(some: UserEvents, store: ProfileStore, report: Rebuilt) -> UserEvents:
    """Remove what is there of users that cannot be folded; those who may be erased are left out instead."""
    healed, unknown = remove_unusable(store, some.users)
    report.healed += len(healed)
    report.left_alone += unknown
    if not unknown:
        return some
    stay = np.array([user not in unknown for user in some.users])
    kept = stay[some.user_of]
    users = [user for user, stays in zip(some.users, stay, strict=True) if stays]
    place = np.cumsum(stay) - 1
    return UserEvents(users, some.revisions[stay], place[some.user_of[kept]], some.numbers[kept])

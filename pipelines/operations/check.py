"""``portrait check``: recompute users from the ``events`` table and compare them with the online store.

A run writes the store every round and parquet every few seconds, so a user who is being written may look
different for a moment: whoever differs and was written lately is looked at again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.atomic_file import whole_file
from features.errors import PortraitError
from features.fold.differences import differing, differing_numbers
from features.fold.fold import fold, fusion_inputs
from features.fold.packed_state import Array, RecordError, States, read_mark, unpack
from features.online import ServedUser
from features.online.decode import DECODERS
from features.online.erased_users import marks
from features.profile.columns import profile_columns
from features.schema import EVENT_DTYPE, PROFILE_FIELDS, visible
from features.tables.events_by_user import UserEvents, distinct_users, events_by_user
from pipelines.runners.prepare import ready_store
from pipelines.settings import Settings
from pipelines.steps.fold import FoldContext, fold_context

_USERS_AT_ONCE: Final = 500
_LOOKS: Final = 3
_LATELY_S: Final = 60.0

_COMPARED: Final = tuple(
    (place, field)
    for place, field in enumerate(PROFILE_FIELDS)
    if field.type in ("vector", "float", "int") and field.name not in ("revision", "confidence")
)
"""What of a served profile is compared with one made from the recomputed state. (Strings follow from it.)"""


@dataclass(frozen=True)
class Mismatch:
    """A user whom the store and the ``events`` table tell differently about."""

    user_id: str
    reason: str
    """``absent``, ``stateless``, ``damaged``, or the fields that differ."""


@dataclass
class Checked:
    """What a check found."""

    users: int = 0
    events: int = 0
    erased: int = 0
    """Users of the sample who are erased, and are compared with nothing."""
    erased_with_rows: int = 0
    """Of them: those with rows that ``portrait erase`` has yet to remove."""
    mismatches: list[Mismatch] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.mismatches

    def as_json(self) -> str:
        return visible(json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False))

    def as_text(self) -> str:
        lines = [
            f"checked {self.users} users against {self.events} events in {self.seconds:.1f} s: "
            f"{len(self.mismatches)} differ; {self.erased} are erased, {self.erased_with_rows} of them with "
            "rows still to be removed"
        ]
        return "\n".join(lines + [f"{visible(m.user_id)}: {m.reason}" for m in self.mismatches])


def check(
    settings: Settings,
    sample: int | None,
    *,
    seed: int | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Checked:
    """Compare ``sample`` users (None: all) of the tables with the store; writes to neither.

    Raises HistoryError, StoreError, and PortraitError for a store of another space.
    """
    ready_store(settings, claim=False)
    started_s = clock()
    context, directory = fold_context(settings), settings.history.dir
    users = distinct_users(directory, context.names[0], sample, seed)
    result = Checked(users=len(users))
    for look in range(_LOOKS):
        found = _look(users, directory, context, result if look == 0 else Checked())
        lately_us = int((clock() - max(_LATELY_S, 4 * settings.history.flush_s)) * 1e6)
        again = [m.user_id for m, written_us in found if written_us >= lately_us]
        result.mismatches += [m for m, written_us in found if written_us < lately_us or look == _LOOKS - 1]
        if not again or look == _LOOKS - 1:
            break
        users = again
        sleep(settings.history.flush_s + 1)
    result.mismatches.sort(key=lambda mismatch: mismatch.user_id)
    result.seconds = round(clock() - started_s, 3)
    return result


def _look(
    users: Sequence[str], directory: Path, context: FoldContext, counts: Checked
) -> list[tuple[Mismatch, int]]:
    """Who differs, and when they were last written (µs)."""
    found: list[tuple[Mismatch, int]] = []
    with_rows: set[str] = set()
    for some in events_by_user(directory, context.names[0], context.taxonomy, users):
        with_rows.update(some.users)
        counts.events += len(some.numbers)
        found += _compare(some, context, counts)
    rest = [user for user in users if user not in with_rows]
    for start in range(0, len(rest), _USERS_AT_ONCE):
        own = rest[start : start + _USERS_AT_ONCE]
        none = np.zeros(0, np.int64)
        found += _compare(UserEvents(own, none, none, np.zeros(0, EVENT_DTYPE)), context, counts)
    return found


def _compare(some: UserEvents, context: FoldContext, counts: Checked) -> list[tuple[Mismatch, int]]:
    held = context.store.read_views(some.users, records=True)
    rows = np.bincount(some.user_of, minlength=len(some.users))
    found: list[tuple[Mismatch, int]] = []
    chosen: list[int] = []
    for i, (user, (values, record)) in enumerate(zip(some.users, held, strict=True)):
        if record is None:
            if values is not None or rows[i]:
                found.append((Mismatch(user, "absent" if values is None else "stateless"), 0))
            continue
        try:
            erased, _ = read_mark(record)
        except RecordError:
            found.append((Mismatch(user, "damaged"), 0))
            continue
        counts.erased += erased
        counts.erased_with_rows += erased and bool(rows[i])
        if not erased:
            chosen.append(i)
    states = unpack([held[i].record for i in chosen], context.spaces)
    place = np.full(len(some.users), -1)
    place[chosen] = np.arange(len(chosen))
    kept = place[some.user_of] >= 0
    again = fold(marks(states), place[some.user_of[kept]], some.numbers[kept], context.policy, 0).states
    reasons = _reasons(states, again, [held[i] for i in chosen], context)
    written_us = states.head["created_us"].tolist()
    return found + [(Mismatch(some.users[chosen[n]], reason), written_us[n]) for n, reason in reasons.items()]


def _reasons(
    states: States, again: States, held: Sequence[ServedUser], context: FoldContext
) -> Mapping[int, str]:
    """Place of each user who differs → the fields."""
    fields: dict[int, list[str]] = {}
    for name, users in differing(states.head, again.head).items():
        for n in np.flatnonzero(users).tolist():
            fields.setdefault(n, []).append(name)
    for name, users in _differing_views(states, again, held, context).items():
        for n in np.flatnonzero(users).tolist():
            fields.setdefault(n, []).append(f"served {name}")
    return {n: ", ".join(names) for n, names in sorted(fields.items())}


def _differing_views(
    states: States, again: States, held: Sequence[ServedUser], context: FoldContext
) -> dict[str, npt.NDArray[np.bool_]]:
    """Served field → bool [n]; users fused in another space, or not served yet, are left out."""
    head: Array = states.head
    served = np.array([user.values is not None for user in held], bool)
    served &= head["profile_space"] == np.uint64(context.spaces.profile)
    chosen = np.flatnonzero(served)
    if not len(chosen):
        return {}
    vectors = context.fusion.fuse(*fusion_inputs(again, context.policy))
    columns = profile_columns(again, vectors, context.taxonomy, *context.names)
    found = {}
    for place, column in _COMPARED:
        decode = DECODERS[column.type]
        values = [decode((held[n].values or ())[place]) for n in chosen.tolist()]
        made = np.asarray(columns[column.name])[chosen]
        nothing = np.full(made.shape[1:], np.nan if column.type == "float" else 0)
        other = np.array([nothing if value is None else value for value in values], np.float64)
        differs = np.zeros(len(held), bool)
        differs[chosen] = differing_numbers(made.astype(np.float64), other.reshape(made.shape))
        if differs.any():
            found[column.name] = differs
    return found


def write_metrics(result: Checked, file: Path, clock: Callable[[], float] = time.time) -> None:
    """The figures in Prometheus' text format, for the node exporter's textfile collector; whole or not.

    Raises PortraitError when the disk refuses.
    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    figures: dict[str, tuple[str, Any]] = {
        "portrait_check_users": ("users of the sample", result.users),
        "portrait_check_mismatches": ("users of whom store and events disagree", len(result.mismatches)),
        "portrait_check_erased_with_rows": ("erased users with rows to be removed", result.erased_with_rows),
        "portrait_check_timestamp_seconds": ("when the check ended", clock()),
    }  # fmt: skip
    for name, (meaning, value) in figures.items():
        Gauge(name, meaning, registry=registry).set(value)
    try:
        with whole_file(file) as out:
            out.write(generate_latest(registry))
    except OSError as error:
        raise PortraitError(
            f"{file}: expected a file that can be written, got {error.strerror}; name another with "
            "--metrics-file"
        ) from error

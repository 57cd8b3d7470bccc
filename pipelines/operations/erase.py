"""``portrait erase`` and ``portrait readmit``: ask for it, follow it through every store, say how it stands.

The online store's tombstone is the erase: the run writes it when it reads the control event, and from then
on nothing of the user is served or folded. What was written before follows here, each step repeatable:
rows of both parquet tables, the index of similar users, dead letters; the run itself sends the changelog's
deletion record, and keeps no dead letter of an erased user. Nothing is kept about a job: where it stands is
read from the stores, so a killed one is simply run again.

A run may still hold rows of the user that it folded before the erase. They are in parquet once its mirrored
positions have passed the control event (or ten minutes later, where nobody mirrors positions): only then can
the tables count as done. The retention of the source topics is outside our reach.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Final, Literal

from features.errors import PortraitError, UsageError
from features.online import ProfileStore
from features.online.erased_users import Erased, erased_among, erased_users
from features.tables.compact import GRACE_S, CompactError
from features.tables.erase import TableErased, remove_users, rows_left
from features.tables.schema import SIMILAR
from pipelines.kafka.client import KafkaFailureError
from pipelines.kafka.producer import Sender
from pipelines.kafka.safe_offsets import POSITIONS
from pipelines.kafka.topics import topics_info
from pipelines.messages.envelope import user_id
from pipelines.messages.parse import topic_key
from pipelines.messages.record import RecordError
from pipelines.operations.erase_dead_letters import letters_left, remove_letters
from pipelines.process import worker
from pipelines.settings import Settings

State = Literal["done", "pending", "absent"]
"""absent: there is no such store here."""


@dataclass
class StoreStatus:
    """Where an erase stands in one store."""

    store: str
    state: State = "pending"
    users_done: int = 0
    removed: int = 0
    """Rows, letters or entries that this run removed."""
    at: str = ""
    """When it was last looked at (ISO 8601, UTC)."""
    note: str = ""


@dataclass
class Receipt:
    """Where an erase stands everywhere. Names users, never anything about them."""

    users: int
    requested: int
    """Users whom this run asked to erase; the others were erased already."""
    user_ids: list[str]
    stores: list[StoreStatus] = field(default_factory=list)
    started: str = ""
    ended: str = ""

    @property
    def done(self) -> bool:
        return all(status.state != "pending" for status in self.stores)

    def as_json(self) -> str:
        return json.dumps({"done": self.done, **asdict(self)})

    def as_text(self) -> str:
        lines = [f"erase of {self.users} users, {self.requested} of them asked for now ({self.ended})"]
        for status in self.stores:
            removed = f", {status.removed} removed" if status.removed else ""
            note = f": {status.note}" if status.note else ""
            counts = (
                "" if status.state == "absent" else f"  {status.users_done} of {self.users} users{removed}"
            )
            lines.append(f"  {status.store:20} {status.state:8}{counts}{note}")
        if not self.done:
            lines.append("not done everywhere: run it again, or with --wait")
        return "\n".join(lines)


SETTLED_S: Final = 600.0
"""After so long no run holds rows from before an erase in memory."""
_LOOK_EVERY_S: Final = 0.5


@dataclass(frozen=True)
class Clock:
    """Time, injected in tests."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def text(self) -> str:
        return (
            datetime.fromtimestamp(self.now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )


def check_ids(users: Sequence[str]) -> list[str]:
    """The users, each once. Raises UsageError for what is no user id."""
    for number, user in enumerate(users, 1):
        try:
            user_id(user)
        except RecordError as error:
            raise UsageError(f"user {number}: {error.detail}; correct it: nothing was sent") from None
    return list(dict.fromkeys(users))


def erase_users(
    settings: Settings,
    users: Sequence[str] | None,
    *,
    wait_s: float = 0.0,
    grace_s: float = GRACE_S,
    clock: Clock = Clock(),
    progress: Callable[[str], object] = lambda _: None,
) -> Receipt:
    """Ask for the erase of those who are not erased yet, and remove what is left of those who are.

    ``users`` None: everybody whom the store knows as erased, whoever asked. ``wait_s``: how long to wait
    until all is done; 0: do what can be done now. Raises UsageError, StoreError, KafkaFailureError where a
    control event cannot be sent, EraseError.
    """
    job = _Job(settings, clock, grace_s, progress)
    if users is None:
        names, asked = [], 0
    else:
        names = check_ids(users)
        waiting = [user for user in names if user not in job.erased(names)]
        send_controls(settings, "erase", waiting)
        asked = len(waiting)
        progress(f"asked to erase {asked} users; {len(names) - asked} are erased already")
    receipt = Receipt(len(names), asked, names, started=clock.text())
    deadline_s = clock.now() + wait_s
    while True:
        erased = job.everybody() if users is None else job.erased(names)
        if users is None:
            receipt.users, receipt.user_ids = len(erased), sorted(erased)
        late = clock.now() >= deadline_s
        if late or job.is_settled(erased, receipt.users):
            receipt.stores = job.follow(erased, receipt.users)
            receipt.ended = clock.text()
            if receipt.done or late:
                return receipt
        clock.sleep(_LOOK_EVERY_S)


def readmit_users(settings: Settings, users: Sequence[str], clock: Clock = Clock()) -> tuple[int, int]:
    """Ask for the re-admission of users whose erase is done; how many, and how many were not erased.

    Raises UsageError, PortraitError while anything of one of them is left: once she is live, what belongs
    to before could no longer be told from the new.
    """
    names = check_ids(users)
    job = _Job(settings, clock, 0.0, lambda _: None)
    erased = {user: mark for user, mark in job.erased(names).items() if not mark.readmitted}
    left = rows_left(settings.history.dir, erased.values())
    letters = letters_left(settings, list(erased)) if erased else None
    held = set[str]().union(*(table.users for table in left.values()), letters.users if letters else ())
    if held or not job.is_settled(erased, len(erased)):
        raise PortraitError(
            f"readmit: expected users whose erase is done, got {max(1, len(held))} of {len(erased)} with "
            "rows or letters left; finish it: portrait erase --wait with the same users"
        )
    send_controls(settings, "readmit", list(erased))
    return len(erased), len(names) - len(erased)


def send_controls(settings: Settings, kind: Literal["erase", "readmit"], users: Sequence[str]) -> None:
    """Send a control event of each user, keyed by user, acknowledged when this returns.

    Raises KafkaFailureError naming the topic where it is missing.
    """
    if not users:
        return
    topic = settings.kafka.topics.controls
    topics_info(settings.kafka, [topic])
    sender = Sender(settings.kafka)
    try:
        for user in users:
            headers = {
                "ce_specversion": "1.0",
                "ce_id": str(uuid.uuid4()),  # an id of its own: an erase after a re-admission is another one
                "ce_source": "portrait",
                "ce_type": f"portrait.{kind}.v1",
                "ce_time": datetime.now(UTC).isoformat(timespec="microseconds"),
                "ce_subject": user,
                "content-type": "application/json",
            }
            sender.send(
                topic, user.encode(), b"{}", [(name, text.encode()) for name, text in headers.items()]
            )
    finally:
        sender.close()


class _Job:
    """One pass after the other over the stores."""

    def __init__(
        self, settings: Settings, clock: Clock, grace_s: float, progress: Callable[[str], object]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._grace_s = grace_s
        self._progress = progress
        self._store: ProfileStore = worker(settings).store
        self._removed: dict[str, int] = {}

    def erased(self, users: Sequence[str]) -> dict[str, Erased]:
        """Those of the users whom the store holds as tombstones now."""
        return erased_among(self._store, users)

    def everybody(self) -> dict[str, Erased]:
        """All whom the store knows as erased, now or once."""
        return {user.user_id: user for user in erased_users(self._store)}

    def is_settled(self, erased: dict[str, Erased], users: int) -> bool:
        """Whether all are erased and no run holds rows of them any more."""
        return len(erased) == users and all(self._flushed(erased).values())

    def _flushed(self, erased: dict[str, Erased]) -> dict[str, bool]:
        mirrored = {
            (topic_key(position.topic_id), position.partition): offset
            for position, offset in self._store.read_positions(POSITIONS).items()
        }
        settled = self._clock.now() - SETTLED_S
        return {
            user: mark.at.timestamp() < settled
            or mark.erase is None
            or mirrored.get(mark.erase[:2], -1) > mark.erase[2]
            for user, mark in erased.items()
        }

    def follow(self, erased: dict[str, Erased], users: int) -> list[StoreStatus]:
        """Remove what is left of the erased, everywhere; where it stands then."""
        flushed = sum(self._flushed(erased).values())
        statuses = chain(
            [self._online(len(erased), users)],
            self._tables(erased, flushed, users),
            [
                self._similar(erased, users),
                self._changelog(flushed, users),
                self._letters(erased, flushed, users),
            ],
        )
        done = []
        for status in statuses:
            status.at = self._clock.text()
            done.append(status)
        return done

    def _online(self, erased: int, users: int) -> StoreStatus:
        if erased == users:
            return StoreStatus("online store", "done", erased)
        note = f"{users - erased} control events are not read yet; is portrait run running?"
        return StoreStatus("online store", "pending", erased, note=note)

    def _tables(self, erased: dict[str, Erased], flushed: int, users: int) -> Iterator[StoreStatus]:
        try:
            removed = remove_users(
                self._settings.history.dir, erased.values(), grace_s=self._grace_s, progress=self._progress
            )
        except CompactError as error:
            yield from (StoreStatus(f"{table} parquet", note=str(error)) for table in ("events", "profiles"))
            return
        left = rows_left(self._settings.history.dir, erased.values())
        for table, found in removed.items():
            yield self._table(table, found, left[table], flushed, users)

    def _table(
        self, table: str, removed: TableErased, left: TableErased, flushed: int, users: int
    ) -> StoreStatus:
        status = StoreStatus(f"{table} parquet", removed=self._count(table, removed.rows))
        status.users_done = max(0, flushed - len(left.users))
        if left.left_alone:
            status.note = "cannot be looked into: " + "; ".join(left.left_alone)
        elif left.rows:
            status.note = f"{left.rows} rows came meanwhile"
        elif flushed < users:
            status.note = "a run may still hold rows: it has not written past the control events yet"
        else:
            status.state = "done"
        return status

    def _count(self, store: str, more: int) -> int:
        self._removed[store] = self._removed.get(store, 0) + more
        return self._removed[store]

    def _similar(self, erased: dict[str, Erased], users: int) -> StoreStatus:
        name = "similar users index"
        gone = [user for user, mark in erased.items() if not mark.readmitted]
        if not (self._settings.history.dir / SIMILAR).is_dir():
            return StoreStatus(name, "absent")
        try:
            from features.similar.index import SimilarUsers

            removed = SimilarUsers(self._settings.history.dir).remove(gone)
        except (PortraitError, ImportError) as error:
            return StoreStatus(name, note=str(error))
        state: State = "done" if len(erased) == users else "pending"
        return StoreStatus(name, state, len(erased), self._count(name, removed))

    def _changelog(self, flushed: int, users: int) -> StoreStatus:
        if not self._settings.outputs.changelog:
            return StoreStatus("changelog", "absent")
        note = "" if flushed == users else "the run sends a deletion record with each tombstone"
        return StoreStatus("changelog", "done" if flushed == users else "pending", flushed, note=note)

    def _letters(self, erased: dict[str, Erased], flushed: int, users: int) -> StoreStatus:
        """Done once no run is among records that it read before the erase: later ones leave no letter."""
        gone = [user for user, mark in erased.items() if not mark.readmitted]
        try:
            removed = remove_letters(self._settings, gone) if gone else None
        except KafkaFailureError as error:
            return StoreStatus("dead letters", note=str(error))
        state: State = "done" if flushed == users else "pending"
        return StoreStatus(
            "dead letters", state, flushed, self._count("letters", removed.letters if removed else 0)
        )

"""The ledger of a backfill: what the live job applied against what the fresh one did."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from features.online import ProfileStore
from features.online.erased_users import erased_users, tombstones
from features.tables.files import files_of, first_problem
from features.tables.schema import HistoryError
from pipelines.operations.check import check
from pipelines.settings import Settings

_KEY: Final = "user_id, source, event_id"


@dataclass
class Ledger:
    """All but ``users``, ``events`` and ``extra`` must be 0. Users who were ever erased are left out."""

    users_live: int = 0
    users_fresh: int = 0
    events_live: int = 0
    events_fresh: int = 0
    missing: int = 0
    """Events that the live job applied and the fresh one has not: rejected now, or gone from the source."""
    extra: int = 0
    """Events of the fresh one alone: the live job applies them later, or had rejected them."""
    divergence: int = 0
    """Users of whom the fresh store and its own events table disagree."""
    not_erased: int = 0
    """Users erased in the live store and not in the fresh one."""

    @property
    def clean(self) -> bool:
        return not (self.missing or self.divergence or self.not_erased)

    def as_text(self) -> str:
        return (
            f"ledger: {self.events_fresh} events of {self.users_fresh} users beside the live "
            f"{self.events_live} of {self.users_live}: {self.missing} missing, {self.extra} more; "
            f"{self.divergence} users diverge, {self.not_erased} erased users are not erased"
        )


def compare(live: ProfileStore, live_dir: Path, fresh: ProfileStore, settings: Settings) -> Ledger:
    """Compare a live store and its tables with the fresh ones of ``settings``; changes nothing.

    Raises HistoryError for files that are not of the tables, StoreError.
    """
    erased = {user.user_id for store in (live, fresh) for user in erased_users(store)}
    ledger = Ledger(not_erased=len(tombstones(live) - tombstones(fresh)))
    with duckdb.connect(config={"threads": 2}) as db:
        _load(db, "live", live_dir, live, erased)
        _load(db, "fresh", settings.history.dir, fresh, erased)
        for name in ("live", "fresh"):
            query = f"SELECT count(DISTINCT user_id), count(*) FROM {name}"  # noqa: S608
            ((users, events),) = db.execute(query).fetchall()
            setattr(ledger, f"users_{name}", users)
            setattr(ledger, f"events_{name}", events)
        ledger.missing, ledger.extra = (
            db.execute(f"SELECT count(*) FROM {a} ANTI JOIN {b} USING ({_KEY})").fetchall()[0][0]  # noqa: S608
            for a, b in (("live", "fresh"), ("fresh", "live"))
        )
    ledger.divergence = len(check(settings, None).mismatches)
    return ledger


def _load(
    db: duckdb.DuckDBPyConnection, name: str, folder: Path, store: ProfileStore, erased: Collection[str]
) -> None:
    """A table of the distinct content events of the store's space."""
    if problem := first_problem(folder, "events") if folder.is_dir() else None:
        raise HistoryError(problem)
    db.execute(f"CREATE TEMP TABLE {name} (user_id VARCHAR, source VARCHAR, event_id VARCHAR)")
    if not files_of(folder, "events"):
        return
    files = str(folder / "events" / "dt=*" / "*.parquet").replace("'", "''")
    db.execute(
        f"INSERT INTO {name} SELECT DISTINCT {_KEY} FROM read_parquet('{files}', hive_partitioning = false) "  # noqa: S608
        "WHERE kind = 'content' AND ($space IS NULL OR event_space = $space) "
        "AND user_id NOT IN (SELECT unnest($erased))",
        {"space": (store.read_space() or (None,))[0], "erased": sorted(erased)},
    )

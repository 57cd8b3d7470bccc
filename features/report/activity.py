"""Events and users over time, from ``events_unique``, in days, weeks or months."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import duckdb

from features.schema import MODALITIES

EVENTS_COUNTED: Final = 2_000_000
"""Rows that are counted one by one; of more, those of a share of the users stand for all."""

Unit = Literal["day", "week", "month"]
_LONGEST: Final[tuple[tuple[timedelta, Unit], ...]] = (
    (timedelta(days=92), "day"),
    (timedelta(days=730), "week"),
)


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts by bin of event time; every bin from the first to the last event is there."""

    first: datetime
    last: datetime
    rows: int  # in the period, those that came twice counted twice
    unit: Unit
    bins: list[datetime]  # their first instants
    events: dict[str, list[int]]  # modality → events of each bin
    active: list[int]  # users with an event in the bin
    known: list[int]  # users whose first event lies before the end of the bin
    share: float  # 0..1: of the users that were counted; the figures are scaled to all


_SPAN: Final = """
SELECT min(event_time), max(event_time), count(*) FROM events
WHERE kind = 'content' AND event_time <= getvariable('as_of') AND event_time >= $since
"""
_COUNTS: Final = """
WITH counted AS (
    SELECT date_trunc(getvariable('unit'), event_time) AS bin, modality, user_id
    FROM events_unique ANTI JOIN tombstones USING (user_id)
    WHERE hash(user_id) <= getvariable('share_activity') AND kind = 'content'
        AND event_time BETWEEN getvariable('start') AND getvariable('as_of')
)
SELECT bin, modality, count(*), count(DISTINCT user_id) FROM counted
GROUP BY GROUPING SETS ((bin, modality), (bin))
"""
_BINS: Final = """
SELECT unnest(generate_series(
    date_trunc(getvariable('unit'), $first), $last, CAST('1 ' || getvariable('unit') AS INTERVAL)
))
"""
_FIRST_EVENTS: Final = """
SELECT date_trunc(getvariable('unit'), first_event) AS bin, count(*) FROM latest
WHERE first_event IS NOT NULL GROUP BY 1
"""


def take_share(db: duckdb.DuckDBPyConnection, name: str, wanted: int, there: int) -> None:
    """Set the variable ``share_<name>``: the greatest hash of a sample of about ``wanted`` of ``there``."""
    greatest = (1 << 64) - 1
    limit = greatest if there <= wanted else greatest * wanted // there
    db.execute(f"SET VARIABLE share_{name} = {limit}::UBIGINT")


def measure_activity(
    db: duckdb.DuckDBPyConnection, since: datetime | None, as_of: datetime
) -> Activity | None:
    """Activity from ``since`` up to ``as_of``; None: no event.

    ``db`` has ``latest`` and ``tombstones``, and ``as_of`` as a variable too.
    """
    earliest = since or datetime(1, 1, 1, tzinfo=as_of.tzinfo)
    first, last, rows = db.execute(_SPAN, {"since": earliest}).fetchall()[0]
    if not rows:
        return None
    unit: Unit = next((unit for longest, unit in _LONGEST if last - first <= longest), "month")
    share = min(1.0, EVENTS_COUNTED / rows)
    db.execute("SET VARIABLE unit = $value", {"value": unit})
    db.execute("SET VARIABLE start = $value", {"value": first})
    take_share(db, "activity", EVENTS_COUNTED, rows)
    bins = [row[0] for row in db.execute(_BINS, {"first": first, "last": last}).fetchall()]
    events = {name: dict.fromkeys(bins, 0) for name in MODALITIES[:3]}
    active = dict.fromkeys(bins, 0)
    for bin_, modality, count, users in db.execute(_COUNTS).fetchall():
        if modality is None:
            active[bin_] = round(users / share)
        elif modality in events:
            events[modality][bin_] = round(count / share)
    return Activity(
        first=first,
        last=last,
        rows=rows,
        unit=unit,
        bins=bins,
        events={name: list(counts.values()) for name, counts in events.items()},
        active=list(active.values()),
        known=_known(db, bins),
        share=share,
    )


def _known(db: duckdb.DuckDBPyConnection, bins: list[datetime]) -> list[int]:
    by_bin = dict(db.execute(_FIRST_EVENTS).fetchall())
    total = sum(count for bin_, count in by_bin.items() if bin_ < bins[0])
    known = []
    for bin_ in bins:
        total += by_bin.get(bin_, 0)
        known.append(total)
    return known

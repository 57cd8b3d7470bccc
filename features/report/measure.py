"""What the report says, as numbers: measured over the views of the parquet tables in bounded memory.

Figures over all users come from narrow columns. Everything that needs vectors or tags is taken from
users sampled by the hash of their id: the filter reaches the parquet scan, so that the rest is never
held. :mod:`features.report.page` makes the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.audience.find import NEVER, NOBODY
from features.errors import UsageError
from features.report.activity import Activity, measure_activity, take_share
from features.report.drift import DriftTable, measure_content_drift, measure_profile_drift, stack
from features.report.groups import Group, Tag, measure_groups, measure_interests
from features.report.vector_drift import Vectors
from features.schema import EMBEDDING_DIM, JOIN_KEY, MODALITIES
from features.tables.views import ask

USERS_SAMPLED: Final = 20_000
"""Users whose tags and vectors are read: shares are within 0.7 points of the truth (95 %)."""
MAP_POINTS: Final = 3_000
MEMORY: Final = "1GB"
"""What DuckDB may take before it spills to disk."""

AGE_BANDS: Final = ((1, "less than a day"), (7, "1 to 7 days"), (14, "7 to 14 days"), (40, "14 to 40 days"),
                    (180, "40 to 180 days"), (None, "more than 180 days"))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: users of a kind."""

    label: str
    users: int
    share: float  # 0..1 of all users


@dataclass(frozen=True, slots=True)
class Freshness:
    """How old the newest event of each user is, and how long it took to reach the profile."""

    bands: list[Bar]
    age_half_days: float
    age_most_days: float  # 95th percentile
    delay_half_s: float
    delay_most_s: float


@dataclass(frozen=True, slots=True)
class VectorMap:
    """Fused vectors of one space on the plane that shows most of their differences."""

    points: npt.NDArray[np.float32]  # [n, 2]
    groups: list[Tag | None]  # by point: the top category; None: no tag
    explained: float  # 0..1: share of the variance that the plane shows


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page says. Parts are None where the tables hold nothing to say."""

    made_at: datetime
    as_of: datetime
    users: int
    events: int  # applied to those users
    sampled: int  # users behind interests, groups, map and drift
    other_space: int  # of them, left out of map and drift: their vectors cannot be compared
    activity: Activity | None
    coverage: list[Bar]
    freshness: Freshness | None
    interests: list[Tag]
    groups: list[Group]
    vector_map: VectorMap | None
    profile_drift: DriftTable | None
    content_drift: DriftTable | None


def measure_report(
    directory: Path,
    *,
    since: date | None = None,
    until: date | None = None,
    counts_from: Mapping[str, int] = NOBODY,
    examples: bool = False,
    now: datetime | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Measure the history in ``directory``: profiles as they were served at the end of ``until``.

    ``since``: first day of events shown, and the earlier side of the drift of profiles (default: the
    middle of what was written). Days are UTC. ``counts_from``: users who were erased → the first
    incarnation that counts (NEVER: none), whether or not the erase has reached the files; events of
    those who are erased now do not count either. ``examples``: name some users of each group.

    Raises UsageError for days in the wrong order, SqlError for tables that cannot be read.
    """
    now = now or datetime.now(UTC)
    as_of = now if until is None else min(now, _midnight(until) + timedelta(days=1))
    if since is not None and _midnight(since) >= as_of:
        raise UsageError(
            f"report: expected --since before --until and before now, got {since} and {as_of:%Y-%m-%d}; "
            "name an earlier day"
        )
    start = None if since is None else _midnight(since)

    def measure(db: duckdb.DuckDBPyConnection) -> Report:
        db.execute(f"SET memory_limit = '{MEMORY}'")
        db.execute("SET temp_directory = $folder", {"folder": spill})
        erased = (pa.array(counts_from.keys(), pa.string()), pa.array(counts_from.values(), pa.int64()))
        db.register("erased_users", pa.table(erased, names=[JOIN_KEY, "counts_from"]))
        db.execute(f"CREATE TEMP VIEW tombstones AS FROM erased_users WHERE counts_from = {NEVER}")
        return _Measuring(db, now, as_of, start, progress).report(examples)

    with tempfile.TemporaryDirectory(prefix="portrait-") as spill:
        return ask(directory, measure)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


_LATEST: Final = """
CREATE TEMP TABLE latest AS
SELECT event_timestamp, created, first_event, version, modality_mask, top_category
FROM profiles_as_of(getvariable('as_of')) LEFT JOIN erased_users USING (user_id)
WHERE incarnation >= coalesce(counts_from, 0)
"""
_SAMPLED: Final = """
CREATE TEMP TABLE sampled AS
SELECT user_id, version, event_timestamp, sentiment, modality_mask, top_category, languages, tags, aspects,
    event_space, profile_space, embedding
FROM profiles_as_of(getvariable('as_of')) LEFT JOIN erased_users USING (user_id)
WHERE hash(user_id) <= getvariable('share_users') AND incarnation >= coalesce(counts_from, 0)
"""
_COVERAGE: Final = """
SELECT modality_mask & 7, count(*) FROM latest GROUP BY 1 ORDER BY 2 DESC
"""
_FRESHNESS: Final = """
WITH ages AS (
    SELECT greatest(epoch(getvariable('as_of') - event_timestamp), 0) / 86400 AS days,
        greatest(epoch(created - event_timestamp), 0) AS delay_s
    FROM latest WHERE event_timestamp IS NOT NULL
)
SELECT quantile_cont(days, [.5, .95]), quantile_cont(delay_s, [.5, .95]), histogram(days, $edges) FROM ages
"""
_SPACES: Final = """
SELECT event_space, profile_space, count(*) FROM sampled GROUP BY ALL ORDER BY 3 DESC, 1, 2 LIMIT 1
"""
_MAP: Final = """
SELECT embedding, top_category FROM sampled
WHERE profile_space = $space AND len(embedding) = $dim ORDER BY hash(user_id) LIMIT $points
"""


class _Measuring:
    """One pass over one connection; every figure is a query and a few lines."""

    def __init__(
        self,
        db: duckdb.DuckDBPyConnection,
        now: datetime,
        as_of: datetime,
        since: datetime | None,
        progress: Callable[[str], None],
    ) -> None:
        self._db, self._now, self._as_of, self._since, self._say = db, now, as_of, since, progress

    def report(self, examples: bool) -> Report:
        self._say("reading the newest profile of every user")
        self._db.execute("SET VARIABLE as_of = $value", {"value": self._as_of})
        self._db.execute(_LATEST)
        users, events = self._row("SELECT count(*), coalesce(sum(version), 0) FROM latest")
        take_share(self._db, "users", USERS_SAMPLED, users)
        self._db.execute(_SAMPLED)
        (sampled,) = self._row("SELECT count(*) FROM sampled")
        spaces = self._db.execute(_SPACES).fetchone()
        event_space, profile_space, _ = spaces or ("", "", 0)
        self._say("counting events over time")
        activity = measure_activity(self._db, self._since, self._as_of)
        self._say("measuring interests and groups")
        interests = measure_interests(self._db, sampled)
        names = {tag.id: tag for tag in interests}
        groups = measure_groups(self._db, users, names, examples)
        self._say("measuring drift")
        return Report(
            made_at=self._now,
            as_of=self._as_of,
            users=users,
            events=int(events),
            sampled=sampled,
            other_space=self._other_space(event_space, profile_space),
            activity=activity,
            coverage=self._coverage(users),
            freshness=self._freshness() if users else None,
            interests=interests,
            groups=groups,
            vector_map=self._vector_map(profile_space, names),
            profile_drift=measure_profile_drift(self._db, event_space, self._since, self._as_of, users),
            content_drift=None
            if activity is None
            else measure_content_drift(self._db, event_space, activity),
        )

    def _coverage(self, users: int) -> list[Bar]:
        bars = []
        for mask, count in self._db.execute(_COVERAGE).fetchall():
            seen = [_CONTENT_NAMES[name] for bit, name in enumerate(MODALITIES[:3]) if mask >> bit & 1]
            bars.append(Bar(" + ".join(seen) or "nothing yet", count, count / users))
        return bars

    def _freshness(self) -> Freshness | None:
        edges = [days for days, _ in AGE_BANDS if days is not None]
        age, delay_s, counts = self._row(_FRESHNESS, edges=edges)
        if age is None:
            return None
        total = sum(counts.values())
        by_band = [counts.get(float(edge), 0) for edge in edges]
        by_band.append(total - sum(by_band))
        bands = [Bar(band[1], n, n / total) for band, n in zip(AGE_BANDS, by_band, strict=True)]
        return Freshness(bands, *age, *delay_s)

    def _other_space(self, event_space: str, profile_space: str) -> int:
        query = "SELECT count(*) FROM sampled WHERE (event_space, profile_space) IS DISTINCT FROM ($e, $p)"
        return int(self._row(query, e=event_space, p=profile_space)[0])

    def _vector_map(self, space: str, names: dict[str, Tag]) -> VectorMap | None:
        found = self._db.execute(
            _MAP, {"space": space, "dim": EMBEDDING_DIM, "points": MAP_POINTS}
        ).fetchnumpy()
        vectors = stack(found["embedding"])
        usable = np.isfinite(vectors).all(axis=1) & (vectors != 0).any(axis=1)
        if usable.sum() < 3:
            return None
        points, explained = project(vectors[usable])
        tops = [str(top or "") for top in found["top_category"][usable]]
        return VectorMap(
            points, [names.get(top, Tag(top, top, top)) if top else None for top in tops], explained
        )

    def _row(self, query: str, **parameters: Any) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._db.execute(query, parameters or None).fetchall()[0]
        return row


_CONTENT_NAMES: Final = {"text": "reviews", "image": "photos", "voice": "voice clips"}


def project(vectors: Vectors) -> tuple[npt.NDArray[np.float32], float]:
    """The first two principal components of float [n, d]: points [n, 2], and their share of the variance."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(centred.T @ centred)
    total = max(float(values.sum()), np.finfo(float).tiny)
    points = np.asarray(centred @ axes[:, :-3:-1], np.float32)
    return points, float(values[-2:].sum() / total)

"""Group portraits (群体画像): what the newest profiles of many users say together, beside everybody's.

Shares are of the group's users; ``lift`` is a share over the same share of all users, so that 1 means "as
everybody" (analysts know a hundred times it as TGI).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from features.audience.find import NOBODY, matching
from features.audience.language import Expression
from features.profile.tags import ASPECTS_ZH
from features.schema import ASPECTS
from features.tables.views import ask

Rows = list[dict[str, Any]]

_USERS: Final = """
CREATE OR REPLACE TEMP TABLE members AS
SELECT matched, user_id, event_timestamp, created, first_event, version, text_count, image_count, voice_count,
    modality_mask, confidence, sentiment, sentiment_recent, languages, aspects,
    epoch($now - event_timestamp) / 86400 AS age_days
FROM profiles_latest JOIN matching USING (user_id)
"""
_AGE: Final = """
SELECT min(event_timestamp) AS oldest_event, max(event_timestamp) AS newest_event,
    median(age_days) AS median_age_days, max(created) AS newest_profile,
    count(*) FILTER (age_days < 1) / count(*) AS seen_1d,
    count(*) FILTER (age_days < 7) / count(*) AS seen_7d,
    count(*) FILTER (age_days < 14) / count(*) AS seen_14d,
    count(*) FILTER (age_days < 40) / count(*) AS seen_40d
FROM members WHERE matched
"""
_ACTIVITY: Final = """
SELECT CAST(sum(version) AS BIGINT) AS events, median(version) AS median_events,
    CAST(sum(text_count) AS BIGINT) AS reviews, CAST(sum(image_count) AS BIGINT) AS photos,
    CAST(sum(voice_count) AS BIGINT) AS voices,
    median(version * 7 / greatest(epoch(event_timestamp - first_event) / 86400, 7)) AS median_events_a_week,
    avg(confidence) AS mean_confidence, min(first_event) AS first_event
FROM members WHERE matched
"""
_SENTIMENT: Final = """
SELECT count(sentiment) / count(*) AS known, avg(sentiment) AS mean, avg(sentiment_recent) AS mean_recent,
    count(*) FILTER (sentiment > 0) / nullif(count(sentiment), 0) AS positive,
    count(*) FILTER (sentiment < 0) / nullif(count(sentiment), 0) AS negative,
    avg(sentiment_recent - sentiment) AS change
FROM members WHERE matched
"""
_TAGS: Final = """
SELECT tag AS id, any_value(zh) AS zh, any_value(en) AS en, any_value(parent) AS parent, level,
    count(*) FILTER (matched) AS users,
    count(*) FILTER (matched) / $users AS share, avg(weight) FILTER (matched) AS mean_weight,
    (count(*) FILTER (matched) / $users) / (count(*) / $everybody) AS lift
FROM tags_long JOIN matching USING (user_id)
GROUP BY tag, level HAVING count(*) FILTER (matched) > 0 ORDER BY level, users DESC, id
"""
_MODALITIES: Final = """
SELECT modality_mask & 1 > 0 AS text, modality_mask & 2 > 0 AS image, modality_mask & 4 > 0 AS voice,
    count(*) FILTER (matched) AS users, count(*) FILTER (matched) / $users AS share,
    (count(*) FILTER (matched) / $users) / (count(*) / $everybody) AS lift
FROM members GROUP BY ALL HAVING count(*) FILTER (matched) > 0 ORDER BY users DESC, text DESC, image DESC
"""
_LANGUAGES: Final = """
SELECT language AS id, count(*) FILTER (matched) AS users, count(*) FILTER (matched) / $users AS share,
    (count(*) FILTER (matched) / $users) / (count(*) / $everybody) AS lift
FROM (SELECT unnest(languages) AS language, matched FROM members)
GROUP BY ALL HAVING count(*) FILTER (matched) > 0 ORDER BY users DESC, id
"""
_ASPECTS: Final = """
SELECT aspect.id AS id, count(*) FILTER (matched) AS users, count(*) FILTER (matched) / $users AS share,
    avg(aspect.sentiment) FILTER (matched) AS sentiment,
    avg(aspect.sentiment) FILTER (matched) - avg(aspect.sentiment) AS against_everybody
FROM (
    SELECT matched, unnest(from_json(aspects, '[{"id": "VARCHAR", "sentiment": "DOUBLE"}]')) AS aspect
    FROM members
)
GROUP BY ALL HAVING count(*) FILTER (matched) > 0 ORDER BY users DESC, id
"""


@dataclass(frozen=True)
class GroupPortrait:
    """The group as columns of numbers; shares are 0..1, times aware UTC, None where nothing is known."""

    users: int
    everybody: int
    """All users who are not erased, of whom the group is a part."""
    age: dict[str, Any]
    """Newest and oldest events, median age in days, shares seen within 1, 7, 14 and 40 days."""
    tags: Rows
    """id, zh, en, parent, level, users, share, mean_weight (of those who have it), lift; both levels."""
    modalities: Rows
    """text, image, voice (which of them profiles rest on), users, share, lift."""
    sentiment: dict[str, Any]
    """known (share), mean (long memory), mean_recent (short), positive, negative, change (recent - mean)."""
    activity: dict[str, Any]
    """events in all and by modality, medians a user, first event."""
    languages: Rows
    """id, users, share, lift."""
    aspects: Rows
    """id, zh, users, share, sentiment, against_everybody (difference of sentiment)."""


def group_portrait(
    directory: Path,
    expression: Expression | None,
    now: datetime,
    *,
    counts_from: Mapping[str, int] = NOBODY,
) -> GroupPortrait:
    """The portrait of the users who meet the expression, or of all (None).

    ``counts_from``: user → first incarnation that counts, for users who were erased. Raises SqlError for
    files under ``directory`` that are not profiles.
    """

    def work(db: duckdb.DuckDBPyConnection) -> GroupPortrait:
        matching(db, expression, now, counts_from)
        db.execute(_USERS, {"now": now})
        users, everybody = _counts(db)
        of = {"users": max(users, 1), "everybody": max(everybody, 1)}
        aspects = _rows(db, _ASPECTS, {"users": of["users"]})
        names = dict(zip(ASPECTS, ASPECTS_ZH, strict=True))
        return GroupPortrait(
            users,
            everybody,
            _rows(db, _AGE)[0],
            _rows(db, _TAGS, of),
            _rows(db, _MODALITIES, of),
            _rows(db, _SENTIMENT)[0],
            _rows(db, _ACTIVITY)[0],
            _rows(db, _LANGUAGES, of),
            [{"id": row["id"], "zh": names.get(row["id"], row["id"]), **row} for row in aspects],
        )

    return ask(directory, work)


def _counts(db: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    ((users, everybody),) = db.execute("SELECT count(*) FILTER (matched), count(*) FROM members").fetchall()
    return int(users), int(everybody)


def _rows(db: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, Any] | None = None) -> Rows:
    """Numbers rounded to four digits; NaN (a share of nobody) becomes None."""
    rows: Rows = db.sql(sql, params=parameters).to_arrow_table().to_pylist()
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4) if value == value else None
    return value

"""Interests over all users, and portraits of the groups that share a top category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import duckdb

from features.profile.tags import ASPECTS_ZH
from features.schema import ASPECTS

GROUPS: Final = 12
"""Most groups that are portrayed, the largest first."""
_ASPECT_NAMES: Final = dict(zip(ASPECTS, ASPECTS_ZH, strict=True))
_TAGS: Final = 5
_ASPECTS: Final = 4
_EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True)
class Tag:
    """A category as profiles name it; share and weight are 0 where only the name counts."""

    id: str
    zh: str
    en: str
    level: int = 1
    users: int = 0  # of the sample
    share: float = 0.0  # 0..1: of the users who were asked about
    weight: float = 0.0  # 0..1: mean share of the level among those who have it
    lift: float = 1.0  # share over the same share of all users; 1: as everybody


@dataclass(frozen=True, slots=True)
class Aspect:
    """What reviews speak about."""

    id: str
    zh: str
    share: float  # 0..1: of the group's users
    sentiment: float | None  # -1..1


@dataclass(frozen=True, slots=True)
class Group:
    """The portrait of the users who share a top category, from those in the sample."""

    tag: Tag
    users: int  # all, not only the sampled
    share: float  # 0..1: of all users
    sampled: int
    events_half: float  # median events of a user
    sentiment: float | None  # -1..1, mean
    modalities: dict[str, float]  # content → share of users
    languages: dict[str, float]
    tags: list[Tag]  # their other interests, most held first
    aspects: list[Aspect]
    examples: list[str]  # user ids, only where asked for


_TAG_TABLE: Final = """
CREATE TEMP TABLE tag AS
WITH one AS (
    SELECT user_id, top_category, unnest(from_json(tags,
        '[{"id": "VARCHAR", "zh": "VARCHAR", "en": "VARCHAR", "level": "INTEGER", "weight": "FLOAT"}]'
    )) AS tag FROM sampled
)
SELECT user_id, top_category, tag.* FROM one
"""
_INTERESTS: Final = """
SELECT id, any_value(zh), any_value(en), any_value(level), count(*), count(*) / $users, avg(weight) FROM tag
GROUP BY id ORDER BY 5 DESC, 1
"""
_GROUPS: Final = """
SELECT top_category, count(*) FROM latest WHERE top_category <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $groups
"""
_PEOPLE: Final = """
SELECT top_category, count(*), median(version), avg(sentiment), avg((modality_mask & 1 > 0)::INT),
    avg((modality_mask & 2 > 0)::INT), avg((modality_mask & 4 > 0)::INT)
FROM sampled GROUP BY 1
"""
_LANGUAGES: Final = """
SELECT s.top_category, l.language, count(*) FROM sampled s, unnest(s.languages) AS l(language) GROUP BY 1, 2
ORDER BY 3 DESC, 2
"""
_GROUP_TAGS: Final = """
SELECT top_category, id, any_value(zh), any_value(en), any_value(level), count(*), avg(weight) FROM tag
WHERE id <> top_category GROUP BY 1, 2 ORDER BY 6 DESC, 2
"""
_ASPECTS_OF: Final = """
WITH one AS (
    SELECT top_category, unnest(from_json(aspects,
        '[{"id": "VARCHAR", "weight": "FLOAT", "sentiment": "FLOAT"}]')) AS aspect FROM sampled
)
SELECT top_category, aspect.id, count(*),
    sum(aspect.sentiment * aspect.weight) / nullif(sum(aspect.weight), 0)
FROM one GROUP BY 1, 2 ORDER BY 3 DESC, 2
"""
_EXAMPLES_OF: Final = """
SELECT top_category, list(user_id ORDER BY version DESC, user_id)[:3] FROM sampled GROUP BY 1
"""


def measure_interests(db: duckdb.DuckDBPyConnection, sampled: int) -> list[Tag]:
    """Every tag of the table ``sampled`` (its number of rows given), most held first; makes ``tag``."""
    db.execute(_TAG_TABLE)
    return [Tag(*row) for row in db.execute(_INTERESTS, {"users": max(sampled, 1)}).fetchall()]


def measure_groups(
    db: duckdb.DuckDBPyConnection, users: int, names: dict[str, Tag], examples: bool
) -> list[Group]:
    """Portraits over ``latest``, ``sampled`` and ``tag``; ``names``: the tags by id."""
    people = {row[0]: row[1:] for row in db.execute(_PEOPLE).fetchall()}
    languages, tags, aspects = (_by_group(db, query) for query in (_LANGUAGES, _GROUP_TAGS, _ASPECTS_OF))
    named = dict(db.execute(_EXAMPLES_OF).fetchall()) if examples else {}
    groups = []
    for top, count in db.execute(_GROUPS, {"groups": GROUPS}).fetchall():
        sampled, events_half, sentiment, *kinds = people.get(top, (0, 0.0, None, 0.0, 0.0, 0.0))
        n = max(sampled, 1)
        groups.append(
            Group(
                tag=names.get(top, Tag(top, top, top)),
                users=count,
                share=count / users,
                sampled=sampled,
                events_half=events_half,
                sentiment=sentiment,
                modalities=dict(zip(("reviews", "photos", "voice clips"), kinds, strict=True)),
                languages={language: held / n for language, held in languages.get(top, ())},
                tags=[
                    Tag(id_, zh, en, level, held, held / n, weight, held / n / names[id_].share)
                    for id_, zh, en, level, held, weight in tags.get(top, ())[:_TAGS]
                ],
                aspects=[
                    Aspect(id_, _ASPECT_NAMES.get(id_, id_), held / n, mood)
                    for id_, held, mood in aspects.get(top, ())[:_ASPECTS]
                ],
                examples=named.get(top, [])[:_EXAMPLES],
            )
        )
    return groups


def _by_group(db: duckdb.DuckDBPyConnection, query: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows by their first column."""
    grouped: dict[str, list[tuple[Any, ...]]] = {}
    for top, *rest in db.execute(query).fetchall():
        grouped.setdefault(top, []).append(tuple(rest))
    return grouped

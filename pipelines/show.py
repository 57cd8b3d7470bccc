"""Profiles for people: a table of users, and one profile in full with its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from features.schema import JOIN_KEY, MODALITIES
from pipelines.lookup import plain
from pipelines.settings import Settings

Row = Mapping[str, Any]
"""A profile: every name of PROFILE_FIELDS and the user id, as Feast serves it."""

_SHOWN: Final = MODALITIES[:3]
_BAR: Final = 12
"""Characters of a full bar."""


def show_user(user: str, settings: Settings, as_json: bool) -> bool:
    """Print a user's profile as Feast serves it; False, and a line that says so, where there is none."""
    from features.repo.read import read_profiles

    (row,) = read_profiles(settings.feature_repo, [user])
    if row is None:
        print(json.dumps({JOIN_KEY: user, "found": False}) if as_json else f"{user}: no profile")  # noqa: T201
        return False
    if as_json:
        print(json.dumps(row, ensure_ascii=False, default=plain))  # noqa: T201
    else:
        Console().print(profile_page(row))
    return True


def users_table(rows: Sequence[Row], tastes: Mapping[str, Sequence[str]] | None = None) -> Table:
    """A line per user: strongest interests, events by modality, sentiment, newest event.

    ``tastes``: user → planted categories; adds a column that says how many of them are among the top 3
    first-level interests.
    """
    table = Table(title="profiles", header_style="bold", title_style="bold")
    for name in ("user", "top interests", "reviews", "photos", "voices", "sentiment", "newest event"):
        right = name in ("reviews", "photos", "voices", "sentiment")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    if tastes is not None:
        table.add_column("planted", overflow="fold")
    for row in rows:
        counts = [str(row[f"{modality}_count"]) for modality in _SHOWN]
        cells = [row[JOIN_KEY], _interests(row), *counts, _signed(row["sentiment"]), _date(row["last_event"])]
        if tastes is not None:
            cells.append(_planted(row, tastes.get(row[JOIN_KEY], ())))
        table.add_row(*cells)
    return table


def top_categories(row: Row, most: int = 3) -> list[str]:
    """Ids of the strongest first-level tags."""
    return [tag["id"] for tag in json.loads(row["tags"] or "[]") if tag["level"] == 1][:most]


def _interests(row: Row) -> str:
    tags = [tag for tag in json.loads(row["tags"] or "[]") if tag["level"] == 1][:3]
    return ", ".join(f"{tag['zh']} {tag['id']} {tag['weight']:.0%}" for tag in tags) or "–"


def _planted(row: Row, planted: Sequence[str]) -> str:
    if not planted:
        return "–"
    found = set(top_categories(row))
    return ", ".join(f"{'✓' if taste in found else '✗'} {taste}" for taste in planted)


def profile_page(row: Row) -> RenderableType:
    """One profile in full: tags with confidence, share by modality and evidence, aspects, activity."""
    head = Text.assemble(
        (row[JOIN_KEY], "bold"), f"  revision {row['revision']}, {row['version']} events applied"
    )
    facts = [
        f"sentiment {_signed(row['sentiment'])} in 40 days, {_signed(row['sentiment_recent'])} in 10 days",
        f"languages {', '.join(row['languages'] or ()) or '–'}; confidence {_number(row['confidence'])}",
        f"events from {_date(row['first_event'])} to {_date(row['last_event'])}: "
        + ", ".join(f"{row[f'{modality}_count']} {modality}" for modality in _SHOWN),
        f"vector of {len(row['embedding'])} floats in space {row['profile_space'][:16]}",
    ]
    return Group(head, *(f"  {fact}" for fact in facts), _tags(row), _aspects(row))


def _tags(row: Row) -> Table:
    table = Table(title="interests", title_justify="left", header_style="bold")
    for name in ("tag", "weight", "confidence", "from", "last seen", "supporting events"):
        table.add_column(name, overflow="fold")
    for tag in json.loads(row["tags"] or "[]"):
        share = ", ".join(f"{modality} {part:.0%}" for modality, part in tag["share"].items() if part)
        indent = "  " * (tag["level"] - 1)
        table.add_row(
            f"{indent}{tag['en']} {tag['zh']}",
            f"{'█' * round(tag['weight'] * _BAR)} {tag['weight']:.0%}",
            _number(tag["confidence"]),
            share,
            str(tag["last_seen"])[:10],
            " ".join(tag["evidence"]),
        )
    return table


def _aspects(row: Row) -> Table:
    table = Table(title="what the reviews speak about", title_justify="left", header_style="bold")
    for name in ("aspect", "weight", "sentiment", "supporting events"):
        table.add_column(name, overflow="fold")
    for aspect in json.loads(row["aspects"] or "[]"):
        weight = f"{aspect['weight']:.2f}"
        table.add_row(aspect["id"], weight, _signed(aspect["sentiment"]), " ".join(aspect["evidence"]))
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.2f}"


def _date(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d}"

"""Profiles for people: a table of users, and one profile in full with its evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from features.profile.tags import ASPECTS_ZH
from features.schema import ASPECTS, JOIN_KEY, MODALITIES, visible
from pipelines.console.lookup import check_text, json_line
from pipelines.settings import Settings

Row = Mapping[str, Any]
"""A profile: every name of PROFILE_FIELDS and the user id, as Feast serves it."""

_SHOWN: Final = MODALITIES[:3]
_BAR: Final = 12
"""Characters of a full bar."""
_STEADY: Final = 0.1
_WEEK_S: Final = 7 * 86_400
_ASPECT_NAMES: Final = dict(zip(ASPECTS, ASPECTS_ZH, strict=True))


def show_user(user: str, settings: Settings, as_json: bool, with_evidence: bool = False) -> bool:
    """Print a user's profile as Feast serves it; False, and a line that says so, where there is none.

    ``with_evidence``: also the supporting events by id, as the table ``events`` has them.
    """
    from features.repo.read import read_profiles
    from features.tables.evidence import evidence_of

    check_text([user])
    (row,) = read_profiles(settings.feature_repo, [user])
    if row is None:
        nothing = json_line({JOIN_KEY: user, "found": False})
        print(nothing if as_json else f"{visible(user)}: no profile")  # noqa: T201
        return False
    evidence = evidence_of(settings.history.dir, user, row["tags"], row["aspects"]) if with_evidence else []
    if as_json:
        shown = row | {"evidence": evidence} if with_evidence else row
        print(json_line(shown, allow_nan=True))  # noqa: T201
    else:
        Console().print(profile_page(row, evidence))
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
        user = Text(visible(row[JOIN_KEY]))  # a text is no markup: an id may be [bold]x
        rest = [_interests(row), *counts, _signed(row["sentiment"]), _date(row["last_event"])]
        if tastes is not None:
            rest.append(_planted(row, tastes.get(row[JOIN_KEY], ())))
        table.add_row(user, *rest)
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


def profile_page(row: Row, evidence: Sequence[Mapping[str, Any]] = ()) -> RenderableType:
    """One profile in full: tags with confidence, share by modality and evidence, aspects, activity.

    ``evidence``: rows of :func:`features.tables.evidence.evidence_of`; adds a table of the events behind it.
    """
    head = Text.assemble(
        (visible(row[JOIN_KEY]), "bold"), f"  revision {row['revision']}, {row['version']} events applied"
    )
    facts = [
        f"sentiment {_signed(row['sentiment'])}, lately {_signed(row['sentiment_recent'])}"
        + _trend(row["sentiment"], row["sentiment_recent"]),
        f"languages {', '.join(row['languages'] or ()) or '–'}; confidence {_number(row['confidence'])}",
        f"events from {_date(row['first_event'])} to {_date(row['last_event'])}: "
        + ", ".join(f"{row[f'{modality}_count']} {modality}" for modality in _SHOWN)
        + _pace(row),
        f"vector of {len(row['embedding'])} floats in space {row['profile_space'][:16]}",
    ]
    tables = [_tags(row), _aspects(row), *([_events(evidence)] if evidence else [])]
    return Group(head, *(f"  {fact}" for fact in facts), *tables)


def by_parent(tags: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Tags in their order, but those of the second level below their category, where that is listed."""
    listed = {tag["id"] for tag in tags}
    tops = [tag for tag in tags if _parent(tag) not in listed]
    return [tag for top in tops for tag in (top, *(t for t in tags if _parent(t) == top["id"]))]


def _parent(tag: Mapping[str, Any]) -> str | None:
    """As the tag says, or as dotted ids do: profiles written before tags named it are still there."""
    named: str | None = tag.get("parent")
    return named or (str(tag["id"]).rpartition(".")[0] if tag["level"] > 1 else None)


def _trend(mean: float | None, recent: float | None) -> str:
    """Rising or falling where the last days differ from the rest by more than a tenth of the scale's half."""
    if mean is None or recent is None or mean != mean or recent != recent:
        return ""
    change = recent - mean
    return f" ({'rising' if change > _STEADY else 'falling' if change < -_STEADY else 'steady'})"


def _pace(row: Row) -> str:
    first, last = row["first_event"], row["last_event"]
    if first is None or last is None:
        return ""
    weeks = max((last - first).total_seconds() / _WEEK_S, 1.0)
    return f"; {sum(row[f'{modality}_count'] for modality in _SHOWN) / weeks:.1f} a week"


def _tags(row: Row) -> Table:
    table = Table(title="interests", title_justify="left", header_style="bold")
    for name in ("tag", "weight", "confidence", "from", "last seen", "supporting events"):
        table.add_column(name, overflow="fold")
    for tag in by_parent(json.loads(row["tags"] or "[]")):
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
        name = f"{aspect['id']} {_ASPECT_NAMES.get(aspect['id'], '')}"
        table.add_row(name, weight, _signed(aspect["sentiment"]), " ".join(aspect["evidence"]))
    return table


def _events(evidence: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="events behind it", title_justify="left", header_style="bold")
    for name in ("supports", "event id", "source", "time", "modality", "sentiment", "key"):
        table.add_column(name, overflow="fold")
    for event in evidence:
        table.add_row(
            ", ".join(event["supports"]),
            Text(visible(event["event_id"] or "not kept")),
            Text(visible(event["source"] or "–")),
            _date(event["event_time"]),
            event["modality"] or "–",
            _signed(event["sentiment"]),
            event["event_key"],
        )
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:+.2f}"


def _date(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d}"

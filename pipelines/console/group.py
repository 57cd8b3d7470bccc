"""``portrait group``: what many profiles say together, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from features.audience.group import GroupPortrait, group_portrait
from pipelines.console.audience import compile_given, incarnations
from pipelines.console.lookup import plain
from pipelines.console.profile import by_parent
from pipelines.settings import Settings


def show_group(settings: Settings, text: str | None, as_json: bool) -> None:
    """Print the portrait of the users who meet a condition, or of all (None)."""
    expression = compile_given(settings, text)
    found = group_portrait(
        settings.history.dir, expression, datetime.now(UTC), counts_from=incarnations(settings)
    )
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False, allow_nan=False, default=plain))  # noqa: T201
    else:
        Console().print(group_page(found, text))


def group_page(found: GroupPortrait, condition: str | None = None) -> RenderableType:
    """The portrait on one page; tags of both levels, strongest first."""
    head = Text.assemble(
        (f"{found.users} of {found.everybody} users", "bold"), f"  {condition or 'everybody'}"
    )
    if not found.users:
        return head
    age, does, feels = found.age, found.activity, found.sentiment
    facts = [
        f"newest event {_day(age['newest_event'])}, median age {age['median_age_days']:.1f} days; seen in "
        + ", ".join(f"{days} d {_share(age[f'seen_{days}d'])}" for days in (1, 7, 14, 40)),
        f"{does['events']} events since {_day(does['first_event'])}: {does['reviews']} reviews, "
        f"{does['photos']} photos, {does['voices']} voices; median {does['median_events']:.0f} a user, "
        f"{does['median_events_a_week']:.1f} a week; confidence {does['mean_confidence']:.2f}",
        f"sentiment {_signed(feels['mean'])}, lately {_signed(feels['mean_recent'])}; "
        f"positive {_share(feels['positive'])}, negative {_share(feels['negative'])} of the "
        f"{_share(feels['known'])} that have one",
        "languages " + (", ".join(f"{row['id']} {_share(row['share'])}" for row in found.languages) or "–"),
    ]
    return Group(head, *(f"  {fact}" for fact in facts), *_tables(found))


def _tables(found: GroupPortrait) -> list[Table]:
    rests = [
        [" + ".join(m for m in ("text", "image", "voice") if row[m]) or "nothing", *_of(row)]
        for row in found.modalities
    ]
    tags = [
        [f"{'  ' * (row['level'] - 1)}{row['en']} {row['zh']}", *_of(row), f"{row['mean_weight']:.0%}"]
        for row in by_parent(found.tags)
    ]
    aspects = [
        [f"{r['id']} {r['zh']}", str(r["users"]), _share(r["share"]), _signed(r["sentiment"]),
         _signed(r["against_everybody"])]
        for r in found.aspects
    ]  # fmt: skip
    return [
        _table("interests", ("tag", "users", "share", "lift", "mean weight"), tags),
        _table("what profiles rest on", ("modalities", "users", "share", "lift"), rests),
        _table("what reviews speak about", ("aspect", "users", "share", "sentiment", "against all"), aspects),
    ]


def _of(row: Mapping[str, Any]) -> list[str]:
    return [str(row["users"]), _share(row["share"]), f"{row['lift']:.2f}"]


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for place, name in enumerate(columns):
        table.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _day(value: datetime | None) -> str:
    return "–" if value is None else f"{value.astimezone(UTC):%Y-%m-%d}"

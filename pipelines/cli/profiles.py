"""Commands on profiles and their history: argv → calls, no logic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from pipelines.cli.options import load, with_settings


@click.command()
@with_settings
@click.argument("user")
@click.option("--evidence", is_flag=True, help="also the supporting events by id, of the parquet table")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def show(config: Path | None, overrides: tuple[str, ...], user: str, evidence: bool, as_json: bool) -> None:
    """Show USER's profile as the online store serves it. Exit code 1: no such user."""
    from pipelines.console.profile import show_user

    sys.exit(0 if show_user(user, load(config, overrides), as_json, evidence) else 1)


@click.command()
@with_settings
@click.argument("users", metavar="USER...", nargs=-1, required=True)
@click.option("--max-age", metavar="AGE", help="older profiles are stale: 90s, 30m, 12h, 14d, 2w")
@click.option(
    "--age-of",
    type=click.Choice(["event", "created"]),
    default="event",
    show_default=True,
    help="count the age from the newest event, or from the last write",
)
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def lookup(
    config: Path | None,
    overrides: tuple[str, ...],
    users: tuple[str, ...],
    max_age: str | None,
    age_of: Any,
    as_json: bool,
) -> None:
    """Look USERs up fast: fresh, stale, unknown or erased. Exit code 1: some are unknown or erased."""
    from pipelines.console.lookup import lookup_users

    sys.exit(0 if lookup_users(users, load(config, overrides), max_age, age_of, as_json) else 1)


@click.command()
@with_settings
@click.option("--today", is_flag=True, help="also the day that is being written")
@click.option("--grace", "grace_s", type=click.FloatRange(0), default=10.0, help="seconds for readers [10]")
@click.option("--memory-mb", type=click.IntRange(512), default=1024, show_default=True, help="for sorting")
@click.option("--file-mb", type=click.IntRange(1), default=256, show_default=True, help="size of a file")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def compact(
    config: Path | None,
    overrides: tuple[str, ...],
    today: bool,
    grace_s: float,
    memory_mb: int,
    file_mb: int,
    as_json: bool,
) -> None:
    """Rewrite the parquet tables' days as few sorted files; safe beside writers and readers, resumable."""
    from features.tables.compact import compact as compact_days
    from features.tables.merge import Limits

    limits = Limits(memory_bytes=memory_mb << 20, file_bytes=file_mb << 20)
    report = compact_days(
        load(config, overrides).history.dir,
        today=today,
        limits=limits,
        grace_s=grace_s,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(1 if report.failed else 0)


@click.command()
@with_settings
@click.argument("query", required=False)
@click.option("--file", type=click.Path(path_type=Path), help="a .duckdb file that keeps the views")
@click.option("--dictionary", is_flag=True, help="print the data dictionary (markdown)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def sql(
    config: Path | None,
    overrides: tuple[str, ...],
    query: str | None,
    file: Path | None,
    dictionary: bool,
    as_json: bool,
) -> None:
    """Run a QUERY over the views of the parquet tables (tab-separated); without one, print the views' SQL."""
    from pipelines.console.sql import dictionary_text, run_sql

    if query is not None and not query.strip():
        raise click.UsageError("QUERY: expected SQL, got an empty text; leave it out to print the views' SQL")
    if dictionary:
        click.echo(dictionary_text())
    else:
        click.echo(run_sql(load(config, overrides), query, file, as_json))


COMMANDS = (show, lookup, compact, sql)

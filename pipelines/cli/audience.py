"""Commands on many users at once: argv → calls, no logic."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from pipelines.cli.options import load, with_settings


class _WithLanguage(click.Command):
    """Ends its help with the page on the language of conditions."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from features.audience.vocabulary import language_text

        formatter.write(f"\nEXPR, the condition:\n\n{language_text()}\n")


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.command(cls=_WithLanguage)
@with_settings
@click.argument("text", metavar="[EXPR]", required=False)
@click.option("--like", type=click.Path(path_type=Path), help="users like those of a list (.txt, .parquet)")
@click.option("--limit", type=click.IntRange(1), help="at most so many (with --like: the nearest)")
@click.option("--out", type=click.Path(path_type=Path), help="write them to a .parquet or .txt file")
@click.option("--count", is_flag=True, help="count only")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def audience(
    config: Path | None,
    overrides: tuple[str, ...],
    text: str | None,
    like: Path | None,
    limit: int | None,
    out: Path | None,
    count: bool,
    as_json: bool,
) -> None:
    """Find the users whose newest profiles meet EXPR; counts first, then print or write them."""
    from pipelines.console.audience import run_audience

    settings = load(config, overrides)
    click.echo(
        run_audience(settings, text, like=like, limit=limit, out=out, count=count, as_json=as_json, say=_say)
    )


@click.command(cls=_WithLanguage)
@with_settings
@click.argument("text", metavar="[EXPR]", required=False)
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def group(config: Path | None, overrides: tuple[str, ...], text: str | None, as_json: bool) -> None:
    """Portray the users who meet EXPR, or all: interests, modalities, sentiment, activity, age, languages."""
    from pipelines.console.group import show_group

    show_group(load(config, overrides), text, as_json)


@click.command()
@with_settings
@click.argument("user", required=False)
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True, help="how many")
@click.option("--refresh", is_flag=True, help="take new profiles into the index first (or build it)")
@click.option("--rebuild", is_flag=True, help="with --refresh: build from nothing, in the newest space")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def similar(
    config: Path | None,
    overrides: tuple[str, ...],
    user: str | None,
    top: int,
    refresh: bool,
    rebuild: bool,
    as_json: bool,
) -> None:
    """Show the users nearest to USER by fused vectors, and the tags they share. Exit code 1: no such user."""
    from pipelines.console.audience import run_refresh, run_similar

    settings = load(config, overrides)
    if (user is None and not refresh) or (rebuild and not refresh):
        raise click.UsageError("expected USER, or --refresh (alone, before USER, or with --rebuild)")
    if refresh:
        click.echo(run_refresh(settings, rebuild=rebuild, as_json=as_json, say=_say), err=user is not None)
    if user is not None:
        answer, found = run_similar(settings, user, top, as_json)
        click.echo(answer)
        sys.exit(0 if found else 1)


_DAY = click.DateTime(["%Y-%m-%d"])


@click.command()
@with_settings
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="the .html file to write"
)
@click.option("--since", type=_DAY, help="first day of events shown, and the earlier side of drift (UTC)")
@click.option("--until", type=_DAY, help="last day: profiles as they were served at its end (UTC) [today]")
@click.option("--examples", is_flag=True, help="name some users of each group")
def report(
    config: Path | None,
    overrides: tuple[str, ...],
    out: Path,
    since: datetime | None,
    until: datetime | None,
    examples: bool,
) -> None:
    """Write one page about users, interests, groups and drift, for people who never saw the tables."""
    from pipelines.console.report import make_report

    def say(line: str) -> None:
        click.echo(line, err=True)

    click.echo(make_report(load(config, overrides), out, since, until, examples=examples, say=say))


COMMANDS = (audience, group, similar, report)

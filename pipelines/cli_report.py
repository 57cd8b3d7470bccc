"""The command that tells people what the tables hold: argv → calls, no logic."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from pipelines.cli_options import load, with_settings

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
    from pipelines.report import make_report

    def say(line: str) -> None:
        click.echo(line, err=True)

    click.echo(make_report(load(config, overrides), out, since, until, examples=examples, say=say))


COMMANDS = (report,)

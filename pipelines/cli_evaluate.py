"""The command that judges the models: argv → calls, no logic."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="folder of labelled data")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("var/report"),
    show_default=True,
    help="folder to write",
)
@click.option("--quick", is_flag=True, help="a taste of it in 5 minutes, marked as such")
@click.option("--only", metavar="STEP", multiple=True, help="only this step and what it needs (repeatable)")
@click.option("--list", "list_steps", is_flag=True, help="print the steps and end")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="folder of the weights (default: the shipped ones)"
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="processes, a core each"
)
def evaluate(
    data: Path,
    out: Path,
    quick: bool,
    only: tuple[str, ...],
    list_steps: bool,
    weights: Path | None,
    jobs: int,
) -> None:
    """Judge encoders and fusion; write report.json, report.html and report.md to OUT.

    An interrupted run goes on where it was. Exit code 1: a step failed; steps without their files are left
    out by name.
    """
    from models.evaluate import evaluate as judge
    from models.evaluate import names_of

    if list_steps:
        click.echo("\n".join(names_of(data, quick)))
        return
    outcome = judge(data, out, quick, only, weights, jobs, lambda line: click.echo(line, err=True))
    sys.exit(1 if outcome.failed else 0)


COMMANDS = (evaluate,)

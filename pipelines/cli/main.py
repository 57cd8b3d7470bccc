"""The ``portrait`` command: argv → calls. No logic here; heavy modules load in the command that needs them.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from pipelines import __version__
from pipelines.cli import audience, clusters, models, profiles, startup, upkeep
from pipelines.cli.options import load, with_settings
from pipelines.console import logs


def main() -> None:
    """Entry point: refuses shadowed packages, then runs the command; expected errors are one message."""
    os.environ["TZ"] = "UTC"  # Feast's SQLite store goes through local time
    if problem := startup.shadowed_package():
        click.echo(f"portrait: {problem}", err=True)
        sys.exit(2)
    from features.errors import PortraitError

    logs.configure()
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("portrait: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except ModuleNotFoundError as error:
        if not (message := startup.what_is_missing(error)):
            raise
        click.echo(f"portrait: {message}", err=True)
        sys.exit(2)
    except PortraitError as error:
        click.echo(f"portrait: {error}", err=True)
        sys.exit(error.exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portrait")
def cli() -> None:
    """Streams of reviews, photos and voice clips become user profiles in Feast and parquet."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a commented portrait.yaml and a Feast repo into FOLDER."""
    from pipelines.operations.init import write_project

    for path in write_project(folder):
        click.echo(f"wrote {path}")
    click.echo(f"next: cd {folder} && portrait apply && portrait plan && portrait run")


@cli.command()
@with_settings
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def plan(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check settings, topics, models and stores; print what would run; submit nothing."""
    from pipelines.operations.plan import make_plan

    made = make_plan(load(config, overrides))
    click.echo(made.as_json() if as_json else made.as_text())
    sys.exit(0 if made.ok else 1)


@cli.command()
@with_settings
def apply(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Register the views with Feast (feast apply), and create the topics that are missing."""
    from pipelines.operations.apply import apply_project

    apply_project(load(config, overrides), click.echo)


@cli.command(context_settings={"ignore_unknown_options": True})
@with_settings
@clusters.with_runner
@click.option("--until-caught-up", is_flag=True, help="end when what was in the topics at the start is done")
@click.option("--json", "as_json", is_flag=True, help="end with one JSON object on stdout, without the table")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="processes")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="serve Prometheus metrics on loopback")
@click.option("--worker-index", type=int, hidden=True)
@click.option("--worker-parent", type=int, hidden=True)
def run(
    config: Path | None,
    overrides: tuple[str, ...],
    until_caught_up: bool,
    as_json: bool,
    workers: int,
    metrics_port: int | None,
    worker_index: int | None,
    worker_parent: int | None,
    runner: str,
    **elsewhere: Any,
) -> None:
    """Run the pipeline in local rounds, or elsewhere. SIGTERM or Ctrl-C ends it well, with exit code 0.

    At its end it says what became of the records. With --until-caught-up the exit code is 1 where more of
    them were rejected than the share rounds.reject_alarm_share (of 20 records or more), and it says why.

    Options that are not listed here are Beam's, for Flink and Dataflow: --parallelism=4, --job_endpoint=…
    """
    clusters.refuse_others_options(runner, elsewhere["beam_args"], until_caught_up, workers)
    settings = load(config, overrides)
    if runner != "local":
        if as_json:
            raise click.UsageError(
                f"--runner {runner}: expected no --json with it, got one; portrait jobs --json tells of jobs"
            )
        clusters.run_elsewhere(settings, runner, metrics_port, **elsewhere)
        return
    from pipelines.console.run_end import end_as_json, print_end
    from pipelines.runners.progress import refuse_mostly_rejected, summed

    code = 0
    if workers > 1 and worker_index is None:
        from pipelines.runners.local_workers import run_workers

        code, parts = run_workers(workers, config, overrides, until_caught_up, metrics_port)
    else:
        from pipelines.runners.local import run_rounds

        done = run_rounds(
            settings,
            until_caught_up=until_caught_up,
            worker=(worker_index or 0, workers),
            parent=worker_parent,
            metrics_port=metrics_port,
        )
        parts = [done]
    if as_json or worker_index is not None:
        click.echo(end_as_json(parts))
    else:
        print_end(parts, settings)
    if code:
        sys.exit(code)
    if until_caught_up and worker_index is None:
        refuse_mostly_rejected(summed(parts), settings)


@cli.command()
@with_settings
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def produce(config: Path | None, overrides: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Send an event FILE: parquet (topic, key, value, headers) or JSON lines of structured CloudEvents.

    Parquet may come from pyarrow, pandas, polars or DuckDB; columns that do not fit are refused before
    anything is sent.
    """
    from pipelines.operations.produce import produce_file

    sent = produce_file(file, load(config, overrides))
    click.echo(f'{{"sent": {sent}}}' if as_json else f"sent {sent} events of {file}")


@cli.command()
@with_settings
@click.option("--reason", "reasons", multiple=True, help="only rejects with this reason code (repeatable)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def replay(config: Path | None, overrides: tuple[str, ...], reasons: tuple[str, ...], as_json: bool) -> None:
    """Send dead letters to their source topics again, each once, byte for byte."""
    from pipelines.operations.replay import replay_dead_letters

    counts = replay_dead_letters(load(config, overrides), reasons)
    click.echo(counts.as_json() if as_json else counts.as_text())


@cli.command()
@with_settings
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def doctor(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what is installed, which device is used, what is missing and how to get it."""
    from pipelines.operations.doctor import examine

    report = examine(config, overrides)
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(0 if report.ok else 1)


@cli.command()
@click.option("--data", type=click.Path(path_type=Path), help="run on real content of this folder instead")
@click.option("--users", type=click.IntRange(1), default=200, show_default=True, help="users of --data")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True)
def demo(data: Path | None, users: int, folder: Path) -> None:
    """The whole job on sample events, with an embedded broker and store, then the profiles it made."""
    from pipelines.demo.demo import run_demo

    run_demo(folder, data, users)


for _area in (audience, clusters, models, profiles, upkeep):
    for _command in _area.COMMANDS:
        cli.add_command(_command)


if __name__ == "__main__":
    main()

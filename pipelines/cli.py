"""The ``portrait`` command: argv → calls. No logic here; heavy modules load in the command that needs them.

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines import __version__, logs, shadowing

_F = TypeVar("_F", bound=Callable[..., Any])


def main() -> None:
    """Entry point: refuses shadowed packages, then runs the command; expected errors are one message."""
    os.environ["TZ"] = "UTC"  # Feast's SQLite store goes through local time
    if problem := shadowing.problem():
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
    except PortraitError as error:
        click.echo(f"portrait: {error}", err=True)
        sys.exit(error.exit_code)


def _with_settings(command: _F) -> _F:
    """Add ``-c`` and ``--set``."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="override one setting, e.g. kafka.group_id=x",
    )(command)
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="settings file (default: ./portrait.yaml)"
    )(command)


def _load(config: Path | None, overrides: tuple[str, ...]) -> Any:
    from pipelines.settings import load_settings

    return load_settings(config, overrides)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="portrait")
def cli() -> None:
    """Streams of reviews, photos and voice clips become user profiles in Feast and parquet."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Write a commented portrait.yaml and a Feast repo into FOLDER."""
    from pipelines.init import write_project

    for path in write_project(folder):
        click.echo(f"wrote {path}")
    click.echo(f"next: cd {folder} && portrait plan && portrait apply && portrait run")


@cli.command()
@_with_settings
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def plan(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check settings, topics, models and stores; print what would run; submit nothing."""
    from pipelines.plan import make_plan

    made = make_plan(_load(config, overrides))
    click.echo(made.as_json() if as_json else made.as_text())
    sys.exit(0 if made.ok else 1)


@cli.command()
@_with_settings
def apply(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Register the entity, views and services with Feast (feast apply)."""
    from features.repo.apply import apply_repo

    settings = _load(config, overrides)
    apply_repo(settings.feature_repo)
    click.echo(f"applied {settings.feature_repo}")


@cli.command()
@_with_settings
@click.option("--until-caught-up", is_flag=True, help="end when what was in the topics at the start is done")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="processes")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="serve Prometheus metrics on loopback")
@click.option("--worker-index", type=int, hidden=True)
def run(
    config: Path | None,
    overrides: tuple[str, ...],
    until_caught_up: bool,
    workers: int,
    metrics_port: int | None,
    worker_index: int | None,
) -> None:
    """Run the pipeline in local rounds. SIGTERM or Ctrl-C finishes the round and exits with 0."""
    settings = _load(config, overrides)
    if workers > 1 and worker_index is None:
        from pipelines.workers import run_workers

        sys.exit(run_workers(workers, config, overrides, until_caught_up, metrics_port))
    from pipelines.run import run_rounds

    run_rounds(
        settings,
        until_caught_up=until_caught_up,
        worker=(worker_index or 0, workers),
        metrics_port=metrics_port,
    )


@cli.command()
@_with_settings
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def produce(config: Path | None, overrides: tuple[str, ...], file: Path, as_json: bool) -> None:
    """Send an event FILE: parquet (topic, key, value, headers) or JSON lines of structured CloudEvents."""
    from pipelines.produce import produce_file

    sent = produce_file(file, _load(config, overrides))
    click.echo(f'{{"sent": {sent}}}' if as_json else f"sent {sent} events of {file}")


@cli.command()
@_with_settings
@click.argument("source", metavar="IN.parquet", type=click.Path(path_type=Path))
@click.option("--modality", type=click.Choice(["text", "image", "voice"]), required=True)
@click.option("--column", required=True, help="column that holds the text or the bytes")
@click.option("--id", "id_column", required=True, help="column to copy as the id")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="parquet file to write")
def encode(
    config: Path | None,
    overrides: tuple[str, ...],
    source: Path,
    modality: str,
    column: str,
    id_column: str,
    out: Path,
) -> None:
    """Encode one column of a parquet file: embeddings, labels and scores; every input row once, in order."""
    from pipelines.encode_file import encode_file

    rows, failed = encode_file(source, out, modality, column, id_column, _load(config, overrides))
    click.echo(f"wrote {rows} rows to {out} ({failed} with an error)")


@cli.command()
@_with_settings
@click.argument("user")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def show(config: Path | None, overrides: tuple[str, ...], user: str, as_json: bool) -> None:
    """Show USER's profile as the online store serves it. Exit code 1: no such user."""
    from pipelines.show import show_user

    sys.exit(0 if show_user(user, _load(config, overrides), as_json) else 1)


@cli.command()
@_with_settings
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
    from pipelines.lookup import lookup_users

    sys.exit(0 if lookup_users(users, _load(config, overrides), max_age, age_of, as_json) else 1)


@cli.command()
@_with_settings
@click.option("--reason", "reasons", multiple=True, help="only rejects with this reason code (repeatable)")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def replay(config: Path | None, overrides: tuple[str, ...], reasons: tuple[str, ...], as_json: bool) -> None:
    """Send dead letters to their source topics again, each once, byte for byte."""
    from pipelines.replay import replay_dead_letters

    counts = replay_dead_letters(_load(config, overrides), reasons)
    click.echo(counts.as_json() if as_json else counts.as_text())


@cli.command()
@_with_settings
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
    from features.compact import compact as compact_days
    from features.history_merge import Limits

    limits = Limits(memory_bytes=memory_mb << 20, file_bytes=file_mb << 20)
    report = compact_days(
        _load(config, overrides).history.dir,
        today=today,
        limits=limits,
        grace_s=grace_s,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(1 if report.failed else 0)


@cli.command()
@_with_settings
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
    from pipelines.sql import dictionary_text, run_sql

    if dictionary:
        click.echo(dictionary_text())
    else:
        click.echo(run_sql(_load(config, overrides), query, file, as_json))


@cli.command()
@_with_settings
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def doctor(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what is installed, which device is used, what is missing and how to get it."""
    from pipelines.doctor import examine

    report = examine(config, overrides)
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(0 if report.ok else 1)


@cli.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="folder of the training data")
@click.option("--only", type=click.Choice(["text", "image", "voice", "fusion"]), help="train this one alone")
@click.option(
    "--out", type=click.Path(path_type=Path), help="folder for the weights (default: the shipped ones)"
)
def train(data: Path, only: str | None, out: Path | None) -> None:
    """Train the encoders and the fusion head; fixed seeds, progress on the way."""
    from models.train import train as train_models

    train_models(data, only, out, click.echo)


@cli.command()
@click.option("--data", type=click.Path(path_type=Path), help="run on real content of this folder instead")
@click.option("--users", type=click.IntRange(1), default=200, show_default=True, help="users of --data")
@click.option("--dir", "folder", type=click.Path(path_type=Path), default=Path("var/demo"), show_default=True)
def demo(data: Path | None, users: int, folder: Path) -> None:
    """The whole job on sample events, with an embedded broker and store, then the profiles it made."""
    from pipelines.demo import run_demo

    run_demo(folder, data, users)


if __name__ == "__main__":
    main()

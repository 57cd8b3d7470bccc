"""Running on clusters: options of ``run``, and the commands on its jobs. argv → calls, no logic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines.cli.options import load, with_settings

_F = TypeVar("_F", bound=Callable[..., Any])
_with_rest = click.option(
    "--flink-rest",
    default="http://127.0.0.1:8081",
    show_default=True,
    metavar="URL",
    help="REST address of Flink's JobManager",
)


def with_runner(command: _F) -> _F:
    """Add what ``run`` takes for runners other than local rounds; the rest of argv is Beam's."""
    for option in reversed(
        (
            click.option(
                "--runner",
                type=click.Choice(["local", "flink", "dataflow"]),
                default="local",
                show_default=True,
                help="local rounds, an endless job on a Flink cluster, or on Dataflow",
            ),
            click.option("--detach", is_flag=True, help="Flink: leave the job once every partition is read"),
            click.option(
                "--restore", metavar="PATH", help="Flink: savepoint or checkpoint to go on from; or: last"
            ),
            click.option(
                "--rewind",
                type=click.IntRange(0),
                default=1_000,
                show_default=True,
                help="Flink: without --restore, begin so many records a partition before stored positions",
            ),
            click.option(
                "--reader-groups",
                type=click.IntRange(1, 128),
                help="readers that share the partitions [as --parallelism]",
            ),
            _with_rest,
            click.option(
                "--dry_run", "--dry-run", is_flag=True, help="Dataflow: build the job, submit nothing"
            ),
            click.argument("beam_args", nargs=-1, type=click.UNPROCESSED, metavar="[BEAM_OPTIONS]..."),
        )
    ):
        command = option(command)
    return command


def run_elsewhere(
    settings: Any,
    runner: str,
    metrics_port: int | None,
    *,
    detach: bool,
    restore: str | None,
    rewind: int,
    reader_groups: int | None,
    flink_rest: str,
    dry_run: bool,
    beam_args: tuple[str, ...],
) -> None:
    """``portrait run --runner flink`` and ``--runner dataflow``."""
    if runner == "dataflow":
        from pipelines.runners.dataflow import run_dataflow

        click.echo(run_dataflow(settings, beam_args, reader_groups, dry_run))
        return
    if dry_run:
        raise click.UsageError(
            "--dry_run: expected --runner dataflow with it, got flink; portrait plan checks more"
        )
    from pipelines.runners.flink.jobs import run_attached
    from pipelines.runners.flink.submit import JobPlan

    plan = JobPlan(flink_rest, beam_args, reader_groups, restore, rewind)
    run_attached(settings, plan, detach=detach, metrics_port=metrics_port, say=click.echo)


@click.command()
@with_settings
@_with_rest
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def jobs(config: Path | None, overrides: tuple[str, ...], flink_rest: str, as_json: bool) -> None:
    """List the cluster's jobs: state, checkpoints, and whether every partition is read."""
    from pipelines.runners.flink.jobs import list_jobs

    click.echo(list_jobs(load(config, overrides), flink_rest, as_json))


@click.command()
@with_settings
@_with_rest
@click.argument("job", required=False)
@click.option("--savepoint", is_flag=True, help="write a savepoint first, for portrait run --restore")
@click.option("--to", "folder", metavar="URI", help="folder of the savepoint [state.savepoints.dir]")
def stop(
    config: Path | None,
    overrides: tuple[str, ...],
    flink_rest: str,
    job: str | None,
    savepoint: bool,
    folder: str | None,
) -> None:
    """End JOB (default: this project's running one). Its last checkpoint stays in any case."""
    from pipelines.runners.flink.jobs import stop_job

    click.echo(stop_job(load(config, overrides), flink_rest, job, savepoint=savepoint, folder=folder))


def refuse_others_options(
    runner: str, beam_args: tuple[str, ...], until_caught_up: bool, workers: int
) -> None:
    """Local rounds take no options of Beam, so a left-over word is a mistake; others take none of theirs."""
    if runner == "local" and beam_args:
        raise click.UsageError(
            f"{beam_args[0]}: expected an option of portrait run, got this; see portrait run --help"
        )
    if runner != "local" and (until_caught_up or workers > 1):
        raise click.UsageError(
            f"--runner {runner}: expected none of --until-caught-up and --workers, got one; jobs there are "
            "endless, and --parallelism says how many workers they have"
        )


COMMANDS = (jobs, stop)

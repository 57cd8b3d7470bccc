"""Commands that forget users, bring them back, rebuild and check: argv → calls, no logic."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pipelines.cli.options import load, with_settings


@click.command()
@with_settings
@click.argument("users", metavar="[USER...]", nargs=-1)
@click.option("--file", type=click.Path(path_type=Path), help="a list of users: one a line, or parquet")
@click.option("--all-erased", is_flag=True, help="everybody whom the store knows as erased, whoever asked")
@click.option("--wait", is_flag=True, help="until every store is done")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), default=300.0, show_default=True)
@click.option("--grace", "grace_s", type=click.FloatRange(0), default=10.0, help="seconds for readers [10]")
@click.option("--json", "as_json", is_flag=True, help="the receipt, machine-readable")
def erase(
    config: Path | None,
    overrides: tuple[str, ...],
    users: tuple[str, ...],
    file: Path | None,
    all_erased: bool,
    wait: bool,
    timeout_s: float,
    grace_s: float,
    as_json: bool,
) -> None:
    """Erase USERs everywhere, and say where it stands. Run again to continue. Exit code 1: --wait ran out."""
    from pipelines.console.user_list import listed
    from pipelines.operations.erase import erase_users

    receipt = erase_users(
        load(config, overrides),
        None if all_erased else listed(users, file),
        wait_s=timeout_s if wait else 0.0,
        grace_s=grace_s,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(receipt.as_json() if as_json else receipt.as_text())
    sys.exit(1 if wait and not receipt.done else 0)


@click.command()
@with_settings
@click.argument("users", metavar="[USER...]", nargs=-1)
@click.option("--file", type=click.Path(path_type=Path), help="a list of users: one a line, or parquet")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def readmit(
    config: Path | None, overrides: tuple[str, ...], users: tuple[str, ...], file: Path | None, as_json: bool
) -> None:
    """Profile USERs again, from nothing, once their erase is done."""
    from pipelines.console.user_list import listed
    from pipelines.operations.erase import readmit_users

    asked, others = readmit_users(load(config, overrides), listed(users, file))
    told = f"asked to readmit {asked} users; {others} are not erased"
    click.echo(f'{{"readmitted": {asked}, "not_erased": {others}}}' if as_json else told)


@click.command()
@with_settings
@click.option("--without-controls", is_flag=True, help="do not read the controls topic for erased users")
@click.option("--tombstones-from", type=click.Path(path_type=Path), help="a feature repo that knows them")
@click.option("--memory-mb", type=click.IntRange(512), default=1024, show_default=True, help="for sorting")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def rebuild(
    config: Path | None,
    overrides: tuple[str, ...],
    without_controls: bool,
    tombstones_from: Path | None,
    memory_mb: int,
    as_json: bool,
) -> None:
    """Fill the online store from the events table; what it holds already stays. Run again after a failure."""
    from features.tables.merge import Limits
    from pipelines.operations.rebuild import rebuild as rebuild_store

    report = rebuild_store(
        load(config, overrides),
        controls=not without_controls,
        tombstones_from=tombstones_from,
        limits=Limits(memory_bytes=memory_mb << 20),
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(report.as_json() if as_json else report.as_text())
    sys.exit(1 if report.left_alone else 0)


@click.command()
@with_settings
@click.option("--sample", type=click.IntRange(1), default=1000, show_default=True, help="users, by chance")
@click.option("--all", "everybody", is_flag=True, help="every user instead")
@click.option("--seed", type=int, help="take the same sample again")
@click.option("--metrics-file", type=click.Path(path_type=Path), help="write the figures for Prometheus")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def check(
    config: Path | None,
    overrides: tuple[str, ...],
    sample: int,
    everybody: bool,
    seed: int | None,
    metrics_file: Path | None,
    as_json: bool,
) -> None:
    """Recompute users from the events table and compare them with the store. Exit code 1: some differ."""
    from pipelines.operations.check import check as check_store
    from pipelines.operations.check import write_metrics

    result = check_store(load(config, overrides), None if everybody else sample, seed=seed)
    if metrics_file is not None:
        write_metrics(result, metrics_file)
    click.echo(result.as_json() if as_json else result.as_text())
    sys.exit(0 if result.ok else 1)


@click.command()
@with_settings
@click.option("--from-kafka", type=click.Choice(["EARLIEST"], case_sensitive=False), help="read the topics")
@click.option("--events", type=click.Path(path_type=Path), multiple=True, help="event file (repeatable)")
@click.option("--name", help="of the fresh project and its folder [backfill_ and the profile space]")
@click.option("--switch", "do_switch", is_flag=True, help="let portrait.yaml name the fresh store")
@click.option("--accept-missing", is_flag=True, help="switch although events of the live store are missing")
@click.option("--json", "as_json", is_flag=True, help="machine-readable output")
def backfill(
    config: Path | None,
    overrides: tuple[str, ...],
    from_kafka: str | None,
    events: tuple[Path, ...],
    name: str | None,
    do_switch: bool,
    accept_missing: bool,
    as_json: bool,
) -> None:
    """Fill a fresh store beside the live one, compare both, and switch. Run again to catch up.

    Exit code 1: the two differ.
    """
    from pipelines.operations.backfill import backfill as fill
    from pipelines.operations.backfill import refuse_unclean, switch

    if (from_kafka is None) == (not events):
        raise click.UsageError("expected either --from-kafka EARLIEST or --events FILE")
    done, fresh = fill(
        load(config, overrides),
        list(events) or None,
        name=name,
        progress=lambda line: click.echo(line, err=True),
    )
    if do_switch:
        refuse_unclean(done, accept_missing)
        switch(done, fresh, config, overrides)
    click.echo(done.as_json() if as_json else done.as_text())
    sys.exit(0 if done.ledger.clean or do_switch else 1)


COMMANDS = (erase, readmit, rebuild, check, backfill)

"""``portrait demo``: the whole job on one machine, from messages to profiles read through Feast.

Everything is real but the broker, which is librdkafka's mock inside this process: the pipeline reads it
through kafka-python as it would any Kafka. Each demo starts anew in its own folder.
"""

from __future__ import annotations

import json
import logging
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from rich.console import Console

from features.errors import UsageError
from features.repo.apply import apply_repo
from features.tables.rows import query_hint
from pipelines import metrics
from pipelines.console import logs
from pipelines.demo.broker import EmbeddedBroker
from pipelines.demo.events import SAMPLE_EVENTS, joined_users_stream, sample_tastes, write_demo_taxonomy
from pipelines.operations.init import write_project
from pipelines.operations.produce import produce_file
from pipelines.settings import Settings, load_settings
from pipelines.settings_edit import set_values

_MARK: Final = ".portrait-demo"
_WIDTH: Final = 130
"""Columns where the output is no terminal."""


def run_demo(folder: Path, data: Path | None, users: int) -> None:
    """Run the demo in ``folder`` and show what it made; ``data``: on real content of so many users.

    What was begun is removed when it is interrupted or fails.

    Raises UsageError when the folder is not a demo's, or the data folder cannot be used.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise UsageError(
            f"{folder}: expected an empty folder or an older demo's, got another; name one with --dir"
        )
    logs.configure(logging.WARNING)  # the picture tells of the progress
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        with EmbeddedBroker() as broker:
            _demonstrate(folder, data, users, broker.bootstrap_servers, console)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _demonstrate(
    folder: Path, data: Path | None, users: int, bootstrap: tuple[str, ...], console: Console
) -> None:
    started_s = time.monotonic()
    settings, events = _prepare(folder, data, users, bootstrap)
    console.print(f"[bold]1[/] an embedded broker listens at {bootstrap[0]}")
    sent = produce_file(events, settings)
    console.print(f"[bold]2[/] sent {sent} events to reviews, images, voices")
    _run(settings, sent, console)
    console.print("[bold]4[/] registering the views with Feast and reading the profiles back through its SDK")
    apply_repo(settings.feature_repo)
    shown = _show(settings, data is None, console)
    console.print(f"\ndone in {time.monotonic() - started_s:.0f} s; a look at one user again:")
    console.print(f"  .venv/bin/portrait show -c {folder}/portrait.yaml {shown}", highlight=False)


def _prepare(
    folder: Path, data: Path | None, users: int, bootstrap: tuple[str, ...]
) -> tuple[Settings, Path]:
    """A fresh project in ``folder`` and the file of events to send."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / _MARK).touch()
    write_project(folder)
    taxonomy = write_demo_taxonomy(folder / "taxonomy.yaml")
    file = folder / "portrait.yaml"
    own = set_values(file.read_text(encoding="utf-8"), {"taxonomy": taxonomy.name})
    file.write_text(own, encoding="utf-8")  # so that other commands find the demo's categories
    settings = load_settings(file, [f"kafka.bootstrap_servers={json.dumps(list(bootstrap))}"])
    if data is None:
        return settings, SAMPLE_EVENTS
    events = folder / "events.parquet"
    pq.write_table(joined_users_stream(data, users), events)
    return settings, events


def _run(settings: Settings, sent: int, console: Console) -> None:
    from pipelines.runners.local import LocalRun

    with console.status("[bold]3[/] loading the models and building the graph"):
        run = LocalRun(settings)
    previous = signal.signal(signal.SIGTERM, lambda *_: run.stop())
    began_s = time.monotonic()
    try:
        with console.status("") as status:
            run.on_round = lambda progress: status.update(
                f"[bold]3[/] running: {progress.records} of {sent} events, {progress.rounds} rounds"
            )
            progress = run.run(until_caught_up=True)
    finally:
        signal.signal(signal.SIGTERM, previous)
    took_s = time.monotonic() - began_s
    console.print(
        f"[bold]3[/] ran {progress.records} events in {progress.rounds} rounds and {took_s:.1f} s; "
        f"wrote {progress.files} parquet files"
    )
    if rejected := _rejected():
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        console.print(
            f"  rejected {sum(rejected.values())} bad ones ({told}): byte for byte in the dead-letter topics"
        )


def _rejected() -> dict[str, int]:
    """Rejects of this process by reason."""
    samples = (sample for metric in metrics.REJECTS.collect() for sample in metric.samples)
    return {s.labels["reason"]: int(s.value) for s in samples if s.name.endswith("_total") and s.value}


def _users(settings: Settings) -> list[str]:
    """Users of the parquet table, most events first."""
    import duckdb

    files = str(settings.history.dir / "profiles" / "**" / "*.parquet")
    rows = duckdb.execute(
        "SELECT user_id FROM read_parquet(?) GROUP BY user_id ORDER BY max(version) DESC, user_id", [files]
    ).fetchall()
    return [row[0] for row in rows]


def _show(settings: Settings, is_sample: bool, console: Console) -> str:
    """Print the table, one profile and a query; the user of the profile."""
    from features.repo.read import read_profiles
    from pipelines.console.profile import profile_page, users_table

    users = _users(settings)
    rows: list[dict[str, Any]] = [row for row in read_profiles(settings.feature_repo, users) if row]
    tastes = sample_tastes() if is_sample else None
    console.print(users_table(rows[:30], tastes))
    if len(rows) > 30:
        console.print(f"… and {len(rows) - 30} more")
    console.print(profile_page(rows[0]))
    console.print(f"\nparquet: {settings.history.dir}/profiles and /events. A query to try (DuckDB):")
    console.print(f"  {query_hint(settings.history.dir)}", highlight=False, soft_wrap=True)
    return users[0]

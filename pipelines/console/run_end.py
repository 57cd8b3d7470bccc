"""The end of ``portrait run``: what became of its records, for people on stderr, for programs on stdout."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from pipelines.runners.progress import Progress, summed, told, what_to_do
from pipelines.settings import Settings


def end_as_json(parts: Sequence[Progress]) -> str:
    """One JSON object; of several workers their sum, and each of them in ``workers``."""
    end = summed(parts).as_dict()
    return json.dumps(end | {"workers": [part.as_dict() for part in parts]} if len(parts) > 1 else end)


def print_end(parts: Sequence[Progress], settings: Settings, console: Console | None = None) -> None:
    """A line, a table where there were records, and where to look after rejects. On stderr, as the log is."""
    console = console or Console(stderr=True)
    done = summed(parts)
    console.print(headline(done), highlight=False, soft_wrap=True)
    if done.records:
        console.print(_table(parts, done))
    if done.rejects:
        console.print(what_to_do(settings), highlight=False, markup=False, soft_wrap=True)


def headline(done: Progress) -> str:
    """Records, profiles and rejects of a run in a line."""
    rejects = f": {told(done.rejects)}" if done.rejects else ""
    return (
        f"{done.records} records: {done.profiles} profiles written, {done.rejects.total()} rejected{rejects} "
        f"({done.rounds} rounds, {done.files} parquet files, {done.seconds:.1f} s)"
    )


def _table(parts: Sequence[Progress], done: Progress) -> Table:
    """Counts by outcome and reason: of the run, and of each of several workers."""
    table = Table("", "", *([] if len(parts) == 1 else [f"worker {i}" for i in range(len(parts))]), "records")
    for column in table.columns[2:]:
        column.justify = "right"
    shown = [*parts, done] if len(parts) > 1 else [done]
    for name in (name for name in done.as_dict()["events"] if done.events[name]):
        table.add_row("event", name, *(str(part.events[name]) for part in shown))
    for reason, _ in done.rejects.most_common():
        table.add_row("rejected", reason, *(str(part.rejects[reason]) for part in shown))
    return table

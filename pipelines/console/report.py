"""``portrait report``: the history as one page for people."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from features.online.open import CONFIG_FILE
from pipelines.settings import Settings


def make_report(
    settings: Settings,
    out: Path,
    since: datetime | None,
    until: datetime | None,
    *,
    examples: bool,
    say: Callable[[str], None],
) -> str:
    """Write the page to ``out``; a line on what is in it. Days are those of UTC.

    Users whom the online store knows as erased are left out; without a feature repo there is no store.
    """
    from features.report.measure import measure_report
    from features.report.page import write_page
    from pipelines.console.audience import incarnations

    counts_from: dict[str, int] = {}
    if (settings.feature_repo / CONFIG_FILE).is_file():
        counts_from = incarnations(settings)
    else:
        say(f"no feature repo in {settings.feature_repo}: users erased since their files were written count")
    report = measure_report(
        settings.history.dir,
        since=since and since.date(),
        until=until and until.date(),
        counts_from=counts_from,
        examples=examples,
        progress=say,
    )
    write_page(report, out)
    return f"wrote {out}: {report.users} users, {report.events} events"

"""The report as one HTML page that needs nothing else: no script, no request, light and dark."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import jinja2

from features.atomic_file import whole_file
from features.errors import PortraitError
from features.report.drift import PAIRS
from features.report.groups import Tag
from features.report.measure import Report
from features.report.plots import SERIES, bars_over_time, lines_over_time, scatter
from features.schema import visible

TEMPLATE: Final = Path(__file__).with_name("page.html")
CONTENT: Final = {"text": "reviews", "image": "photos", "voice": "voice clips", "fused": "all, fused"}
INTERESTS: Final = 15
"""Most tags of a level that are drawn."""


class ReportError(PortraitError):
    """A page that the disk refuses; what was there before still is."""


def page(report: Report) -> str:
    """HTML of the report. Everything from the tables is escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": count, "percent": percent, "span": span, "day": day, "moment": moment, "mood": mood,
        "visible": visible,
    }  # fmt: skip
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        levels=[[tag for tag in report.interests if tag.level == level][:INTERESTS] for level in (1, 2)],
        content=CONTENT,
        pairs=PAIRS,
        **_plots(report),
    )


def write_page(report: Report, file: Path) -> None:
    """Write the page: the whole of it, or what was there before. Raises ReportError."""
    text = page(report)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as out:
            out.write(text.encode())
    except OSError as error:
        raise ReportError(
            f"{file}: expected a file that can be written, got {error.strerror}; name another with --out"
        ) from error


def _plots(report: Report) -> dict[str, Any]:
    plots: dict[str, Any] = {"events_plot": None, "users_plot": None, "map_plot": None, "map_legend": []}
    if activity := report.activity:
        events = {CONTENT[name]: counts for name, counts in activity.events.items()}
        plots["events_plot"] = bars_over_time("events", activity.bins, events)
        plots["users_plot"] = lines_over_time(
            "users", activity.bins, {"known": activity.known, "active": activity.active}
        )
    if vectors := report.vector_map:
        top = [tag for tag, _ in Counter(tag for tag in vectors.groups if tag).most_common(SERIES - 1)]
        places = {tag: place for place, tag in enumerate(top)}
        colours = [SERIES - 1 if tag is None else places.get(tag, SERIES - 1) for tag in vectors.groups]
        plots["map_plot"] = scatter("map", vectors.points, colours)
        counts = Counter(colours)
        legend = [(place, tag, counts[place]) for tag, place in places.items()]
        rest = [(SERIES - 1, Tag("", "其他", "Others"), counts[SERIES - 1])] if counts[SERIES - 1] else []
        plots["map_legend"] = legend + rest
    return plots


def count(number: float) -> str:
    """
    >>> count(1234567), count(18.5)
    ('1,234,567', '18.5')
    """
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.1f}"


def percent(share: float) -> str:
    """
    >>> percent(0.1234), percent(0.005), percent(0.997), percent(1), percent(0)
    ('12%', '<1%', '>99%', '100%', '0%')
    """
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def span(seconds: float) -> str:
    """A length of time in the unit that fits it.

    >>> span(0.42), span(90), span(7200), span(40 * 86400)
    ('0.4 seconds', '1.5 minutes', '2 hours', '40 days')
    """
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= size * (2 if unit == "days" else 1):
            return _plain(seconds / size) + f" {unit}"
    return _plain(seconds) + " seconds"


def _plain(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}".removesuffix(".0")


def day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


def moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def mood(sentiment: float | None) -> str:
    """A sentiment as a word and a number.

    >>> mood(0.5), mood(-0.4), mood(0.0), mood(None)
    ('positive +0.50', 'negative −0.40', 'mixed 0.00', 'not judged')
    """
    if sentiment is None:
        return "not judged"
    word = "positive" if sentiment > 0.15 else "negative" if sentiment < -0.15 else "mixed"
    number = f"{sentiment:+.2f}" if abs(sentiment) >= 0.005 else "0.00"
    return f"{word} {number.replace('-', '−')}"

"""The report's JSON as one HTML page with plots in it, and as Markdown without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from features.errors import UsageError
from models.evaluation.report.plots import svg_of

TEMPLATES: Final = Path(__file__).parent
QUICK_NOTE: Final = (
    "Quick run: subsamples, few epochs, few folds, one seed. It shows that everything works; its figures are "
    "not what the models are worth."
)
SHORT_NOTE: Final = (
    "Rows that say retrained (seeds, folds) come from encoders trained anew for this report, those of "
    "photos for fewer epochs than the shipped weights took, so that the whole run stays within two hours: "
    "read them for spread and for content that nothing saw, and the shipped rows for the level."
)


class ReportError(UsageError):
    """The page cannot be drawn."""


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write ``report.json``, ``report.html`` and ``report.md`` into a folder.

    Raises ReportError where the libraries that draw are not installed; the JSON is written all the same.
    """
    _write(out / "report.json", json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False) + "\n")
    try:
        html, markdown = html_of(report), markdown_of(report)
    except ModuleNotFoundError as error:
        raise ReportError(
            f"report: expected jinja2 and matplotlib for the page, got no {error.name}; "
            "pip install 'portrait-profiles[analysis]' and run again (nothing is computed twice)"
        ) from error
    _write(out / "report.html", html)
    _write(out / "report.md", markdown)


def html_of(report: dict[str, Any]) -> str:
    """One page that needs no other file."""
    return _rendered("report.html.jinja", report, cell=cell, svg=svg_of, is_number=is_number)


def markdown_of(report: dict[str, Any]) -> str:
    """The same tables and notes, for reading beside code."""
    text = _rendered("report.md.jinja", report, cell=_markdown_cell)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _rendered(name: str, report: dict[str, Any], **functions: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=name.endswith(".html.jinja"),  # Markdown is no markup that a browser runs
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    notes = {"quick_note": QUICK_NOTE, "short_note": SHORT_NOTE}
    return environment.get_template(name).render(report=report, minutes=minutes, **notes, **functions)


def cell(value: Any) -> str:
    """A table's cell as text: three or four digits, an interval in brackets, a dash for nothing.

    >>> cell({"value": 0.91234, "low": 0.9, "high": 0.925}), cell(None), cell(120), cell(0.00021)
    ('0.912 [0.900, 0.925]', '–', '120', '0.0002')
    """
    if value is None:
        return "–"
    if isinstance(value, dict):
        low, high = cell(value["low"]), cell(value["high"])
        return f"{cell(value['value'])} [{low}, {high}]"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.00005 <= abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def minutes(seconds: dict[str, float]) -> str:
    """The sum of some times, in minutes."""
    return f"{sum(seconds.values()) / 60:.1f}"


def is_number(value: Any) -> bool:
    """Whether a cell is set flush right."""
    return isinstance(value, (int, float, dict)) or value is None


def _markdown_cell(value: Any) -> str:
    return cell(value).replace("|", "\\|").replace("\n", " ")


def _write(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)

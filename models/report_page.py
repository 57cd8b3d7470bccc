"""The report's JSON as one HTML page with plots in it, and as Markdown without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from features.errors import UsageError
from models.report_plots import svg_of
from models.report_template import HTML, MARKDOWN


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
    shown = {"report": report, "cell": cell, "svg": svg_of, "is_number": is_number, "minutes": minutes}
    return str(_environment(True).from_string(HTML).render(shown))


def markdown_of(report: dict[str, Any]) -> str:
    """The same tables and notes, for reading beside code."""
    text = (
        _environment(False).from_string(MARKDOWN).render(report=report, cell=_markdown_cell, minutes=minutes)
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _environment(escaped: bool) -> Any:
    import jinja2

    return jinja2.Environment(
        autoescape=escaped,  # noqa: S701  off for Markdown alone
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


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

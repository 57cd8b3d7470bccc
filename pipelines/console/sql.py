"""``portrait sql``: queries over the parquet tables, the views themselves, and their dictionary."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

from features.schema import visible
from features.tables.views import connect, dictionary, query, views_sql
from pipelines.settings import Settings


def run_sql(settings: Settings, text: str | None, file: Path | None, as_json: bool) -> str:
    """What to print: rows of a query; without one, the views' SQL, or a line on the file that has them."""
    directory = settings.history.dir
    if text is None:
        if file is None:
            return views_sql(directory)
        with connect(directory, file):
            return f"wrote the views to {file}; open it with any DuckDB of this version or later"
    rows = query(directory, text, file)
    found = [{name: _plain(value) for name, value in row.items()} for row in rows.to_pylist()]
    if as_json:
        return visible(json.dumps(found, ensure_ascii=False, allow_nan=False, default=str))
    lines = ["\t".join(rows.column_names)]
    return "\n".join([*lines, *("\t".join(map(_cell, row.values())) for row in found)])


def dictionary_text() -> str:
    """The data dictionary as markdown."""
    return dictionary().rstrip("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return None if value != value else value  # NaN


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))

"""A backfill that cannot begin."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import UsageError
from pipelines.operations.backfill import backfill
from pipelines.operations.init import write_project
from pipelines.settings import load_settings


def test_event_files_are_looked_for_before_anything_is_made(tmp_path: Path) -> None:
    write_project(tmp_path)
    before = sorted(tmp_path.iterdir())
    settings = load_settings(tmp_path / "portrait.yaml", environment={})
    with pytest.raises(UsageError, match=r"none\.parquet: expected an event file"):
        backfill(settings, [tmp_path / "none.parquet"])
    assert sorted(tmp_path.iterdir()) == before

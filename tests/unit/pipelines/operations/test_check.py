"""A check whose figures cannot be written says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.errors import PortraitError
from pipelines.operations.check import Checked, write_metrics


def test_a_folder_for_figures_that_is_missing_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(PortraitError, match=r"none/check\.prom: expected a file that can be written"):
        write_metrics(Checked(), tmp_path / "none" / "check.prom")

"""A check that cannot be made says which file is the reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.errors import PortraitError
from features.history import HistoryError
from pipelines.check import Checked, sampled_users, write_metrics


def test_a_file_that_is_not_of_the_tables_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "events" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"price": [2.0]}), folder / "part-0.parquet")
    with pytest.raises(HistoryError, match=r"^events/dt=2026-01-02/part-0\.parquet: expected the columns"):
        sampled_users(tmp_path, "ab" * 32, None, None)


def test_a_folder_for_figures_that_is_missing_is_an_answer(tmp_path: Path) -> None:
    with pytest.raises(PortraitError, match=r"none/check\.prom: expected a file that can be written"):
        write_metrics(Checked(), tmp_path / "none" / "check.prom")

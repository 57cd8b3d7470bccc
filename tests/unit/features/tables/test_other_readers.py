"""Analysts' own tools read both tables, as written and compacted: hive partitions and plain types."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from features.tables.compact import compact
from features.tables.evidence import evidence_of
from features.tables.rows import event_batch
from features.tables.writer import write_table
from tests.unit.features.profile_table import NOW, days_ago, tags_of, write_profiles
from tests.unit.features.tables.test_rows import TAXONOMY, simple_event

VECTOR = np.arange(64, dtype=np.float32)
EVENTS = [simple_event(i, event_time_us=days_ago(1), event_key=i + 1) for i in range(3)]


@pytest.fixture(params=["as written", "compacted"])
def history(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two days of profiles, a day of events, beside files that readers must not see."""
    ann = tags_of({"books": 1.0}) | {"embedding": VECTOR, "sentiment": 0.5, "last_event": days_ago(2)}
    write_profiles(tmp_path, {"ann": ann}, NOW - timedelta(days=1))
    write_profiles(tmp_path, {"ann": ann | {"revision": 2}, "bob": {"last_event": days_ago(3)}})
    write_table(tmp_path, "events", [event_batch(EVENTS, "ab12", TAXONOMY)], NOW)
    (tmp_path / "profiles" / f"dt={NOW:%Y-%m-%d}" / ".part-0.tmp").write_bytes(b"half")
    if request.param == "compacted":
        compact(tmp_path, today=True, grace_s=0.0)
    return tmp_path


def check(rows: list[dict[str, Any]]) -> None:
    assert sorted((row["user_id"], row["revision"]) for row in rows) == [("ann", 1), ("ann", 2), ("bob", 1)]
    ann = next(row for row in rows if row["revision"] == 2)
    assert np.array_equal(np.asarray(ann["embedding"], np.float32), VECTOR)
    assert list(ann["interests"]) == ["books"]
    assert ann["sentiment"] == 0.5
    assert ann["last_event"].astimezone(UTC) == NOW - timedelta(days=2)
    assert str(ann["dt"]) == "2026-06-30"


def test_pandas_reads_profiles_by_folder_and_skips_what_is_half_written(history: Path) -> None:
    frame = pd.read_parquet(history / "profiles")
    check(frame.to_dict("records"))
    assert frame["sentiment"].isna().sum() == 1
    day = pd.read_parquet(history / "profiles", filters=[("dt", "==", "2026-06-30")])
    assert sorted(day["user_id"]) == ["ann", "bob"]


def test_polars_reads_profiles_lazily_and_prunes_days(history: Path) -> None:
    frame = pl.scan_parquet(history / "profiles" / "**" / "*.parquet", hive_partitioning=True)
    check(frame.collect().to_dicts())
    assert frame.collect_schema()["created"] == pl.Datetime("us", "UTC")
    assert frame.filter(pl.col("dt") == date(2026, 6, 29)).collect()["user_id"].to_list() == ["ann"]


def test_arrow_reads_the_folders_as_spark_lays_them_out(history: Path) -> None:
    check(ds.dataset(history / "profiles", partitioning="hive").to_table().to_pylist())
    for table in ("profiles", "events"):
        folders = {path.parent.name for path in (history / table).rglob("*.parquet")}
        assert all(name.startswith("dt=") for name in folders)
        assert not [p for p in (history / table).rglob("*") if p.is_file() and p.name[0] not in "._sp"]


def test_pandas_and_polars_read_the_same_events(history: Path) -> None:
    frame = pd.read_parquet(history / "events")
    polar = pl.read_parquet(history / "events" / "**" / "*.parquet", hive_partitioning=True)
    wanted = sorted(event.event_id for event in EVENTS)
    assert sorted(frame["event_id"]) == sorted(polar["event_id"]) == wanted
    assert np.array_equal(np.stack(list(frame["embedding"])), polar["embedding"].to_numpy())


def test_evidence_resolves_keys_to_events_the_newest_first(history: Path) -> None:
    tags = '[{"id": "books", "evidence": ["0000000000000001", "00000000000000ff"]}]'
    aspects = '[{"id": "price", "evidence": ["0000000000000001"]}]'
    user = EVENTS[0].user_id
    first, second = evidence_of(history, user, tags, aspects)
    assert (first["event_id"], first["supports"]) == (EVENTS[0].event_id, ["books", "price"])
    assert (second["event_id"], second["event_key"]) == (None, "00000000000000ff")
    assert evidence_of(history, user, "", None) == []

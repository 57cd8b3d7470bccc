"""Single values of a settings file change; comments, order and everything else stay."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import yaml

from pipelines import settings_edit
from pipelines.settings import load_settings
from pipelines.settings_edit import set_values

TEMPLATE = (Path(settings_edit.__file__).with_name("portrait.yaml")).read_text(encoding="utf-8")


def test_the_values_of_the_shipped_file_change_in_place() -> None:
    wanted = {"feature_repo": "b/feature_repo", "history.dir": "b/data", "kafka.group_id": "g-b"}
    changed = set_values(TEMPLATE, wanted)
    before, after = TEMPLATE.splitlines(), changed.splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 3
    read = yaml.safe_load(changed)
    assert (read["feature_repo"], read["history"]["dir"], read["kafka"]["group_id"]) == tuple(wanted.values())


def test_the_changed_file_is_read_as_settings(tmp_path: Path) -> None:
    file = tmp_path / "portrait.yaml"
    file.write_text(set_values(TEMPLATE, {"history.dir": "other"}), encoding="utf-8")
    assert load_settings(file, environment={}).history.dir == tmp_path / "other"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "kafka:\n",
        "kafka: {}\n",
        "kafka: {start: earliest}\n",
        "kafka:\n    start: earliest\n",
        "history: {dir: x}\n",
        "kafka:\n  topics: {reviews: r}\n  # last\n",
        "kafka: null\nhistory:\n  dir: x\n",
    ],
)
def test_a_missing_key_is_added_where_it_belongs(text: str) -> None:
    before = yaml.safe_load(text) or {}
    after = yaml.safe_load(set_values(text, {"kafka.group_id": "g", "history.dir": "d"}))
    kafka = (before.get("kafka") or {}) | {"group_id": "g"}
    assert after == before | {"kafka": kafka, "history": {"dir": "d"}}


def test_the_example_is_true() -> None:
    assert doctest.testmod(settings_edit).failed == 0

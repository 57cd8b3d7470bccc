"""The folder that the demo leaves."""

from __future__ import annotations

from pathlib import Path

from features.taxonomy import load_taxonomy
from pipelines.demo.demo import _prepare
from pipelines.settings import load_settings


def test_other_commands_find_the_categories_of_the_demo(tmp_path: Path) -> None:
    settings, _ = _prepare(tmp_path / "demo", None, 1, ("localhost:1",))
    found = load_settings(tmp_path / "demo" / "portrait.yaml", environment={})
    assert found.taxonomy is not None
    assert load_taxonomy(found.taxonomy) == load_taxonomy(settings.taxonomy) != load_taxonomy(None)

"""Write a new project: a commented ``portrait.yaml`` and a Feast repo."""

from __future__ import annotations

from pathlib import Path

from features.errors import UsageError
from features.repo.apply import write_repo

TEMPLATE = Path(__file__).parent.with_name("portrait.yaml")


def write_project(folder: Path) -> list[Path]:
    """Write ``portrait.yaml`` and ``feature_repo/`` into ``folder``; returns the files written.

    Raises UsageError, before anything is written, when the folder holds one of them already.
    """
    settings, repo = folder / "portrait.yaml", folder / "feature_repo"
    for path in (settings, repo):
        if path.exists():
            raise UsageError(f"{path}: expected no such file, got one; name another folder or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    return [settings, *write_repo(repo, history_dir=folder / "data")]

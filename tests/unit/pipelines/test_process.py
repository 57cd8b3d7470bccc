"""What a process holds once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipelines.process import worker
from pipelines.settings import Fold, History, Models, Settings


def test_models_are_loaded_once_for_the_settings_of_two_stores(tmp_path: Path) -> None:
    live = Settings(feature_repo=tmp_path / "live")
    fresh = dataclasses.replace(live, feature_repo=tmp_path / "fresh", history=History(dir=tmp_path / "data"))
    assert worker(fresh) is not worker(live)
    assert worker(fresh).encoders is worker(live).encoders
    assert worker(fresh).fusion is worker(live).fusion
    assert worker(fresh).taxonomy is worker(live).taxonomy


def test_other_models_are_loaded_beside_them() -> None:
    live, other = Settings(), Settings(models=Models(fusion_kind="average"))
    assert worker(other).fusion is not worker(live).fusion
    assert worker(other).spaces.profile_space != worker(live).spaces.profile_space


def test_vectors_of_other_half_lives_are_of_another_profile_space() -> None:
    live, other = Settings(), Settings(fold=Fold(half_lives_days=(10.0, 365.0)))
    assert other.fold.half_lives_s == (864_000, 31_536_000)
    assert worker(other).spaces.profile_space != worker(live).spaces.profile_space
    assert worker(other).spaces.event_space == worker(live).spaces.event_space

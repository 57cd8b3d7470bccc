"""The two files of a feature repo."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from features.errors import UsageError
from features.online.open import REDIS_TYPE, SQLITE_TYPE, open_store
from features.repo.apply import apply_repo, write_repo


def test_a_repo_is_a_yaml_and_one_importing_file(tmp_path: Path) -> None:
    written = write_repo(tmp_path / "repo", history_dir=tmp_path / "data")
    assert written == [tmp_path / "repo" / "feature_store.yaml", tmp_path / "repo" / "portrait_features.py"]
    assert sorted(tmp_path.rglob("*.*")) == sorted(written)
    config = yaml.safe_load(written[0].read_text())
    assert config["project"] == "portrait"
    assert config["online_store"] == {"type": SQLITE_TYPE, "path": "data/online.db"}
    assert config["offline_store"] == {"type": "duckdb"}
    assert 'HISTORY = Path(__file__).parent / "../data"' in written[1].read_text().replace("'", '"')


def test_the_store_of_a_new_repo_opens(tmp_path: Path) -> None:
    write_repo(tmp_path / "repo", history_dir=tmp_path / "data")
    store = open_store(tmp_path / "repo")
    assert store.claim_space("a", "b") == ("a", "b")
    store.close()


def test_a_repo_on_redis_keeps_the_password_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "localhost:1,ssl=true,password=${SHOP_REDIS_PASSWORD}"
    file, _ = write_repo(tmp_path / "repo", history_dir=tmp_path, project="shop", redis=text)
    assert yaml.safe_load(file.read_text())["online_store"] == {"type": REDIS_TYPE, "connection_string": text}
    with pytest.raises(UsageError, match="SHOP_REDIS_PASSWORD"):
        open_store(tmp_path / "repo")
    monkeypatch.setenv("SHOP_REDIS_PASSWORD", "secret")
    open_store(tmp_path / "repo").close()


def test_files_that_are_there_already_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "portrait_features.py").write_text("mine")
    with pytest.raises(UsageError, match=r"portrait_features\.py: expected no such file"):
        write_repo(tmp_path, history_dir=tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["portrait_features.py"]


def test_applying_a_folder_that_is_no_repo_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run portrait init"):
        apply_repo(tmp_path)

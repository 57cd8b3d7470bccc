"""Settings: what is refused and how it is said, and the order of file, environment and flags."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines.operations import init
from pipelines.settings import Settings, SettingsError, load_settings, secret


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "portrait.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka:\n  statr: latest\n", ":2: kafka.statr: expected a known setting"),
        (
            "kafka:\n  start: lates\n",
            ":2: kafka.start: expected 'earliest', 'latest', 'committed' or 'timestamp', got 'lates'",
        ),
        ("fold: {shards: 0}\n", ":1: fold.shards: expected greater than or equal to 1, got 0"),
        ("fold:\n\n  attempts: many\n", ":3: fold.attempts: expected a valid integer"),
        (
            "fold: {half_lives_days: [40, 10]}\n",
            "expected a half-life of at least an hour (0.042), then a longer",
        ),
        ("fold: {half_lives_days: [10]}\n", ":1: fold.half_lives_days.1: expected Field required"),
        ("fold: {prior_events: 0}\n", ":1: fold.prior_events: expected greater than 0, got 0"),
        ("a: [\n", ": expected YAML"),
        ("- 1\n", ":1: expected a mapping"),
    ],
)
def test_a_wrong_setting_is_named_with_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        load_settings(path, environment={})
    assert str(path) in str(error.value)
    assert said in str(error.value)


def test_several_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(_file(tmp_path, "fold:\n  shards: 0\n  attempts: 0\n"), environment={})
    assert len(str(error.value).splitlines()) == 2


def test_a_named_file_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="readable settings file"):
        load_settings(tmp_path / "none.yaml", environment={})


def test_flags_win_over_the_environment_and_it_over_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "kafka: {group_id: file, start: latest}\nfold: {shards: 2}\n")
    environment = {"PORTRAIT_KAFKA__GROUP_ID": "env", "PORTRAIT_FOLD__SHARDS": "3"}
    settings = load_settings(path, ["kafka.group_id=flag"], environment)
    assert (settings.kafka.group_id, settings.fold.shards, settings.kafka.start) == ("flag", 3, "latest")


def test_paths_of_the_file_are_relative_to_it(tmp_path: Path) -> None:
    settings = load_settings(
        _file(tmp_path, "history: {dir: out}\nmedia: {roots: [blobs]}\n"), environment={}
    )
    assert settings.history.dir == tmp_path / "out"
    assert settings.media.roots == (tmp_path / "blobs",)


def test_a_secret_itself_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(_file(tmp_path, "kafka: {security: {sasl_password: hunter2}}\n"), environment={})
    assert "env:NAME or file:PATH" in str(error.value)
    assert "hunter2" not in str(error.value)


def test_a_secret_is_read_from_the_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "a")
    (tmp_path / "s").write_text("b\n", encoding="utf-8")
    assert (secret("env:SOME_SECRET"), secret(f"file:{tmp_path / 's'}")) == ("a", "b")
    with pytest.raises(SettingsError, match="env:NOT_THERE"):
        secret("env:NOT_THERE")


def test_the_written_file_holds_every_setting_at_its_default(tmp_path: Path) -> None:
    text = init.TEMPLATE.read_text(encoding="utf-8")
    path = _file(tmp_path, text)
    own = ["history.dir=data", "feature_repo=feature_repo", "outputs.dead_letter_spool=dead_letters"]
    defaults = load_settings(path, own, {})
    assert defaults == Settings()

    def keys(value: object, prefix: str = "") -> set[str]:
        if not isinstance(value, dict) or prefix == "mapping.":
            return {prefix}
        return {k for name, inner in value.items() for k in keys(inner, f"{prefix}{name}.")} or {prefix}

    from dataclasses import asdict

    assert keys(yaml.safe_load(text)) == keys(asdict(Settings()))

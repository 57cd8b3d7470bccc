"""The built wheel in a clean environment: it carries all it needs, and runs from a folder of strangers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import ROOT

UV = Path(sys.executable).with_name("uv")
pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def _run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin folder of an environment that holds the locked requirements and the wheel, and no source."""
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    ignore = shutil.ignore_patterns("__pycache__")
    for package in ("features", "models", "pipelines"):
        shutil.copytree(ROOT / package, source / package, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    built = _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", home, cwd=source)
    assert built.returncode == 0, built.stderr
    (wheel,) = home.glob("*.whl")
    environment = home / "env"
    python = environment / "bin" / "python"
    for command in (
        (UV, "venv", "--python", sys.executable, environment),
        (UV, "pip", "install", "--python", python, "--require-hashes", "-r", source / "requirements.txt"),
        (UV, "pip", "install", "--python", python, "--no-deps", wheel),
    ):
        done = _run(*command, cwd=home)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return environment / "bin"


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A working folder that holds packages of the same names."""
    for name in ("features", "models"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('a stranger')\n", encoding="utf-8")
    return tmp_path


def test_the_command_runs_from_a_folder_of_strangers(installed: Path, strangers: Path) -> None:
    for command in ("--help", "--version", "run --help", "encode --help"):
        done = _run(installed / "portrait", *command.split(), cwd=strangers)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_a_shadowed_package_is_refused_with_its_path(installed: Path, strangers: Path) -> None:
    done = _run(installed / "python", "-m", "pipelines.cli.main", "--help", cwd=strangers)
    assert done.returncode == 2
    assert str(strangers / "features") in done.stderr


def test_a_small_run_from_a_folder_of_strangers_writes_profiles(installed: Path, strangers: Path) -> None:
    from pipelines.demo.broker import EmbeddedBroker

    portrait = installed / "portrait"
    assert _run(portrait, "init", "shop", cwd=strangers).returncode == 0
    event = (
        '{"specversion": "1.0", "id": "1", "source": "test", "type": "portrait.review.v1", "subject": "ann", '
        '"time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", '
        '"data": {"text": "A lovely dress that fits well"}}\n'
    )
    (strangers / "events.jsonl").write_text(event, encoding="utf-8")
    with EmbeddedBroker() as broker:
        flags = (
            "-c",
            "shop/portrait.yaml",
            "--set",
            f"kafka.bootstrap_servers=['{broker.bootstrap_servers[0]}']",
        )
        for command in (
            ("apply", *flags),
            ("produce", *flags, "events.jsonl"),
            ("run", *flags, "--until-caught-up"),
        ):
            done = _run(portrait, *command, cwd=strangers)
            assert done.returncode == 0, done.stderr
        shown = _run(portrait, "show", *flags, "ann", "--json", cwd=strangers)
    assert shown.returncode == 0, shown.stderr
    assert '"text_count": 1' in shown.stdout
    assert list((strangers / "shop" / "data" / "profiles").rglob("*.parquet"))

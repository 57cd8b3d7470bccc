"""Libraries of extras: each is one that setup.py brings by that extra, and its absence is one message."""

from __future__ import annotations

import sys
from importlib.metadata import metadata, packages_distributions

import pytest

from pipelines.cli import main
from pipelines.cli.startup import EXTRA_OF, what_is_missing


@pytest.mark.parametrize("module", sorted(EXTRA_OF))
def test_the_extra_of_a_library_brings_it(module: str) -> None:
    required = metadata("portrait-profiles").get_all("Requires-Dist") or []
    names = [name.lower() for name in packages_distributions().get(module, [module])]
    mine = [line for line in required if f'extra == "{EXTRA_OF[module]}"' in line]
    assert any(line.lower().startswith((*names, f"feast[{module}]")) for line in mine)


def test_a_missing_library_of_ours_is_no_advice_to_install_an_extra() -> None:
    assert what_is_missing(ModuleNotFoundError("x", name="pipelines.nothing")) is None


def test_a_command_without_its_library_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pipelines.console.audience", "features.audience.find", "features.audience.language"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "lark", None)
    monkeypatch.setattr(sys, "argv", ["portrait", "audience", "sentiment > 0"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "expected the library lark, got none; pip install 'portrait-profiles[analysis]'" in (
        capsys.readouterr().err
    )

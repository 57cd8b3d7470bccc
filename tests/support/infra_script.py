"""The scripts of ``infra/`` as modules: they are programs, in folders that are no packages."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

import pytest

from tests.support.folders import ROOT


def load_script(name: str) -> Any:
    """The module of ``infra/<name>/<name>.py``."""
    path = ROOT / "infra" / name / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"portrait_infra_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def require_programs(script: Any) -> None:
    """Without Java and Maven the test is skipped, in CI it fails; either way with the line that helps."""
    if missing := script.missing_programs():
        message = f"{' and '.join(missing)} missing; run: {script.INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

"""Import guards: our packages are not shadowed, and a missing library is named with its extra."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

EXTRA_OF: Final = {
    "confluent_kafka": "demo",
    "jinja2": "analysis",
    "lark": "analysis",
    "matplotlib": "analysis",
    "redis": "redis",
    "transformers": "hf",
    "usearch": "analysis",
}
"""Module → extra."""


def what_is_missing(error: ModuleNotFoundError) -> str | None:
    """The message for a library of an extra that is not installed; None for any other module."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return f"expected the library {module}, got none; pip install 'portrait-profiles[{EXTRA_OF[module]}]'"


_HOME = Path(__file__).resolve().parent.parent.parent


def shadowed_package() -> str | None:
    """What is shadowed, as one sentence that names the path; None when all is well."""
    for name in ("features", "models"):
        spec = find_spec(name)
        found = [Path(p).resolve() for p in (spec.submodule_search_locations or ())] if spec else []
        if found != [_HOME / name]:
            where = ", ".join(map(str, found)) or (spec.origin if spec else "nowhere")
            return (
                f"package {name}: expected the one beside {_HOME / 'pipelines'}, got {where}; "
                "run `portrait` (not python -m) or leave that folder, and unset PYTHONPATH"
            )
    return None

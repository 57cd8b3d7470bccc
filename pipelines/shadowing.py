"""Refuse to start when another project's ``features`` or ``models`` would be imported for ours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_HOME = Path(__file__).resolve().parent.parent


def problem() -> str | None:
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

"""The key of a step's inputs: what was computed for equal inputs need not be computed again."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from models.evaluation.step import Budget, Step

VERSION: Final = 1
"""Part of every key."""
_OURS: Final = ("features", "models")


def key_of(step: Step, data: Path, weights: Path, budget: Budget, keys: Mapping[str, str]) -> str:
    """Hex digest of everything that the step's results depend on; ``keys`` are those of earlier steps.

    Of code: the module that holds the step's function, and the modules it names with all of ours that
    these import on loading. Comments and docstrings do not count.
    """
    read = [data / name for name in (*step.files, "dataset.yaml", "taxonomy.json")]
    read += [weights / f"{name}.safetensors" for name in step.weights]
    inputs = {
        "version": VERSION,
        "step": step.name,
        "budget": repr(budget),
        "files": [_digest_of(p, p.stat().st_mtime_ns) if p.is_file() else "" for p in read],
        "code": {m: code_digest(m) for m in sorted({module_of(step)} | closure(*step.code))},
        "needs": [keys[name] for name in step.needs],
    }
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:16]


@cache
def _digest_of(file: Path, _changed_ns: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def module_of(step: Step) -> str:
    """Name of the module that holds the step's function."""
    return str(getattr(step.run, "func", step.run).__module__)


def closure(*modules: str) -> set[str]:
    """These modules and all of ours that they import on loading, directly or not.

    Raises ModuleNotFoundError for a name that is no module: its code would silently count for nothing.
    """
    for name in modules:
        if _file_of(name) is None:
            raise ModuleNotFoundError(f"evaluate: expected a module of ours, got {name!r}", name=name)
    found: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += _imports(name)
    return found


@cache
def code_digest(module: str) -> str:
    """Hex digest of a module's code without comments and docstrings."""
    tree = _tree(module)
    for node in ast.walk(tree):
        body: list[Any] = getattr(node, "body", [])
        if isinstance(body, list):
            body[:] = [s for s in body if not _is_text(s)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None) if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(name for name in _named(_tree(module)) if name.split(".")[0] in _OURS and _file_of(name))


def _named(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _tree(module: str) -> ast.Module:
    file = _file_of(module)
    return ast.parse(file.read_text(encoding="utf-8") if file else "")


@cache
def _file_of(module: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name in a module, not a module
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None

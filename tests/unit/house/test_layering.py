"""The rules of the house: who may import whom, how long a file may be, what no file may say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.folders import ROOT

PACKAGES = ("features", "models", "pipelines")
SHARED = {"features.schema", "features.taxonomy", "features.errors"}
ROOMS = {
    "features": "errors schema taxonomy atomic_file fold profile online repo tables audience similar report",
    "models": (
        "checkpoint device encoder probes file_format positional_encoding space heads pretrained fusion "
        "text image voice registry training evaluation"
    ),
    "models.training": "muon averaging resume splits dataset calibration text voice image fusion train",
    "models.evaluation": "step statistics cache_keys pool encoders users report plan runner",
    "pipelines": (
        "settings settings_edit process messages metrics job_counters kafka steps graph runners operations "
        "console service demo cli"
    ),
    "pipelines.runners": (
        "prepare progress local_workers reject_alarm local stored_positions streaming dataflow flink"
    ),
}
"""Package → its rooms and modules from the bottom up: each imports only what comes before it."""
MOST_MODULES = 20
"""In one folder, beside its ``__init__``."""
LIBRARY_OF = {
    "apache_beam": re.compile(r"pipelines\b"),
    "torch": re.compile(r"models\b"),
    "feast": re.compile(r"features\.(online|repo)\b"),
    "kafka": re.compile(r"pipelines\.kafka\b"),
    "confluent_kafka": re.compile(r"pipelines\.demo\.broker\b"),
}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {_module(p): p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


def _imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Full names of imported modules; ``from a import b`` gives a.b where that is a module of ours."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import")
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in SOURCES else str(node.module)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_direction(module: str) -> None:
    for name in _imports(SOURCES[module]):
        target = name.split(".")[0]
        assert target != "tests", f"{module} imports {name}"
        if module.startswith("features"):
            assert target not in ("models", "pipelines"), f"{module} imports {name}"
        if module.startswith("models"):
            allowed = SHARED | (
                {"features.fold.fold", "features.fold.packed_state"}
                if module.startswith(("models.training", "models.evaluation"))
                else set()
            )
            assert target != "pipelines", f"{module} imports {name}"
            assert target != "features" or name in allowed, f"{module} imports {name}"
        if target in LIBRARY_OF:
            assert LIBRARY_OF[target].match(module), f"{module} may not know {target}"


def _room(package: str, module: str) -> str | None:
    """The room of a package that a module is in; None for the package itself and for modules elsewhere."""
    inside = module.removeprefix(f"{package}.")
    return None if inside == module else inside.split(".")[0]


@pytest.mark.parametrize("package", ROOMS)
def test_the_order_names_every_room(package: str) -> None:
    here = {room for module in SOURCES if (room := _room(package, module))}
    ahead = {"service"}  # its place is agreed, its code is still to come
    assert set(ROOMS[package].split()) - ahead == here - ahead


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_from_rooms_below_them(package: str) -> None:
    order = ROOMS[package].split()
    for module, path in SOURCES.items():
        room = _room(package, module)
        for name in _imports(path) if room else ():
            other = _room(package, name)
            if room and other:
                assert order.index(other) <= order.index(room), f"{module} imports {name}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES.values()}), ids=lambda f: f.name)
def test_a_folder_can_be_taken_in_at_a_glance(folder: Path) -> None:
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES


@pytest.mark.parametrize("package", [m for m, path in SOURCES.items() if path.name == "__init__.py"])
def test_the_map_of_a_package_names_what_is_in_it(package: str) -> None:
    folder = SOURCES[package].parent
    children = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    doc = ast.get_docstring(ast.parse(SOURCES[package].read_text(encoding="utf-8"))) or ""
    assert not {c for c in children - {"__init__", "__main__"} if not re.search(rf"``{c}(/|``)", doc)}


def test_unit_tests_mirror_the_folders() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {
        p.parent.relative_to(unit)
        for p in unit.rglob("test_*.py")
        if p.relative_to(unit).parts[0] in PACKAGES
    }
    assert not {f for f in folders if not (ROOT / f).is_dir()}


def test_there_is_no_import_cycle() -> None:
    graph = {
        m: {n for n in _imports(p, top_level=True) if n in SOURCES and n != m} for m, p in SOURCES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle: {error.args[1]}")


@pytest.mark.parametrize("module", SOURCES)
def test_no_file_is_longer_than_400_lines(module: str) -> None:
    assert len(SOURCES[module].read_text(encoding="utf-8").splitlines()) <= 400


def test_no_file_is_named_for_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    assert not [m for m in SOURCES if m.split(".")[-1] in vague]


def test_only_the_settings_read_the_environment() -> None:
    reading = re.compile(r"os\.(environ\.get|getenv|environ\[[^]]+\](?!\s*=))")
    readers = {m for m, p in SOURCES.items() if reading.search(p.read_text(encoding="utf-8"))}
    # feast_import puts back what importing Feast changes there
    assert readers <= {"pipelines.settings", "features.online.feast_import"}, readers


def test_the_graph_holds_no_dofn_and_fits_a_screen() -> None:
    text = SOURCES["pipelines.graph"].read_text(encoding="utf-8")
    assert "DoFn" not in text.replace("Holds no DoFn", "")
    assert len(text.splitlines()) <= 60


def test_the_top_level_holds_only_what_was_agreed() -> None:
    allowed = {"pipelines", "features", "models", "infra", "tests", "setup.py", "README.md", "README.zh.md"}
    allowed |= {
        "pyproject.toml",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
        ".ci",
        "requirements.txt",
        ".gitignore",
    }
    local = {".git", ".venv", ".cache", "var", "build", "dist", "report"}
    found = {
        p.name
        for p in ROOT.iterdir()
        if not p.name.endswith((".egg-info", "_cache")) and p.name != ".hypothesis"
    }
    assert found - allowed - local == set()

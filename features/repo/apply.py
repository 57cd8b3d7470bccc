"""Write a feature repo, and apply it: what ``portrait init`` and ``portrait apply`` do about Feast."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from string import Template
from typing import Final

import yaml

from features.errors import UsageError
from features.online.open import CONFIG_FILE, REDIS_TYPE, SQLITE_TYPE

TEMPLATE: Final = Path(__file__).with_name(CONFIG_FILE)
DEFINITIONS_FILE: Final = "portrait_features.py"

_DEFINITIONS: Final = Template('''\
"""The Feast objects of Portrait; declare your own views and services beside them."""

from pathlib import Path

from features.repo.definitions import profile_objects

HISTORY = Path(__file__).parent / $history_dir

user, profiles, user_profile, user_modalities, profile, profile_card = profile_objects(HISTORY)
''')

_SQLITE_ALTERNATIVE: Final = f"""
  # A file serves one machine. For several, use Redis with appendonly yes and maxmemory-policy noeviction:
  # type: {REDIS_TYPE}
  # connection_string: localhost:6379,password=${{REDIS_PASSWORD}}   # or with ssl=true
"""


def write_repo(
    folder: str | Path, *, history_dir: str | Path, project: str = "portrait", redis: str | None = None
) -> list[Path]:
    """Write ``feature_store.yaml`` and one importing file; returns the files written.

    ``history_dir`` holds the parquet tables; the repo names it relative to itself. ``redis``: a
    connection string (``host:port,name=value,…``; passwords as ``${NAME}`` of the environment);
    default: SQLite inside the repo.

    Raises UsageError if a file is there already.
    """
    folder = Path(folder)
    online = _sqlite_section() if redis is None else _redis_section(redis)
    relative = Path(os.path.relpath(history_dir, folder)).as_posix()
    contents = {
        CONFIG_FILE: Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            project=project, online_store=online
        ),
        DEFINITIONS_FILE: _DEFINITIONS.substitute(history_dir=repr(relative)),
    }
    for name in contents:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name}: expected no such file, got one; name another folder or remove it"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def apply_repo(folder: str | Path) -> None:
    """What ``feast apply`` does: bring registry and online store in line with the repo's definitions.

    Raises UsageError if the repo cannot be read or Feast refuses it.
    """
    folder = Path(folder).resolve()
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise UsageError(f"{file}: expected a feature repo, got no such file; run portrait init")

    from features.online import feast_import  # noqa: F401, I001 (first)
    from feast.errors import FeastError
    from feast.repo_config import FeastConfigError, load_repo_config
    from feast.repo_operations import apply_total

    said = StringIO()
    try:
        with _as_in_a_process_of_its_own(folder), redirect_stdout(said):
            # The parquet files may not exist yet; the schema is complete without them.
            apply_total(load_repo_config(folder, file), folder, skip_source_validation=True)
    except (FeastError, FeastConfigError) as error:
        raise UsageError(f"{file}: expected a repo that Feast applies, got {error}; correct it") from error
    except SystemExit:  # Feast prints why, then exits
        reason = " ".join(said.getvalue().split())
        raise UsageError(f"{file}: expected a repo that Feast applies, got {reason!r}; correct it") from None


@contextmanager
def _as_in_a_process_of_its_own(folder: Path) -> Iterator[None]:
    """Feast changes the working directory and imports the repo's files as top-level modules."""
    directory, bytecode, modules = Path.cwd(), sys.dont_write_bytecode, set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        sys.dont_write_bytecode = bytecode
        os.chdir(directory)


def _sqlite_section() -> str:
    section = f"type: {SQLITE_TYPE}\npath: data/online.db"
    return _indented(section) + _SQLITE_ALTERNATIVE.rstrip()


def _redis_section(connection_string: str) -> str:
    return _indented(
        yaml.safe_dump({"type": REDIS_TYPE, "connection_string": connection_string}, sort_keys=False)
    )


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())

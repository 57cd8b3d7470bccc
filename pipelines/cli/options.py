"""What every command takes: the settings file and overrides of single settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def with_settings(command: _F) -> _F:
    """Add ``-c`` and ``--set``."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="override one setting, e.g. kafka.group_id=x",
    )(command)
    return click.option(
        "-c", "--config", type=click.Path(path_type=Path), help="settings file (default: ./portrait.yaml)"
    )(command)


def load(config: Path | None, overrides: tuple[str, ...]) -> Any:
    from pipelines.settings import load_settings

    return load_settings(config, overrides)

"""Users of a command line: named one by one, or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from features.errors import UsageError


def listed(users: Sequence[str], file: Path | None) -> list[str]:
    """The users named, then those of the file. Raises UsageError where there is none, or no list."""
    from features.audience import read_user_list

    found = [*users, *(read_user_list(file) if file is not None else ())]
    if not found:
        raise UsageError("expected at least one user, got none; name them, or a file with --file")
    return found

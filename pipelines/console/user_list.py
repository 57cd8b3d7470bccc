"""Users of a command line: named one by one, or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import UsageError
from features.schema import JOIN_KEY, USER_ID


def listed(users: Sequence[str], file: Path | None) -> list[str]:
    """The users named, then those of the file. Raises UsageError where there is none, or no list."""
    found = [*users, *(read_user_list(file) if file is not None else ())]
    if not found:
        raise UsageError("expected at least one user, got none; name them, or a file with --file")
    return found


def read_user_list(file: Path) -> list[str]:
    """User ids of a ``.parquet`` file (column ``user_id``) or of a text file (one a line), each once.

    Raises UsageError naming the file, and the line of what is no user id.
    """
    try:
        if file.suffix == ".parquet":
            column = pq.read_table(file, columns=[JOIN_KEY])[JOIN_KEY].cast(pa.string())
            lines: list[str | None] = column.to_pylist()
        else:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError, pa.ArrowException, KeyError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise UsageError(
            f"{file}: expected user ids, one a line, or parquet with {JOIN_KEY}, got {said}; correct it"
        ) from error
    users: dict[str, None] = {}
    for number, user in enumerate(lines, start=1):
        if user and not USER_ID.fullmatch(user):
            raise UsageError(
                f"{file}:{number}: expected a user id (A-Z a-z 0-9 _ . @ -), got {user[:40]!r}; correct it"
            )
        if user:
            users[user] = None
    if not users:
        raise UsageError(f"{file}: expected at least one user id, got none; fill it")
    return list(users)

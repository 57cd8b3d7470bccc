"""Users of a command line: named one by one, or in a file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import UsageError
from features.schema import JOIN_KEY, MAX_USER_ID_BYTES, is_user_id

_LOG = logging.getLogger(__name__)


def listed(users: Sequence[str], file: Path | None) -> list[str]:
    """The users named, then those of the file. Raises UsageError where there is none, or no list."""
    found = [*users, *(read_user_list(file) if file is not None else ())]
    if not found:
        raise UsageError("expected at least one user, got none; name them, or a file with --file")
    return found


def read_user_list(file: Path) -> list[str]:
    """User ids of a ``.parquet`` file (column ``user_id``) or of a text file (one a line), each once.

    A line is an id as it stands: blanks at its ends, ``#`` and ``-`` are part of it; empty lines are none.
    Raises UsageError naming the file, and the line of what is no user id.
    """
    try:
        if file.suffix == ".parquet":
            column = pq.read_table(file, columns=[JOIN_KEY])[JOIN_KEY].cast(pa.string())
            lines: list[str | None] = column.to_pylist()
        else:
            lines = list(file.read_text(encoding="utf-8-sig").split("\n"))
    except (OSError, UnicodeDecodeError, pa.ArrowException, KeyError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise UsageError(
            f"{file}: expected user ids, one a line, or parquet with {JOIN_KEY}, got {said}; correct it"
        ) from error
    users: dict[str, None] = {}
    for number, user in enumerate(lines, start=1):
        if user and not is_user_id(user):
            raise UsageError(
                f"{file}:{number}: expected a user id (1 to {MAX_USER_ID_BYTES} bytes of UTF-8, no control "
                f"characters), got {user[:40]!r}; correct it"
            )
        if user:
            users[user] = None
    if not users:
        raise UsageError(f"{file}: expected at least one user id, got none; fill it")
    if padded := sum(user != user.strip() for user in users):
        _LOG.warning("%s: %d ids begin or end with a blank; blanks are part of an id", file, padded)
    return list(users)

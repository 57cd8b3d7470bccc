"""``portrait lookup``: profiles with their status, for services and shells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from features.errors import UsageError
from features.online.lookup import AgeOf, Profile, lookup
from features.schema import visible
from pipelines.settings import Settings

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def lookup_users(
    users: Sequence[str], settings: Settings, max_age: str | None, age_of: AgeOf, as_json: bool
) -> bool:
    """Print one profile per user; True where all are served. ``max_age``: see :func:`parse_age`."""
    oldest = None if max_age is None else parse_age(max_age)
    check_text(users)
    profiles = lookup(settings.feature_repo, users, oldest, age_of=age_of)
    print(json_line([p.as_dict() for p in profiles]) if as_json else "\n".join(map(_line, profiles)))  # noqa: T201
    return all(profile.status in ("fresh", "stale") for profile in profiles)


def check_text(users: Sequence[str]) -> None:
    """Raises UsageError for an argument of a command line that is no UTF-8: nobody can have such an id."""
    for number, user in enumerate(users, start=1):
        if not user.isascii() and any("\ud800" <= letter <= "\udfff" for letter in user):
            raise UsageError(
                f"user {number}: expected UTF-8, got other bytes; correct it, or the locale of the shell"
            )


def parse_age(text: str) -> timedelta:
    """A length of time such as 90s, 30m, 12h, 14d, 2w. Raises UsageError.

    >>> parse_age("14d").days
    14
    """
    if found := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhdw])", text.strip()):
        return timedelta(**{_UNITS[found[2]]: float(found[1])})
    raise UsageError(
        f"--max-age: expected a number and one of s, m, h, d, w, got {text!r}; for example --max-age 14d"
    )


def json_line(value: Any, *, allow_nan: bool = False) -> str:
    """A value of profiles as one line of JSON; what would not show, or would turn the line, is escaped.

    >>> json_line({"user_id": "张三\\u202e"})
    '{"user_id": "张三\\\\u202e"}'
    """
    return visible(json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, default=plain))


def plain(value: Any) -> Any:
    """A time or a vector of a profile as JSON has it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.tolist()  # a vector


def _line(profile: Profile) -> str:
    if profile.status in ("unknown", "erased"):
        return f"{visible(profile.user_id)}  {profile.status}"
    interests = ", ".join((profile.interests or ())[:3]) or "no interests yet"
    mood = "" if profile.sentiment is None else f"; sentiment {profile.sentiment:+.2f}"
    seen = "no event" if profile.last_event is None else f"newest event {plain(profile.last_event)}"
    user = visible(profile.user_id)
    return f"{user}  {profile.status}  {seen}; {profile.version} events; {interests}{mood}"

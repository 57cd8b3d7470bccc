"""``portrait lookup``: profiles with their status, for services and shells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from features.errors import UsageError
from features.online.lookup import AgeOf, Profile, lookup
from pipelines.settings import Settings

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def lookup_users(
    users: Sequence[str], settings: Settings, max_age: str | None, age_of: AgeOf, as_json: bool
) -> bool:
    """Print one profile per user; True where all are served. ``max_age``: see :func:`parse_age`."""
    oldest = None if max_age is None else parse_age(max_age)
    profiles = lookup(settings.feature_repo, users, oldest, age_of=age_of)
    print(_as_json(profiles) if as_json else "\n".join(map(_line, profiles)))  # noqa: T201
    return all(profile.status in ("fresh", "stale") for profile in profiles)


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


def _as_json(profiles: Sequence[Profile]) -> str:
    rows = [profile.as_dict() for profile in profiles]
    return json.dumps(rows, ensure_ascii=False, allow_nan=False, default=plain)


def plain(value: Any) -> Any:
    """A time or a vector of a profile as JSON has it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.tolist()  # a vector


def _line(profile: Profile) -> str:
    if profile.status in ("unknown", "erased"):
        return f"{profile.user_id}  {profile.status}"
    interests = ", ".join((profile.interests or ())[:3]) or "no interests yet"
    mood = "" if profile.sentiment is None else f"; sentiment {profile.sentiment:+.2f}"
    seen = "no event" if profile.last_event is None else f"newest event {plain(profile.last_event)}"
    return f"{profile.user_id}  {profile.status}  {seen}; {profile.version} events; {interests}{mood}"

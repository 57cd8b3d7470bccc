"""Look profiles up, as services do: typed rows with a status that says whether they may be used.

.. code-block:: python

    import features

    for profile in features.lookup("feature_repo", ["u1", "u2"], timedelta(days=14)):
        if profile.status == "fresh":
            recommend(profile.user_id, profile.embedding)

Reads the store's bytes directly and never imports Feast, so that a process starts in a moment. (Feast
does not judge the age of what it serves: https://github.com/feast-dev/feast/issues/6821.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from features.errors import PortraitError
from features.fold.packed_state import read_mark
from features.online import ProfileStore
from features.online import decode as wire
from features.online.open import open_store
from features.schema import JOIN_KEY, PROFILE_FIELDS

Status = Literal["fresh", "stale", "unknown", "erased"]
"""fresh: served, young enough; stale: served, older than asked for or of unknown age; unknown: not
served; erased: a tombstone, and nothing else is kept."""

AgeOf = Literal["event", "created"]
"""What the age is counted from: the newest event of the profile, or the last write of the profile."""

_T = TypeVar("_T")
_PLACES: Final = {field.name: place for place, field in enumerate(PROFILE_FIELDS)}
_LAST_EVENT: Final = _PLACES["last_event"]
_NOTHING: Final[Sequence[bytes | None]] = (None,) * len(PROFILE_FIELDS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ValueFormatError(PortraitError, ValueError):
    """Bytes in the store that are not what the schema says of the field."""


def _served(name: str, decode: Callable[[bytes | None], _T]) -> cached_property[_T]:
    """A field of PROFILE_FIELDS, decoded when it is first asked for: decoding all 26 fields of a user
    takes longer than reading them."""
    place = _PLACES[name]
    return cached_property(lambda profile: _decoded(profile.values, place, decode))


def _decoded(values: Sequence[bytes | None], place: int, decode: Callable[[bytes | None], _T]) -> _T:
    try:
        return decode(values[place])
    except ValueError as error:
        wanted = PROFILE_FIELDS[place]
        raise ValueFormatError(
            f"profile field {wanted.name}: expected a value of type {wanted.type}, got other bytes; "
            "another version or program wrote it: run portrait rebuild"
        ) from error


@dataclass(frozen=True, eq=False)
class Profile:
    """A user as the online store serves her: status, and the fields of ``features.schema.PROFILE_FIELDS``.

    A field is None where there is nothing (no sentiment was judged, no voice was heard), and all of them
    are for a user who is unknown or erased. Times are aware UTC in whole seconds, ``tags`` and
    ``aspects`` parsed JSON. Fields are decoded when first asked for, and raise ValueFormatError then.
    """

    user_id: str
    status: Status
    created: datetime | None
    """When the profile was last written; read only with ``age_of="created"``, else None."""
    values: Sequence[bytes | None] = field(repr=False)
    """The fields as stored, in the order of PROFILE_FIELDS."""

    embedding = _served("embedding", wire.vector)
    profile_space = _served("profile_space", wire.text)
    event_space = _served("event_space", wire.text)
    revision = _served("revision", wire.whole)
    version = _served("version", wire.whole)
    incarnation = _served("incarnation", wire.whole)
    modality_mask = _served("modality_mask", wire.whole)
    confidence = _served("confidence", wire.real)
    top_category = _served("top_category", wire.text)
    interests = _served("interests", wire.texts)
    tags = _served("tags", wire.parsed_json)
    sentiment = _served("sentiment", wire.real)
    sentiment_recent = _served("sentiment_recent", wire.real)
    aspects = _served("aspects", wire.parsed_json)
    languages = _served("languages", wire.texts)
    first_event = _served("first_event", wire.time)
    last_event = _served("last_event", wire.time)
    text_embedding = _served("text_embedding", wire.vector)
    text_count = _served("text_count", wire.whole)
    text_last_event = _served("text_last_event", wire.time)
    image_embedding = _served("image_embedding", wire.vector)
    image_count = _served("image_count", wire.whole)
    image_last_event = _served("image_last_event", wire.time)
    voice_embedding = _served("voice_embedding", wire.vector)
    voice_count = _served("voice_count", wire.whole)
    voice_last_event = _served("voice_last_event", wire.time)

    def as_dict(self) -> dict[str, Any]:
        """User id, status, created and every field, decoded."""
        named = {f.name: getattr(self, f.name) for f in PROFILE_FIELDS}
        return {JOIN_KEY: self.user_id, "status": self.status, "created": self.created, **named}


def lookup(
    store_or_repo: ProfileStore | str | Path,
    users: Sequence[str],
    max_age: timedelta | None = None,
    *,
    age_of: AgeOf = "event",
    now: datetime | None = None,
) -> list[Profile]:
    """One profile per user, in the order asked; a user may be asked for twice.

    ``store_or_repo``: an open store (services keep one; it is safe between threads), or the folder of
    its ``feature_store.yaml``, which is opened and closed. Without ``max_age`` whatever is served is
    fresh. ``age_of="created"`` reads the states too, three times the bytes; profiles that
    ``feast materialize`` loaded have none, and count as stale. ``now``: aware; default: the clock.

    Raises StoreConfigError for a folder that is no repo, StoreError where the store does not answer,
    RecordError or LayoutError for a state that cannot be read, ValueFormatError for such an age.
    """
    asked = list(users)
    with _opened(store_or_repo) as store:
        held = store.read_views(asked, records=age_of == "created")
    oldest_s = None if max_age is None else ((now or datetime.now(UTC)) - max_age - _EPOCH).total_seconds()
    profiles = []
    for user_id, (values, record) in zip(asked, held, strict=True):
        erased, created = (False, None) if record is None else _mark(record)
        if values is None:
            profiles.append(Profile(user_id, "erased" if erased else "unknown", created, _NOTHING))
        else:
            young = oldest_s is None or _is_young(values, created, age_of, oldest_s)
            profiles.append(Profile(user_id, "fresh" if young else "stale", created, values))
    return profiles


def _mark(record: bytes) -> tuple[bool, datetime]:
    erased, created_us = read_mark(record)
    return erased, _EPOCH + timedelta(microseconds=created_us)


def _is_young(
    values: Sequence[bytes | None], created: datetime | None, age_of: AgeOf, oldest_s: float
) -> bool:
    if age_of == "created":
        return created is not None and (created - _EPOCH).total_seconds() >= oldest_s
    event_s = _decoded(values, _LAST_EVENT, wire.seconds)
    return event_s is not None and event_s >= oldest_s


@contextmanager
def _opened(store_or_repo: ProfileStore | str | Path) -> Iterator[ProfileStore]:
    if not isinstance(store_or_repo, str | Path):
        yield store_or_repo
        return
    store = open_store(store_or_repo)
    try:
        yield store
    finally:
        store.close()

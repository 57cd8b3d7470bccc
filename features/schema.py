"""Names, dtypes, shapes and units of events and profiles; the only place that knows them.

Everything else (the fold, the Feast views, the parquet tables, the data dictionary) is derived
from the tables below. Times are integer microseconds since 1970-01-01T00:00:00Z (``_us``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, NamedTuple

import numpy as np

EMBEDDING_DIM: Final = 64
"""Dimension of the one space that all modalities share."""

DAY_S: Final = 86_400
HALF_LIVES_S: Final = (10 * DAY_S, 40 * DAY_S)
"""Half-lives of the decayed sums, in seconds: one that follows a season, one that remembers."""

PRIOR_EVENTS: Final = 4.0
"""Decayed number of events at which the confidence in a profile is one half; in a tag, half as many."""

MAX_TAGS: Final = 64
"""Tag slots of a profile: the categories of a taxonomy, both levels counted together."""

TAGS_PER_EVENT: Final = 4
NO_TAG: Final = 255
"""Empty tag slot of an event."""


class Modality(IntEnum):
    """What kind of content an event carries. The value indexes the arrays of a state."""

    TEXT = 0
    IMAGE = 1
    VOICE = 2
    BEHAVIOUR = 3  # reserved: the layout has room, nothing writes it yet


MODALITIES: Final = tuple(m.name.lower() for m in Modality)


class Kind(IntEnum):
    """What an event asks of the fold."""

    CONTENT = 0
    ERASE = 1
    READMIT = 2


LANGUAGES: Final = ("zh", "en", "other", "none")
"""Index = the ``lang`` of an event; ``none`` where there is no language (photos)."""

ASPECTS: Final = (
    "price",
    "quality",
    "fit",
    "delivery",
    "service",
    "appearance",
    "material",
    "packaging",
    "performance",
    "taste",
    "location",
    "cleanliness",
)
"""What reviews speak about; index = bit in ``aspect_mask`` and column in ``aspect_sentiment``."""

EVENT_DTYPE: Final = np.dtype(
    [
        ("event_time_us", "<i8"),
        ("record_time_us", "<i8"),  # Kafka record timestamp
        ("topic_key", "<u8"),  # xxh3_64 of the topic id (or "cluster/topic" where a broker has none)
        ("partition", "<u4"),
        ("offset", "<i8"),
        ("event_key", "<u8"),  # xxh3_64 of source + NUL + event id
        ("content_key", "<u8"),  # xxh3_64 of the content; same event_key with another one: an alarm
        ("kind", "<u1"),  # Kind
        ("modality", "<u1"),  # Modality; ignored for controls
        ("lang", "<u1"),  # index in LANGUAGES
        ("tag", "<u1", (TAGS_PER_EVENT,)),  # taxonomy slots, NO_TAG where unused
        ("tag_score", "<f4", (TAGS_PER_EVENT,)),  # 0..1
        ("sentiment", "<f4"),  # -1..1, NaN where none was judged
        ("aspect_mask", "<u2"),  # bit i = ASPECTS[i] was mentioned
        ("aspect_sentiment", "i1", (len(ASPECTS),)),  # -1, 0, 1
        ("embedding", "<f2", (EMBEDDING_DIM,)),  # unit length before rounding to fp16
    ]
)
"""The numbers of one encoded event, packed; a batch of events is one array of it."""


EVENT_TIME_MIN_US: Final = 1
EVENT_TIME_MAX_US: Final = 253_402_300_799_999_999
"""Event times that a state can hold: after 1970 (0 means "none") to the end of year 9999."""

LAYOUT: Final = 1
"""Number of the record layout below; a record starts with it."""

_MODALITY_DTYPE: Final = np.dtype(
    [
        ("sum", "<f4", (len(HALF_LIVES_S), EMBEDDING_DIM)),  # decayed sum of unit vectors
        ("newest", "<f2", (EMBEDDING_DIM,)),  # embedding of the newest event
        ("newest_us", "<i8"),  # its time; 0: no event yet
        ("newest_key", "<u8"),  # its event_key: newest = greatest (time, key)
        ("weight", "<f4", (len(HALF_LIVES_S),)),  # decayed number of events
        ("count", "<u4"),
        ("reserved", "u1", (36,)),
    ]
)
_TAG_DTYPE: Final = np.dtype(
    [
        ("weight", "<f4", (len(MODALITIES), len(HALF_LIVES_S))),  # decayed sum of scores
        ("evidence_us", "<i8", (2,)),  # times of the newest two supporting events; 0: none
        ("evidence_key", "<u8", (2,)),  # their event keys
    ]
)
_ASPECT_DTYPE: Final = np.dtype(
    [
        ("weight", "<f4", (len(HALF_LIVES_S),)),  # decayed number of mentions
        ("sentiment", "<f4", (len(HALF_LIVES_S),)),  # decayed sum of -1, 0, 1
        ("evidence_us", "<i8", (2,)),
        ("evidence_key", "<u8", (2,)),
    ]
)

HEAD_DTYPE: Final = np.dtype(
    [
        ("flags", "<u4"),  # bit 0: erased (a tombstone)
        ("incarnation", "<u4"),  # grows by one with every re-admission
        ("revision", "<u8"),  # grows by one with every write of any kind
        ("version", "<u8"),  # events applied, over all incarnations
        ("created_us", "<i8"),  # wall clock of the last write, strictly growing
        ("event_space", "<u8"),  # first 64 bits of the hex fingerprints
        ("profile_space", "<u8"),
        ("taxonomy", "<u8"),
        ("first_event_us", "<i8"),  # 0: no event yet
        ("last_event_us", "<i8"),
        ("half_life_s", "<u4", (len(HALF_LIVES_S),)),  # what the sums below decay by; 0: not yet folded
        ("languages", "<u4", (len(LANGUAGES),)),  # events by language
        ("sentiment_weight", "<f4", (len(HALF_LIVES_S),)),
        ("sentiment_sum", "<f4", (len(HALF_LIVES_S),)),
        ("reserved", "u1", (16,)),
        ("modality", _MODALITY_DTYPE, (len(MODALITIES),)),
        ("tag", _TAG_DTYPE, (MAX_TAGS,)),  # by taxonomy slot
        ("aspect", _ASPECT_DTYPE, (len(ASPECTS),)),
    ]
)
"""The fixed part of a state, little-endian and packed, every field on its natural boundary.

A decayed sum counts an event of time t as 2^((t - k·h) / h), where k·h is the first point of the
half-life's grid at or after the newest event of its modality (``modality``) or of the user (the rest).
"""

BLOCK_BYTES: Final = 64
"""A stored head leaves out its blocks of zeros; 64 bytes is one tag."""

PREFIX_DTYPE: Final = np.dtype(
    [
        ("layout", "<u2"),
        ("reserved", "<u2"),
        ("checksum", "<u4"),  # low half of the xxh3_64 of everything after it
        ("n_sources", "<u4"),
        ("n_window", "<u4"),
        ("n_category_sums", "<u4"),  # room for embedding sums by category; 0 in layout 1
        ("reserved_too", "<u4"),
        ("blocks", "u1", (16,)),  # bit i (little-endian): block i of the head is stored
    ]
)
"""What a record starts with; then the stored blocks of the head, the sources, the window."""

SOURCE_DTYPE: Final = np.dtype(
    [
        ("topic_key", "<u8"),
        ("floor", "<i8"),  # offsets at or below count as seen
        ("top", "<i8"),  # greatest offset met
        ("gone", "<i8"),  # offsets at or below belong to an erased incarnation; -1: none
        ("partition", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""One partition of one incarnation of a topic, as one user met it; sorted by (topic_key, partition)."""

WINDOW_DTYPE: Final = np.dtype(
    [
        ("offset", "<i8"),
        ("event_key", "<u8"),
        ("content_key", "<u4"),  # low 32 bits: enough for an alarm
        ("source", "<u2"),  # index among the user's sources
        ("kind", "<u2"),  # Kind
    ]
)
"""One record met, sorted by (source, offset)."""


class EncodedEvent(NamedTuple):
    """An event after inference: all that crosses the shuffle (about 300 bytes).

    ``numbers`` is one packed item of :data:`EVENT_DTYPE`. ``labels`` is JSON: for every head that
    did not abstain ``{"head": ["label", score]}``. Never holds raw content.
    """

    user_id: str
    source: str  # CloudEvents source
    event_id: str  # CloudEvents id
    topic: str
    labels: str
    numbers: bytes


FieldType = Literal["vector", "float", "int", "string", "strings", "time", "json"]
"""vector = float32[EMBEDDING_DIM]; time = µs UTC; json = a string that holds JSON."""


@dataclass(frozen=True, slots=True)
class ProfileField:
    """One column of a profile: where it is served, its type, and what it means."""

    name: str
    view: Literal["user_profile", "user_modalities"]
    type: FieldType
    doc: str


ENTITY: Final = "user"
JOIN_KEY: Final = "user_id"
MAX_USER_ID_BYTES: Final = 256
_NOT_IN_USER_ID: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

PROFILE_FIELDS: Final = (
    ProfileField("embedding", "user_profile", "vector", "fused vector, unit length, of profile_space"),
    ProfileField("profile_space", "user_profile", "string", "names the space of embedding (hex)"),
    ProfileField("event_space", "user_profile", "string", "names the encoders behind it (hex)"),
    ProfileField("revision", "user_profile", "int", "grows by one with every write of any kind"),
    ProfileField("version", "user_profile", "int", "number of events applied"),
    ProfileField("incarnation", "user_profile", "int", "grows by one with every re-admission"),
    ProfileField("modality_mask", "user_profile", "int", "bit i = Modality(i) has been seen"),
    ProfileField("confidence", "user_profile", "float", "0..1: how much recent evidence there is"),
    ProfileField("top_category", "user_profile", "string", "strongest tag of the first level, or empty"),
    ProfileField("interests", "user_profile", "strings", "tag ids, strongest first, both levels"),
    ProfileField(
        "tags",
        "user_profile",
        "json",
        "[{id, zh, en, parent (below a category), level, weight, confidence, share, last_seen, evidence}]",
    ),
    ProfileField("sentiment", "user_profile", "float", "-1..1, mean of the long half-life; NaN: none"),
    ProfileField(
        "sentiment_recent", "user_profile", "float", "-1..1, mean of the short half-life; NaN: none"
    ),
    ProfileField("aspects", "user_profile", "json", "[{id, weight, sentiment, evidence}]"),
    ProfileField("languages", "user_profile", "strings", "languages of texts and voices, most used first"),
    ProfileField("first_event", "user_profile", "time", "oldest event time applied"),
    ProfileField("last_event", "user_profile", "time", "newest event time applied"),
    *(
        ProfileField(f"{modality}_{name}", "user_modalities", kind, doc)  # type: ignore[arg-type]
        for modality in MODALITIES[:3]
        for name, kind, doc in (
            ("embedding", "vector", "mean of the long half-life, unit length; zeros: none"),
            ("count", "int", "events applied"),
            ("last_event", "time", "newest event time applied; 0: none"),
        )
    ),
)
"""All columns of a profile row beside ``user_id``, ``event_timestamp`` and ``created``."""

VIEWS: Final = ("user_profile", "user_modalities")


def is_user_id(text: str) -> bool:
    """Whether a text is a user id: 1 to 256 bytes of UTF-8, without control characters, line separators and
    lone surrogates. Ids are compared byte for byte: blanks count, and nothing is normalised.

    >>> is_user_id("auth0|5f7c"), is_user_id("张三"), is_user_id("a\\nb"), is_user_id("")
    (True, True, False, False)
    """
    return (
        0 < len(text) <= MAX_USER_ID_BYTES
        and not _NOT_IN_USER_ID.search(text)
        and (text.isascii() or len(text.encode()) <= MAX_USER_ID_BYTES)
    )


def visible(text: str) -> str:
    """A text for people, such as a user id: what would not show, or would turn the text around, as JSON
    escapes it. JSON on one line stays the same JSON.

    >>> visible("张三 \u202egnp.exe")
    '张三 \\\\u202egnp.exe'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)

"""Names, dtypes, shapes and units of events and profiles; the only place that knows them.

Everything else (the fold, the Feast views, the parquet tables, the data dictionary) is derived
from the tables below. Times are integer microseconds since 1970-01-01T00:00:00Z (``_us``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, NamedTuple

import numpy as np

EMBEDDING_DIM: Final = 64
"""Dimension of the one space that all modalities share."""

DAY_S: Final = 86_400
HALF_LIVES_S: Final = (10 * DAY_S, 40 * DAY_S)
"""Half-lives of the decayed sums, in seconds: one that follows a season, one that remembers."""

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
    ProfileField("tags", "user_profile", "json", "[{id, zh, en, level, weight, confidence, share, last_seen, evidence}]"),
    ProfileField("sentiment", "user_profile", "float", "-1..1, decayed mean over 40 days; NaN: none"),
    ProfileField("sentiment_recent", "user_profile", "float", "-1..1, decayed mean over 10 days; NaN: none"),
    ProfileField("aspects", "user_profile", "json", "[{id, weight, sentiment, evidence}]"),
    ProfileField("languages", "user_profile", "strings", "languages of texts and voices, most used first"),
    ProfileField("first_event", "user_profile", "time", "oldest event time applied"),
    ProfileField("last_event", "user_profile", "time", "newest event time applied"),
    *(
        ProfileField(f"{modality}_{name}", "user_modalities", kind, doc)  # type: ignore[arg-type]
        for modality in MODALITIES[:3]
        for name, kind, doc in (
            ("embedding", "vector", "decayed mean over 40 days, unit length; zeros: none"),
            ("count", "int", "events applied"),
            ("last_event", "time", "newest event time applied; 0: none"),
        )
    ),
)
"""All columns of a profile row beside ``user_id``, ``event_timestamp`` and ``created``."""

VIEWS: Final = ("user_profile", "user_modalities")

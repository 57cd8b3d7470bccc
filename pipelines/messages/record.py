"""What flows before inference: a Kafka record, and the value that a bad one becomes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Record(NamedTuple):
    """One Kafka record, byte for byte, with where it came from."""

    topic: str
    topic_id: str
    """The broker's topic id, else ``<cluster id>/<topic>``: a recreated topic is another source."""
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


UNREADABLE: Final = "portrait-unreadable"
"""Stands in for the headers of a record whose names are no UTF-8; those stay in the source topic only."""


class Reason(StrEnum):
    """Why a record was rejected; the value is what the dead-letter header says. One test each."""

    # records and their envelopes (pipelines/messages/)
    TOO_LARGE = "too_large"
    EMPTY_VALUE = "empty_value"
    NOT_CLOUDEVENT = "not_cloudevent"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_TOPIC = "wrong_topic"
    BAD_CONTENT_TYPE = "bad_content_type"
    BAD_JSON = "bad_json"
    BAD_ENCODING = "bad_encoding"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    BAD_USER_ID = "bad_user_id"
    KEY_MISMATCH = "key_mismatch"
    BAD_TIME = "bad_time"
    # claim checks (pipelines/steps/fetch_media.py)
    REF_FORBIDDEN = "ref_forbidden"
    REF_MISSING = "ref_missing"
    REF_TOO_LARGE = "ref_too_large"
    REF_MISMATCH = "ref_mismatch"
    # content (models/*)
    UNSUPPORTED_FORMAT = "unsupported_format"
    CORRUPT_MEDIA = "corrupt_media"
    MEDIA_TOO_LARGE = "media_too_large"
    MEDIA_TOO_SMALL = "media_too_small"
    EMPTY_TEXT = "empty_text"
    NO_SOUND = "no_sound"
    INFERENCE_FAILED = "inference_failed"
    # anything that no rule names
    INTERNAL_ERROR = "internal_error"


class Rejected(NamedTuple):
    """A record that could not become part of a profile. Never holds an exception text of a library:
    such texts may quote the content."""

    record: Record
    reason: Reason
    stage: str  # label of the step that gave it
    error: str  # exception class name, or empty
    detail: str  # what was expected and got, without content


class RecordError(ValueError):
    """Raised where a record is read, caught at the step's edge and made a :class:`Rejected`.

    ``detail`` says what was expected and got, without content; ``error`` is an exception class name.
    """

    def __init__(self, reason: Reason, detail: str, error: str = "") -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.error = error

    def reject(self, record: Record, stage: str) -> Rejected:
        """The value that the record becomes."""
        return Rejected(record, self.reason, stage, self.error, self.detail)

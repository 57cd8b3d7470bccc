"""What an event may carry, checked for form: a review's parts, media types, claim checks. No I/O."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from features.schema import Modality
from models.encoder import TextContent
from pipelines.messages.envelope import media_type
from pipelines.messages.record import Reason, RecordError

CLAIM_CHECK: Final = "application/vnd.portrait.ref+json"

MEDIA_TYPES: Final = {
    Modality.IMAGE: frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"}),
    Modality.VOICE: frozenset(
        {"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/flac", "audio/x-flac",
         "audio/ogg", "application/ogg", "audio/opus", "audio/vorbis", "audio/mpeg", "audio/mp3"}
    ),
}  # fmt: skip
"""What media may say they are; what they are is seen when they are decoded."""

_LANG: Final = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,3}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


class ClaimCheck(NamedTuple):
    """Where content lies that was too large to send, and how to know it is the right one."""

    uri: str
    sha256: str  # lower-case hex
    size_bytes: int
    content_type: str


def text_content(text: object, rating: object, lang: object, product_id: object = None) -> TextContent:
    """The parts of a review, checked; keys that are null count as absent. Raises RecordError."""
    if text is None:
        raise RecordError(Reason.MISSING_FIELD, "expected text, got none")
    if not isinstance(text, str):
        raise RecordError(Reason.BAD_FIELD, f"text: expected a string, got {type(text).__name__}")
    if not text.isascii():
        well_formed(text, "text")
    if rating is not None and (type(rating) not in (int, float) or not 1 <= rating <= 5):  # type: ignore[operator]
        raise RecordError(Reason.BAD_FIELD, "rating: expected a number from 1 to 5, got another value")
    if lang is not None and not (isinstance(lang, str) and _LANG.fullmatch(lang)):
        raise RecordError(Reason.BAD_FIELD, "lang: expected a tag such as zh or en-GB, got another value")
    if product_id is not None and type(product_id) not in (str, int):
        raise RecordError(Reason.BAD_FIELD, "product_id: expected a string or an integer, got another value")
    return TextContent(text, lang, None if rating is None else float(rating))  # type: ignore[arg-type]


def well_formed(text: str, name: str) -> str:
    """The text, if it has no lone surrogates: coders and stores fail on them later. Raises RecordError."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecordError(
            Reason.BAD_ENCODING, f"{name}: expected Unicode text, got a lone surrogate", type(error).__name__
        ) from None
    return text


def claim_check(data: dict[str, Any], modality: Modality) -> ClaimCheck:
    """``{"uri", "sha256", "size", "content_type"}``, checked for form only. Raises RecordError."""
    for name, kind in (("uri", str), ("sha256", str), ("size", int), ("content_type", str)):
        value = data.get(name)
        if value is None:
            raise RecordError(Reason.MISSING_FIELD, f"claim check: expected {name}, got none")
        if type(value) is not kind:
            raise RecordError(Reason.BAD_FIELD, f"claim check: {name}: expected {kind.__name__}, got another")
    uri, sha256, size = well_formed(data["uri"], "uri"), data["sha256"], data["size"]
    if not _SHA256.fullmatch(sha256):
        raise RecordError(Reason.BAD_FIELD, "claim check: sha256: expected 64 hex digits, got others")
    if size < 1:
        raise RecordError(Reason.BAD_FIELD, "claim check: size: expected bytes > 0, got fewer")
    content_type = media_type(data["content_type"])
    if content_type not in MEDIA_TYPES[modality]:
        raise RecordError(
            Reason.BAD_CONTENT_TYPE,
            f"claim check: expected one of {', '.join(sorted(MEDIA_TYPES[modality]))}, got another",
        )
    return ClaimCheck(uri, sha256.lower(), size, content_type)

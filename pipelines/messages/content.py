"""What an event may carry, checked for form: a review's parts, media types, claim checks. No I/O."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from features.schema import Modality
from models.encoder import TextContent
from pipelines.messages.envelope import media_type
from pipelines.messages.record import Reason, RecordError

CLAIM_CHECK: Final = "application/vnd.portrait.ref+json"

UNNAMED: Final = frozenset(
    {"", "application/octet-stream", "application/x-octet-stream", "binary/octet-stream",
     "application/binary", "application/x-binary", "application/unknown", "unknown/unknown",
     "application/force-download", "application/download", "application/x-download", "*/*"}
)  # fmt: skip
"""Content types that say nothing of what the bytes are."""
_NAMES: Final = {
    Modality.IMAGE: re.compile(r"image(/(?!svg)[^/]*)?|(application/)?(x-)?(p?jpe?g|png|webp|gif)"),
    Modality.VOICE: re.compile(r"audio(/[^/]*)?|(application/)?(x-)?(wave?|flac|ogg|opus|vorbis|mp3|mpeg)"),
}
"""What media may say they are, aliases and all; what they are is seen when they are decoded."""

IGNORED_FIELDS: Final = ("rating", "lang", "product_id", "other")
"""Fields of a review that are left out where they cannot be read; ``other``: those that no reader knows."""
RATING_SCALE: Final = (1.0, 5.0)

_LANG: Final = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_LOCALE: Final = re.compile(rf"({_LANG.pattern})(?:\.[A-Za-z0-9-]+)?(?:@[A-Za-z0-9-]+)?")
_MAX_FIELD_CHARACTERS: Final = 64
_LANG_NAMES: Final = {
    name: tag
    for tag, names in {
        "zh": "chinese mandarin cantonese 中文 汉语 漢語 华语 華語 普通话 普通話 国语 國語 简体中文 繁體中文",
        "en": "english 英文 英语 英語", "fr": "french français", "de": "german deutsch", "ru": "russian",
        "es": "spanish español", "pt": "portuguese português", "it": "italian italiano", "ar": "arabic",
        "ja": "japanese 日本語 日语", "ko": "korean 한국어", "nl": "dutch nederlands", "tr": "turkish türkçe",
        "vi": "vietnamese", "th": "thai", "id": "indonesian", "hi": "hindi", "pl": "polish", "sv": "swedish",
    }.items()
    for name in names.split()
} | dict.fromkeys(
    ("simplified chinese", "chinese simplified", "traditional chinese", "chinese traditional"), "zh"
)  # fmt: skip
_NUMBER: Final = re.compile(r"([+-]?[0-9]{1,9}(?:\.[0-9]{1,9}|,[0-9]{1,2})?)(?:\s*/\s*([0-9]{1,9}))?")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


class ClaimCheck(NamedTuple):
    """Where content lies that was too large to send, and how to know it is the right one."""

    uri: str
    sha256: str  # lower-case hex
    size_bytes: int
    content_type: str


def text_content(
    data: Mapping[str, Any], scale: tuple[float, float] = RATING_SCALE
) -> tuple[TextContent, tuple[str, ...]]:
    """A review, and which of IGNORED_FIELDS were left out; fields that are null count as absent.

    The text is checked strictly. What stands beside it is read where its meaning is plain and never costs the
    text. ``scale``: what a rating runs from and to; it becomes 1 to 5. Raises RecordError.
    """
    text = data.get("text")
    if text is None:
        raise RecordError(Reason.MISSING_FIELD, "expected text, got none")
    if not isinstance(text, str):
        raise RecordError(Reason.BAD_FIELD, f"text: expected a string, got {type(text).__name__}")
    if not text.isascii():
        well_formed(text, "text")
    rating, lang = _rating(data.get("rating"), scale), _lang(data.get("lang"))
    left_out = (
        rating is None and _is_given(data.get("rating")),
        lang is None and _is_given(data.get("lang")),
        not _is_product(data.get("product_id")),
        not data.keys() <= _REVIEW_FIELDS,
    )
    ignored = tuple(name for name, is_out in zip(IGNORED_FIELDS, left_out, strict=True) if is_out)
    return TextContent(text, lang, rating), ignored


_REVIEW_FIELDS: Final = frozenset({"text", "rating", "lang", "product_id"})


def _is_given(value: object) -> bool:
    """Whether there is anything but null and blanks."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _rating(value: object, scale: tuple[float, float]) -> float | None:
    """A rating as a number from 1 to 5; None where it is none of the scale.

    >>> _rating("4,5", (1, 5)), _rating(8, (0, 10)), _rating("5/5", (1, 5)), _rating(True, (1, 5))
    (4.5, 4.2, 5.0, None)
    """
    if isinstance(value, str):
        short = value if len(value) <= _MAX_FIELD_CHARACTERS else ""
        found = _NUMBER.fullmatch(unicodedata.normalize("NFKC", short).strip())
        if not found or (found[2] and float(found[2]) != scale[1]):
            return None
        value = float(found[1].replace(",", "."))
    if type(value) not in (int, float) or not scale[0] <= value <= scale[1]:  # type: ignore[operator]
        return None
    number, (low, high) = float(value), scale  # type: ignore[arg-type]
    return number if scale == RATING_SCALE else 1 + 4 * (number - low) / (high - low)


def _lang(value: object) -> str | None:
    """A language tag as it was given; of a locale its tag, of a name its tag, of anything else None.

    >>> _lang("zh-Hans-CN"), _lang("zh_CN.UTF-8"), _lang("Chinese"), _lang("in english"), _lang(7)
    ('zh-Hans-CN', 'zh_CN', 'zh', None, None)
    """
    if not isinstance(value, str) or len(value) > _MAX_FIELD_CHARACTERS:
        return None
    if found := _LOCALE.fullmatch(value.strip()):
        return found[1]
    return _LANG_NAMES.get(" ".join(re.sub(r"[-_()]", " ", value.casefold()).split()))


def _is_product(value: object) -> bool:
    """Whether something names a product, or nothing: text or a whole number."""
    return value is None or type(value) in (str, int) or (isinstance(value, float) and value.is_integer())


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
        if value is None and name == "content_type":  # the bytes will say
            continue
        if value is None:
            raise RecordError(Reason.MISSING_FIELD, f"claim check: expected {name}, got none")
        if type(value) is not kind:
            raise RecordError(Reason.BAD_FIELD, f"claim check: {name}: expected {kind.__name__}, got another")
    uri, sha256, size = well_formed(data["uri"], "uri"), data["sha256"], data["size"]
    if not _SHA256.fullmatch(sha256):
        raise RecordError(Reason.BAD_FIELD, "claim check: sha256: expected 64 hex digits, got others")
    if size < 1:
        raise RecordError(Reason.BAD_FIELD, "claim check: size: expected bytes > 0, got fewer")
    content_type = media_type(data.get("content_type") or "")
    if not may_be(content_type, modality):
        raise _other_kind("claim check: ", modality)
    return ClaimCheck(uri, sha256.lower(), size, content_type)


def check_media_type(content_type: str, modality: Modality) -> None:
    """Raises RecordError for media under a type of plainly another kind."""
    if content_type != CLAIM_CHECK and not may_be(content_type, modality):
        raise _other_kind("", modality)


def may_be(content_type: str, modality: Modality) -> bool:
    """Whether media of this modality may come under a type of ``media_type``: a name of its kind or none.

    >>> may_be("image/x-citrix-jpeg", Modality.IMAGE), may_be("", Modality.VOICE)
    (True, True)
    >>> may_be("video/mp4", Modality.VOICE), may_be("image/svg+xml", Modality.IMAGE)
    (False, False)
    """
    return content_type in UNNAMED or _NAMES[modality].fullmatch(content_type) is not None


def _other_kind(where: str, modality: Modality) -> RecordError:
    kind = "image/*" if modality is Modality.IMAGE else "audio/*"
    return RecordError(
        Reason.BAD_CONTENT_TYPE,
        f"{where}expected {kind}, application/octet-stream, none or {CLAIM_CHECK}, got another kind",
    )

"""What may stand behind the sound of a file and is none: tags, zeros, a little junk."""

from __future__ import annotations

import re
from typing import Final

from models.encoder import ContentError
from models.file_format import tag_bytes

MAX_JUNK_BYTES: Final = 65_536
"""As many bytes that nothing explains may follow a sound that is whole without them."""

_NOT_ZERO: Final = re.compile(rb"[^\x00]")
_MOST_TAGS: Final = 100
_ID3V1_BYTES: Final = 128
_ID3V1_EXTENDED_BYTES: Final = 227
_APE_FOOTER_BYTES: Final = 32
_LYRICS_V1_BYTES: Final = 5_200  # the text has at most 5,100


def corrupt(what: str, expected: str, got: str) -> ContentError:
    """The refusal of a cut or altered file."""
    return ContentError(
        "corrupt_media", f"voice: {what}: expected {expected}, got {got}; send the whole file"
    )


def end_of_sound(content: bytes) -> int:
    """Where the tags begin that end ``content`` (ID3v1, ID3v2 with a footer, APEv2, Lyrics3), in bytes.

    They are known by their last bytes, so junk behind them hides them.
    """
    end = len(content)
    for _ in range(_MOST_TAGS):
        end -= _tag_before_bytes(content, end)
    return end


def _tag_before_bytes(content: bytes, end: int) -> int:
    """Length of the tag that ends at ``end``, in bytes; 0 where none does."""
    size = 0
    if content[end - _ID3V1_BYTES : end].startswith(b"TAG"):
        size = _ID3V1_BYTES
        if content[max(end - size - _ID3V1_EXTENDED_BYTES, 0) : end].startswith(b"TAG+"):
            size += _ID3V1_EXTENDED_BYTES
    elif content[end - 10 : end].startswith(b"3DI"):  # id3v2.4.0-structure §3.4
        a, b, c, d = content[end - 4 : end]
        size = 20 + (a << 21 | b << 14 | c << 7 | d)
    elif (footer := content[end - _APE_FOOTER_BYTES : end]).startswith(b"APETAGEX"):
        with_header = int.from_bytes(footer[20:24], "little") & 1 << 31
        size = int.from_bytes(footer[12:16], "little") + (_APE_FOOTER_BYTES if with_header else 0)
    elif content[end - 9 : end] == b"LYRICS200":
        digits = content[end - 15 : end - 9]
        size = 15 + int(digits) if digits.isdigit() else 0
    elif content[end - 9 : end] == b"LYRICSEND":
        begin = content.rfind(b"LYRICSBEGIN", max(end - _LYRICS_V1_BYTES, 0), end)
        size = end - begin if begin >= 0 else 0
    return size if _ID3V1_BYTES // 8 < size <= end else 0


def skip_tag(content: bytes, place: int, end: int) -> int:
    """Behind the tags and zeros that begin at ``place``: a place in bytes, ``place`` itself for none."""
    for _ in range(_MOST_TAGS):
        if place < end and content[place] == 0:
            found = _NOT_ZERO.search(content, place, end)
            place = found.start() if found else end
        elif size := tag_bytes(content, place):
            place = min(place + size, end)
        elif content[place : place + 3] == b"TAG" and place + _ID3V1_BYTES <= end:
            place += _ID3V1_EXTENDED_BYTES if content[place + 3 : place + 4] == b"+" else _ID3V1_BYTES
        elif content.startswith(b"LYRICSBEGIN", place):
            found = re.compile(rb"LYRICS(200|END)").search(content, place, end)
            place = found.end() if found else end
        else:
            break
    return place


def check_rest(
    content: bytes, place: int, what: str, more: bytes | None = None, most: int = MAX_JUNK_BYTES
) -> None:
    """Refuse what follows a whole sound at ``place`` where it is the start of more of it, or too much.

    ``more``: how each part of such a sound begins; ``most``: bytes besides tags. Raises ContentError.
    """
    end = end_of_sound(content)
    rest = skip_tag(content, place, end)
    if more and rest < end and more.startswith(content[rest : min(rest + len(more), end)]):
        raise corrupt(what, "whole parts to its end", "one that is cut")
    if end - rest > most:
        raise corrupt(what, f"at most {most} bytes of another kind behind the sound", f"{end - rest}")

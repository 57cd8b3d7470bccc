"""Ogg: whole pages, and the mark of the last one where the writer left it out."""

from __future__ import annotations

import zlib
from typing import Final

from models.voice.tags import check_rest, corrupt

_REVERSED_BITS: Final = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_HEADER_BYTES: Final = 27
_LAST_PAGE: Final = 0x04
_FULL_SEGMENTS: Final = 255
_FULL_BYTES: Final = 4096


def whole_ogg(content: bytes, found: str) -> bytes:
    """The pages of ``content`` (RFC 3533 §6), the last one marked as the last, nothing behind them.

    A recorder that is stopped (Android's) never writes that mark. ``found`` is the name of
    ``sniff_format``. Raises ContentError (``corrupt_media``) for a page that is cut, altered or torn
    off from the next.
    """
    before = last = place = 0
    while content.startswith(b"OggS", place):
        before, last, place = last, place, _end_of_page(content, place)
    if content.find(b"OggS", place) >= 0:
        raise corrupt("Ogg", "one page behind the other", "other bytes between")
    check_rest(content, place, "Ogg", more=b"OggS")
    page = content[last:place]
    if not page[5] & _LAST_PAGE:
        if _goes_on(page) or (found == "Ogg Vorbis" and _full(page) and _full(content[before:last])):
            raise corrupt("Ogg", "a last page marked as such", "an end before it")
        page = _with_checksum(page[:5] + bytes([page[5] | _LAST_PAGE]) + page[6:])
    elif place == len(content):
        return content
    return content[:last] + page


def _end_of_page(content: bytes, place: int) -> int:
    header = content[place : place + _HEADER_BYTES]
    body = place + len(header) + (header[26] if len(header) == _HEADER_BYTES else 1)
    end = body + sum(content[place + _HEADER_BYTES : body])
    if body > len(content) or end > len(content):
        raise corrupt("Ogg", "whole pages", "one that is cut")
    page = content[place:end]
    if _with_checksum(page) != page:
        raise corrupt("Ogg", "pages with their checksum", "an altered one")
    return end


def _goes_on(page: bytes) -> bool:
    """Does the last packet end on the next page?"""
    segments = page[_HEADER_BYTES : _HEADER_BYTES + page[26]]
    return len(segments) == _FULL_SEGMENTS or segments[-1:] == b"\xff"


def _full(page: bytes) -> bool:
    """Was it closed because it was full? libogg does while more is to come; Opus has pages by time."""
    return sum(page[_HEADER_BYTES : _HEADER_BYTES + page[26]]) > _FULL_BYTES


def _with_checksum(page: bytes) -> bytes:
    """CRC-32, polynomial 0x04c11db7, nothing reflected, start and final xor 0: zlib's in a mirror."""
    zeroed = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(zeroed.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + int(f"{mirrored:032b}"[::-1], 2).to_bytes(4, "little") + page[26:]

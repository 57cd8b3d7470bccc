"""Is an audio file whole? Decoders stop quietly at damage that the container itself gives away."""

from __future__ import annotations

import zlib
from typing import Final

from models.encoder import ContentError

_REVERSED_BITS: Final = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
_OGG_HEADER_BYTES: Final = 27
_OGG_LAST_PAGE: Final = 0x04


def check_container(content: bytes, found: str) -> None:
    """Refuse a cut or altered WAV or Ogg file; ``found`` is the name of ``sniff_format``.

    FLAC carries its own checks and MP3 its length, both judged while decoding. Raises ContentError
    (``corrupt_media``).
    """
    if found == "WAV":
        _check_wav(content)
    elif found.startswith("Ogg"):
        _check_ogg(content)


def _check_wav(content: bytes) -> None:
    """Every chunk must lie within the file, and the bytes after the sound must be chunks too."""
    place, sound = 12, False
    while place + 8 <= len(content):
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        rest = len(content) - place - 8
        if not (name.isascii() and name.decode("ascii").isprintable()):
            raise _corrupt("WAV", "chunks to the end of the file", "bytes that no chunk declares")
        if size > rest:
            raise _corrupt("WAV", f"{size} bytes in a chunk, as it declares", f"{rest}")
        sound = sound or name == b"data"
        place += 8 + size + size % 2
    if not sound:
        raise _corrupt("WAV", "a data chunk", "none")


def _check_ogg(content: bytes) -> None:
    """Whole pages with right checksums, the last one marked as the last (RFC 3533 §6)."""
    place, flags = 0, 0
    while place < len(content):
        header = content[place : place + _OGG_HEADER_BYTES]
        if len(header) < _OGG_HEADER_BYTES or header[:4] != b"OggS":
            raise _corrupt("Ogg", "whole pages to the end of the file", "other bytes")
        body = place + _OGG_HEADER_BYTES + header[26]
        end = body + sum(content[place + _OGG_HEADER_BYTES : body])
        page = content[place:end]
        if body > len(content) or end > len(content):
            raise _corrupt("Ogg", f"a page of {end - place} bytes", f"{len(page)}")
        if _ogg_checksum(page) != int.from_bytes(page[22:26], "little"):
            raise _corrupt("Ogg", "pages with their checksum", "an altered one")
        place, flags = end, header[5]
    if not flags & _OGG_LAST_PAGE:
        raise _corrupt("Ogg", "a last page marked as such", "an end before it")


def _ogg_checksum(page: bytes) -> int:
    """CRC-32, polynomial 0x04c11db7, nothing reflected, start and final xor 0: zlib's in a mirror."""
    zeroed = page[:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(zeroed.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _corrupt(what: str, expected: str, got: str) -> ContentError:
    return ContentError(
        "corrupt_media", f"voice: {what}: expected {expected}, got {got}; send the whole file"
    )

"""FLAC: the number of samples, where the writer could not go back to write it (RFC 9639)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from models.voice.tags import check_rest, corrupt, end_of_sound

_HEADER_BYTES: Final = 42  # the mark and the block STREAMINFO
_TOTAL: Final = slice(21, 26)  # its low 36 bits: samples of each channel
_RATE: Final = slice(18, 21)  # its high 20 bits, Hz
_SYNC: Final = (b"\xff\xf8", b"\xff\xf9")  # of blocks of one size and of several
_MOST_STRAY: Final = 100_000
"""Marks of a frame that are none: about one in 65,536 bytes by chance."""
_FRAME_HEADER_BYTES: Final = 16  # at most
_FRAME_BYTES: Final = 1 << 21  # at most: 65,535 samples of 8 channels with 32 bits
_BLOCK_SAMPLES: Final = dict(
    enumerate((0, 192, *(576 << n for n in range(4)), 0, 0, *(256 << n for n in range(8))))
)
_BLOCK_CODE_BYTES: Final = {6: 1, 7: 2}
_RATE_CODE_BYTES: Final = {12: 1, 13: 2, 14: 2}


def whole_flac(content: bytes, most_s: float) -> bytes:
    """``content`` with its number of samples in the header, counted where there is a zero.

    A stream of a known length comes back as it is: the decoder counts. Of another one ``most_s``
    seconds and a little more are looked at and come back. Raises ContentError
    (``corrupt_media``) for a frame that is cut or missing; the decoder finds the altered ones.
    """
    if len(content) < _HEADER_BYTES or int.from_bytes(content[_TOTAL], "big") & 0xF_FFFF_FFFF:
        return content
    first = _first_frame(content)
    begin, samples, expected, ahead = first, 0, -1, False
    enough = most_s * (int.from_bytes(content[_RATE], "big") >> 4)
    for place, number, size in _frames(content, first):
        if number == expected or not samples:
            if samples > enough:
                return _with_samples(content[:place], samples)
            begin, samples, ahead = place, samples + size, False
            expected = number + (size if content[first + 1] & 1 else 1)
        else:  # by chance in the midst of a frame, or the next one is lost
            ahead = number > expected
    if ahead or not samples:
        raise corrupt("FLAC", "frames without a gap", "some that are lost or altered")
    for end in _ends_of_frame(content, begin):
        check_rest(content, end, "FLAC", more=content[first : first + 2])
    return _with_samples(content, samples)


def _with_samples(content: bytes, samples: int) -> bytes:
    total = bytes([content[_TOTAL.start] & 0xF0 | samples >> 32 & 0x0F]) + samples.to_bytes(5, "big")[1:]
    return content[: _TOTAL.start] + total + content[_TOTAL.stop :]


def _first_frame(content: bytes) -> int:
    """Behind the metadata blocks: a place in bytes."""
    place, last = 4, 0
    while not last and place + 4 <= len(content):
        last, size = content[place] & 0x80, int.from_bytes(content[place + 1 : place + 4], "big")
        place += 4 + size
    if not content.startswith(_SYNC, place):
        raise corrupt("FLAC", "a frame behind the metadata", "none")
    return place


def _frames(content: bytes, first: int) -> Iterator[tuple[int, int, int]]:
    """Of each frame: its place in bytes, its number (or that of its first sample), its samples."""
    sync, rate, width = content[first : first + 2], content[first + 2] & 0x0F, content[first + 3 : first + 4]
    place, stray = first, 0
    while place >= 0:
        head = content[place : place + _FRAME_HEADER_BYTES]
        alike = len(head) > 4 and head[2] & 0x0F == rate and (head[3] ^ width[0]) & 0x0F == 0
        if alike and (found := _number_and_samples(head)):
            yield place, *found
        elif (stray := stray + 1) > _MOST_STRAY:
            raise corrupt("FLAC", "frames", "too many marks of one that are none")
        place = content.find(sync, place + 1)


def _number_and_samples(head: bytes) -> tuple[int, int] | None:
    """What a frame header says; None where it is cut or fails its CRC-8."""
    coded = 8 - (head[4] ^ 0xFF).bit_length()  # leading ones, as in UTF-8
    number, place = head[4] & 0x7F >> coded, 4 + max(coded, 1)
    for byte in head[5:place]:
        number = number << 6 | byte & 0x3F
    code, rate = head[2] >> 4, head[2] & 0x0F
    wide = _BLOCK_CODE_BYTES.get(code, 0)
    size = 1 + int.from_bytes(head[place : place + wide], "big") if wide else _BLOCK_SAMPLES.get(code, 0)
    end = place + wide + _RATE_CODE_BYTES.get(rate, 0) + 1
    if end > len(head) or not size:
        return None
    crc = 0
    for byte in head[:end]:
        crc = _CRC8[crc ^ byte]
    return None if crc else (number, size)


def _ends_of_frame(content: bytes, begin: int) -> set[int]:
    """Behind the last frame: the first and the last place where its CRC-16 comes out, one by chance."""
    crc = 0
    ends: list[int] = []
    for place in range(begin, min(end_of_sound(content), begin + _FRAME_BYTES)):
        crc = (crc << 8 & 0xFFFF) ^ _CRC16[crc >> 8 ^ content[place]]
        if not crc:
            ends = [*ends[:1], place + 1]
    if not ends:
        raise corrupt("FLAC", "whole frames to its end", "one that is cut")
    return set(ends)


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = (crc << 1) ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return table


_CRC8: Final = _crc_table(0x07, 8)
_CRC16: Final = _crc_table(0x8005, 16)

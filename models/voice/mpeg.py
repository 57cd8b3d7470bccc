"""MP3: its frames one by one, since only some files say in the first one how long they are."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from models.voice.tags import check_rest, corrupt, end_of_sound, skip_tag

_KBITS: Final = (  # ISO 11172-3 table 3-B.2, ISO 13818-3: MPEG 1, then MPEG 2 and 2.5
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_RATES_HZ: Final = (44_100, 48_000, 32_000, 0)
_RATE_SHIFT: Final = {3: 0, 2: 1, 0: 2}  # by the two bits of the version
_LAYER_3: Final = 1
_MONO: Final = 3
_HEADER_BYTES: Final = 4
_SEARCH_BYTES: Final = 1 << 20
"""In all, for the first frame and behind gaps: what is no frame for longer is no such file."""
_TAG_BYTES: Final = 120  # of a header of Xing's, or it is none
_ROUNDING_FRAMES: Final = 2
"""Writers differ by so many in what they count: the frame of the header itself, the one that flushes."""


class _Measure(NamedTuple):
    size: int
    """Bytes of a frame with its header; 0 where there is none."""
    samples: int
    rate_hz: int


class _Frames(NamedTuple):
    places: list[int]
    """First byte of each frame."""
    runs: list[tuple[int, int]]
    """First byte and end of each run of frames that follow each other without other bytes."""
    gap: bool
    """Do bytes that are no tag stand before or between them?"""


class _Length(NamedTuple):
    place: int
    """In the first frame, of the number of frames; 0 where libmpg123 finds none."""
    frames: int
    bytes: int


def whole_mp3(content: bytes, most_s: float) -> tuple[bytes, int | None, bool]:
    """Frames of ``content`` without tags and junk; how many samples to keep, None for all; read at once?

    Without a length in the first frame (Xing's) decoders guess it from the size of the first frames,
    which cuts whatever becomes quieter. Then silent frames follow here until that guess holds, and of
    the sound at most ``most_s`` seconds and a little more come back. It is to be read in one piece where
    the bit rate varies: soundfile seeks after each piece, and libmpg123 then lacks bits of small frames.

    Raises ContentError (``corrupt_media``) for fewer frames than declared (by Xing, VBRI), a cut one,
    or a gap.
    """
    if content[2:3] and content[0] == 0xFF and content[2] < 0x10:
        return content, None, False  # of free format, where a frame does not tell its size: as it is
    frames = _scan(content)
    first = frames.places[0]
    measure = _measure(content[first : first + _HEADER_BYTES])
    length = _declared(content[first : first + measure.size])
    sound = b"".join(content[begin:end] for begin, end in frames.runs)
    heard = frames.places[1 if length.place else 0 :]
    missing = length.frames - len(heard)
    if missing > 1 or (missing == 1 and len(sound) < length.bytes):
        raise corrupt("MP3", f"{length.frames} frames, as its header declares", f"{len(heard)}")
    if frames.gap and not length.frames:
        raise corrupt("MP3", "frames without a gap", "other bytes between them")
    if length.place and length.frames:
        if missing < -_ROUNDING_FRAMES:
            at = slice(length.place, length.place + 4)
            sound = sound[: at.start] + len(heard).to_bytes(4, "big") + sound[at.stop :]
        return sound, None, False
    return _with_silence(content, frames, heard, ceil(most_s * measure.rate_hz / measure.samples) + 3)


def _scan(content: bytes) -> _Frames:
    end = end_of_sound(content)
    place = start = first = _next_run(content, 0, end, _SEARCH_BYTES)
    if place < 0:
        raise corrupt("MP3", "frames", "none")
    kind = content[first : first + _HEADER_BYTES]
    places, runs, sizes = [], [], {kind: _measure(kind).size}
    left = _SEARCH_BYTES
    gap = first > 0 and content[0] == kind[0]  # a frame that is no more; else junk behind a tag
    while place < end:
        head = content[place : place + _HEADER_BYTES]
        size = sizes.get(head)
        if size is None:
            size = sizes[head] = _measure(head).size if _alike(head, kind) else 0
        if place + size > end:
            raise corrupt("MP3", "whole frames to its end", "one that is cut")
        if size:
            places.append(place)
            place += size
            continue
        runs.append((start, place))
        behind = skip_tag(content, place, end)
        again = _next_run(content, behind, end, left, kind)
        if again < 0:
            check_rest(content, place, "MP3", more=kind[:2])
            return _Frames(places, runs, gap)
        gap = gap or again > behind
        left -= again - behind
        start = place = again
    return _Frames(places, [*runs, (start, place)], gap)


def _next_run(content: bytes, place: int, end: int, most: int, kind: bytes = b"") -> int:
    """From ``place`` on, within ``most`` bytes, two frames in sequence or one that ends at ``end``; -1: none.

    ``kind``: the header of a frame of the same sound.
    """
    stop = min(place + most, end)
    while (place := content.find(b"\xff", place, stop)) >= 0:
        head = content[place : place + _HEADER_BYTES]
        size = _measure(head).size if _alike(head, kind or head) else 0
        after = content[place + size : place + size + _HEADER_BYTES]
        if size and (place + size == end or (_alike(after, head) and _measure(after).size)):
            return place
        place += 1
    return -1


def _alike(head: bytes, kind: bytes) -> bool:
    """Of one version, layer and rate."""
    return (
        len(head) == _HEADER_BYTES
        and head[0] == kind[0]
        and head[1] & 0xFE == kind[1] & 0xFE
        and head[2] & 0x0C == kind[2] & 0x0C
    )


def _measure(head: bytes) -> _Measure:
    """Of the frame that begins with ``head``, four bytes."""
    version, layer, rate = head[1] >> 3 & 3, head[1] >> 1 & 3, _RATES_HZ[head[2] >> 2 & 3]
    kbits = _KBITS[0 if version == 3 else 1][head[2] >> 4]
    if head[0] != 0xFF or head[1] < 0xE0 or layer != _LAYER_3 or version not in _RATE_SHIFT:
        return _Measure(0, 0, 0)
    rate_hz, samples = rate >> _RATE_SHIFT[version], 1152 if version == 3 else 576
    size = samples // 8 * 1000 * kbits // rate_hz + (head[2] >> 1 & 1) if kbits and rate_hz else 0
    return _Measure(size, samples, rate_hz)


def _side_info_bytes(head: bytes) -> int:
    version_1, mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == _MONO
    return (17 if mono else 32) if version_1 else (9 if mono else 17)


def _declared(frame: bytes) -> _Length:
    """What the first frame says of the whole: a header of Xing's as libmpg123 finds it, or VBRI."""
    side = _side_info_bytes(frame)
    tag = _HEADER_BYTES + side
    if frame[tag : tag + 4] in (b"Xing", b"Info") and not any(frame[_HEADER_BYTES + 2 : tag]):
        if len(frame) >= tag + _TAG_BYTES:
            has_frames, has_bytes = frame[tag + 7] & 1, frame[tag + 7] >> 1 & 1
            numbers = [int.from_bytes(frame[i : i + 4], "big") for i in (tag + 8, tag + 8 + 4 * has_frames)]
            return _Length(tag + 8, numbers[0] * has_frames, numbers[1] * has_bytes)
    elif frame[36:40] == b"VBRI":
        return _Length(0, int.from_bytes(frame[50:54], "big"), int.from_bytes(frame[46:50], "big"))
    return _Length(0, 0, 0)


def _with_silence(content: bytes, frames: _Frames, heard: list[int], most: int) -> tuple[bytes, int, bool]:
    """At most ``most`` of the frames ``heard``, and silence up to the bytes that the first sizes promise."""
    stop = heard[most] if len(heard) > most else len(content)
    sound = b"".join(content[begin : min(end, stop)] for begin, end in frames.runs if begin < stop)
    kept = min(len(heard), most)
    heads = [content[place : place + _HEADER_BYTES] for place in frames.places[:8]]
    sizes = [_measure(head).size for head in heads]
    varies = len({content[place + 2] & 0xF0 for place in heard}) > 1  # the bit rate
    quiet = bytes([heads[-1][0], heads[-1][1] | 1, *heads[-1][2:]])  # without a checksum
    silence = quiet + bytes(sizes[-1] - _HEADER_BYTES)
    lacking = kept * max(sizes) - len(sound)
    filled = sound + silence * (max(ceil(lacking / len(silence)), 0) + 2)
    return filled, kept * _measure(heads[0]).samples, varies

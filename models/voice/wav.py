"""WAV: where the sound begins and ends, whatever a writer that could not seek put into the sizes."""

from __future__ import annotations

from typing import Final

from models.encoder import ContentError
from models.voice.tags import check_rest, corrupt, end_of_sound

MIN_PLACEHOLDER_BYTES: Final = 0x7F00_0000
"""From here on a size is none: 2 GB are far beyond what is taken, and writers to a pipe put all ones
(ffmpeg), 0x7FFFF000 (sox), 0x80000000 (arecord), or such a value less the header."""
MAX_JUNK_BYTES: Final = 4_096
"""As many bytes may follow the sound that no chunk declares: more may be sound that the size leaves out."""

_MOST_CHUNKS: Final = 10_000
_MOST_LAST_CHUNKS: Final = 20
_HEADER_BYTES: Final = 12
_CHUNK_BYTES: Final = 8
_LAST_CHUNKS: Final = {b"LIST": (b"INFO", b"adtl"), b"id3 ": (b"ID3",), b"ID3 ": (b"ID3",)}
_SIDE_NAMES: Final = "LIST id3. ID3. bext cue. smpl fact PEAK JUNK junk FLLR PAD. iXML axml _PMX acid"
_SIDE_CHUNKS: Final = frozenset(name.replace(".", " ").encode() for name in _SIDE_NAMES.split())
"""Chunks that nobody uses: behind the sound, one may be cut."""
_KNOWN_CHUNKS: Final = _SIDE_CHUNKS | {b"fmt ", b"data"}
_INSIDE: Final = {  # RFC 2361: what libsndfile does not read
    0x0042: "G.723.1",
    0x0045: "G.726",
    0x0050: "MP2",
    0x0055: "MP3",
    0x0083: "G.729",
    0x00FF: "AAC",
    0x0160: "WMA",
    0x0161: "WMA",
    0x0162: "WMA",
    0x1600: "AAC",
    0x1610: "AAC",
    0x2000: "AC-3",
    0x2001: "DTS",
    0x704F: "Opus",
    0xA109: "Speex",
}


def whole_wav(content: bytes) -> bytes:
    """``content`` with the true size of its sound, and without what follows it where that is no chunk.

    A size of MIN_PLACEHOLDER_BYTES or more, or of 0 before other bytes than chunks, is what a writer
    to a pipe puts: the sound goes to the end, less the tags there and the last frame if it is cut. Any
    other size is a promise. The size of the whole RIFF says nothing.

    Raises ContentError: ``corrupt_media`` for a sound that ends before its size says, or is followed by
    more than MAX_JUNK_BYTES that nothing explains; ``unsupported_format`` for one of another codec.
    """
    sound, shape, even = _find_sound(content)
    size = int.from_bytes(content[sound - 4 : sound], "little")
    rest = len(content) - sound
    behind = _end_of_chunks(content, sound, size)
    if size >= MIN_PLACEHOLDER_BYTES or (size == 0 and behind == sound and rest >= _CHUNK_BYTES):
        return _rebuilt(shape, content[sound : _end_of_stream(content, sound)])
    if size > rest:
        raise corrupt("WAV", f"{size} bytes of sound, as it declares", f"{rest}")
    if behind < len(content):
        check_rest(content, behind, "WAV", most=min(size, MAX_JUNK_BYTES))
    elif even:
        return content
    if not even:
        return _rebuilt(shape, content[sound : sound + size])
    whole = content[8 : sound + size] + bytes(size % 2)
    return b"RIFF" + len(whole).to_bytes(4, "little") + whole


def _find_sound(content: bytes) -> tuple[int, bytes, bool]:
    """Where the sound begins, in bytes; the body of the chunk ``fmt ``; is every chunk padded to even?"""
    place, shape, even = _HEADER_BYTES, b"", True
    for _ in range(_MOST_CHUNKS):
        chunk = _chunk(content, place)
        if chunk is None:
            break
        name, size = chunk
        body = place + _CHUNK_BYTES
        if name == b"data":
            _check_codec(shape)
            return body, shape, even
        if size > len(content) - body:
            raise corrupt("WAV", f"{size} bytes in a chunk, as it declares", f"{len(content) - body}")
        if name == b"fmt ":
            shape = content[body : body + size]
        place = _next_place(content, body + size, size % 2)
        even = even and place % 2 == body % 2
    raise corrupt("WAV", "chunks with a data chunk among them", "none")


def _chunk(content: bytes, place: int) -> tuple[bytes, int] | None:
    """Name and size in bytes of the chunk that begins at ``place``; None where none can."""
    name = content[place : place + 4]
    if place + _CHUNK_BYTES > len(content) or not (name.isascii() and name.decode("ascii").isprintable()):
        return None
    return name, int.from_bytes(content[place + 4 : place + _CHUNK_BYTES], "little")


def _next_place(content: bytes, end: int, odd: int) -> int:
    """Where the chunk begins that follows one of an even or ``odd`` size: some writers do not fill up."""
    bare = content[end : end + 4] in _KNOWN_CHUNKS and content[end + 1 : end + 5] not in _KNOWN_CHUNKS
    return end if bare else end + odd


def _end_of_chunks(content: bytes, sound: int, size: int) -> int:
    """Where the last of the chunks ends that follow ``size`` bytes of sound: a place in bytes.

    It is ``len(content)`` where all is declared, or less than a chunk is left.
    """
    place = min(sound + size, len(content))
    odd = size % 2
    for _ in range(_MOST_CHUNKS):
        at = _next_place(content, place, odd)
        if not _is_side_chunk(content, at):
            return len(content) if place + odd + _CHUNK_BYTES > len(content) else place
        length = int.from_bytes(content[at + 4 : at + _CHUNK_BYTES], "little")
        place, odd = min(at + _CHUNK_BYTES + length, len(content)), length % 2
    return place


def _is_side_chunk(content: bytes, place: int) -> bool:
    chunk = _chunk(content, place)
    return chunk is not None and (chunk[1] <= len(content) - place - _CHUNK_BYTES or chunk[0] in _SIDE_CHUNKS)


def _end_of_stream(content: bytes, sound: int) -> int:
    """Where a sound of unknown size ends: before tags, and before chunks that end the file exactly."""
    end = end_of_sound(content)
    for _ in range(_MOST_LAST_CHUNKS):
        ends = [at for name in _LAST_CHUNKS if (at := _last_chunk(content, name, sound, end)) >= 0]
        if not ends:
            break
        end = ends[0]
    return end


def _last_chunk(content: bytes, name: bytes, sound: int, end: int) -> int:
    """Where a chunk of that name begins that goes to ``end``, with or without its padding; -1: nowhere."""
    at = content.rfind(name, sound, end)
    chunk = _chunk(content, at) if at >= 0 else None
    if chunk is None or not content.startswith(_LAST_CHUNKS[name], at + _CHUNK_BYTES):
        return -1
    left = end - at - _CHUNK_BYTES - chunk[1]
    return at if left in (0, chunk[1] % 2) else -1


def _check_codec(shape: bytes) -> None:
    code = int.from_bytes(shape[24:26] if shape[:2] == b"\xfe\xff" else shape[:2], "little")
    if code in _INSIDE:
        raise ContentError(
            "unsupported_format",
            f"voice: expected WAV with plain samples (PCM), got WAV with {_INSIDE[code]} inside;"
            " convert it before sending, for example to WAV with 16-bit PCM",
        )


def _rebuilt(shape: bytes, sound: bytes) -> bytes:
    """A WAV of nothing but its format and whole frames of its sound."""
    frame = max(int.from_bytes(shape[12:14], "little"), 1)
    sound = sound[: len(sound) // frame * frame]
    chunks = (b"fmt ", shape), (b"data", sound)
    body = b"".join(n + len(b).to_bytes(4, "little") + b + bytes(len(b) % 2) for n, b in chunks)
    return b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WAVE" + body

"""Recordings for the tests of the decoder, made in code: like a word, in every format, and their parts."""

from __future__ import annotations

import hashlib
import io
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pytest
import soundfile

from models.encoder import ContentError
from models.voice.decode import RATE_HZ, decode_voice
from tests.support.folders import ROOT

CASES: Final = ROOT.parent / "shared/cases"


def speech(seconds: float = 1.0, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """Something like a word: two bursts of gliding overtones."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch = 120 + 60 * seed + 30 * np.sin(5 * t)
    tone = sum(np.sin(k * 2 * np.pi * np.cumsum(pitch) / rate_hz) / k for k in range(1, 12))
    return (0.3 * tone * np.clip(np.sin(4 * np.pi * t / max(seconds, 1e-3)), 0, None)).astype(np.float32)


def hiss(seconds: float = 1.0, level: float = 0.1, rate_hz: int = RATE_HZ) -> np.ndarray:
    return (level * np.random.default_rng(0).normal(size=int(seconds * rate_hz))).astype(np.float32)


def encoded(
    wave: np.ndarray, format: str = "WAV", subtype: str = "PCM_16", rate_hz: int = RATE_HZ, **options: Any
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=format, subtype=subtype, **options)
    return buffer.getvalue()


def mp3(wave: np.ndarray, mode: str = "CONSTANT", rate_hz: int = RATE_HZ) -> bytes:
    """With a header of Xing's; ``mode``: of the bit rate."""
    return encoded(wave, "MP3", "MPEG_LAYER_III", rate_hz, bitrate_mode=mode, compression_level=0.5)


def outcome(content: bytes) -> str:
    """The code of the refusal, or a hash of the waveform."""
    try:
        wave = decode_voice(content)
    except ContentError as error:
        return error.code
    return hashlib.sha256(wave.tobytes()).hexdigest()


def case(path: str) -> bytes:
    """A file of ``../shared/cases``; skips where it is absent."""
    file = CASES / path
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return file.read_bytes()


def ogg_pages(content: bytes) -> list[bytes]:
    pages, place = [], 0
    while place < len(content):
        body = place + 27 + content[place + 26]
        end = body + sum(content[place + 27 : body])
        pages.append(content[place:end])
        place = end
    return pages


def ogg_page(page: bytes, flags: int) -> bytes:
    """With other flags and their checksum; bit by bit, so that nothing of ours is checked by itself."""
    page = page[:5] + bytes([flags]) + page[6:22] + bytes(4) + page[26:]
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return page[:22] + crc.to_bytes(4, "little") + page[26:]


def without_mark(content: bytes) -> bytes:
    """An Ogg whose writer was stopped: no page is marked as the last."""
    *pages, last = ogg_pages(content)
    return b"".join([*pages, ogg_page(last, 0)])


def streamed_flac(content: bytes) -> bytes:
    """As ffmpeg writes it to a pipe: no number of samples, no sizes of frames, no checksum of the whole."""
    head = bytearray(content[:42])
    head[12:18] = bytes(6)
    head[21] &= 0xF0
    head[22:42] = bytes(20)
    return bytes(head) + content[42:]


def flac_frames(content: bytes) -> list[bytes]:
    """The metadata, then every frame; of fewer than 128 frames."""
    starts: list[int] = []
    place = content.index(b"\xff\xf8", 42)
    kind = content[place + 3]
    while place >= 0:
        if content[place + 3 : place + 5] == bytes([kind, len(starts)]):
            starts.append(place)
        place = content.find(b"\xff\xf8", place + 1)
    ends = [0, *starts, len(content)]
    return [content[a:b] for a, b in pairwise(ends)]


def mp3_frames(content: bytes) -> list[bytes]:
    """Of layer III, MPEG 1 or 2: by the size that each header gives."""
    frames, place = [], 0
    while place < len(content):
        version_1, index = content[place + 1] >> 3 & 1, content[place + 2] >> 4
        rate_hz = (44_100, 48_000, 32_000)[content[place + 2] >> 2 & 3] // (1 if version_1 else 2)
        first = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
        second = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
        bits = 1000 * (first if version_1 else second)[index]
        size = (144 if version_1 else 72) * bits // rate_hz + (content[place + 2] >> 1 & 1)
        frames.append(content[place : place + size])
        place += size
    return frames


def id3v2(body: bytes = b"TIT2" + bytes(2_000), footer: bool = False) -> bytes:
    size = bytes(len(body) >> 7 * i & 0x7F for i in (3, 2, 1, 0))
    flags = b"\x10" if footer else b"\x00"
    return b"ID3\x04\x00" + flags + size + body + (b"3DI\x04\x00" + flags + size if footer else b"")


def id3v1(title: bytes = b"title") -> bytes:
    return b"TAG" + title.ljust(125, b"\x00")


def ape(items: bytes = bytes(1_000), header: bool = True, footer: bool = True) -> bytes:
    """An APEv2 tag; players write it with both ends or with the footer alone."""

    def end(flags: int) -> bytes:
        numbers = (2000, len(items) + 32, 1, flags)
        return b"APETAGEX" + b"".join(n.to_bytes(4, "little") for n in numbers) + bytes(8)

    flags = (1 << 31 if header else 0) | (0 if footer else 1 << 30)
    return (end(flags | 1 << 29) if header else b"") + items + (end(flags) if footer else b"")


def lyrics3(text: bytes = b"IND0000200" + b"la " * 90) -> bytes:
    body = b"LYRICSBEGIN" + text
    return body + b"%06d" % len(body) + b"LYRICS200"


def chunk(name: bytes, body: bytes, filled: bool = True) -> bytes:
    """Of a RIFF file, filled up to an even size or, as some writers leave it, not."""
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2 if filled else 0)

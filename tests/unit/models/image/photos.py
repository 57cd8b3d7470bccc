"""Pictures for the tests of the decoder, made in code, and the parts of their files."""

from __future__ import annotations

import hashlib
import io
import zlib
from typing import Final

import numpy as np
import pytest
from PIL import Image

from models.encoder import ContentError
from models.image.decode import decode_image
from tests.support.folders import ROOT

CASES: Final = ROOT.parent / "shared/cases"
PNG_START: Final = b"\x89PNG\r\n\x1a\n"


def photo(width: int = 90, height: int = 60, noise: float = 12.0) -> Image.Image:
    """Colours that run, with the noise of a sensor (levels)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    pixels = np.stack([x * 250, y * 200, (1 - x * y) * 255], -1)
    pixels += np.random.default_rng(0).normal(size=pixels.shape) * noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def outcome(content: bytes) -> str:
    """The code of the refusal, or a hash of the pixels."""
    try:
        pixels = decode_image(content)
    except ContentError as error:
        return error.code
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def case(path: str) -> bytes:
    """A file of ``../shared/cases``; skips where it is absent."""
    file = CASES / path
    if not file.exists():
        pytest.skip(f"{file} is not there")
    return file.read_bytes()


def png_chunk(name: bytes, body: bytes, right: bool = True) -> bytes:
    """With its checksum, right or wrong."""
    crc = zlib.crc32(name + body) ^ (0 if right else 1)
    return len(body).to_bytes(4, "big") + name + body + crc.to_bytes(4, "big")


def png_chunks(content: bytes) -> list[bytes]:
    chunks, place = [], len(PNG_START)
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        chunks.append(content[place:end])
        place = end
    return chunks


def png_with(content: bytes, *more: bytes) -> bytes:
    """With other chunks behind the first and before the last."""
    first, *middle, last = png_chunks(content)
    return b"".join([PNG_START, first, *more, *middle, *more, last])


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + (len(body) + 2).to_bytes(2, "big") + body


def exif(orientation: int, order: str = "<", kind: int = 3, count: int = 1) -> bytes:
    """A block of EXIF that says nothing else."""
    letters, sizes = {"<": (b"II*\x00", "little"), ">": (b"MM\x00*", "big")}[order]
    wide = 2 if kind in (3, 8) else 4

    def number(value: int, bytes_: int) -> bytes:
        return value.to_bytes(bytes_, "little" if sizes == "little" else "big")

    entry = (
        number(0x0112, 2) + number(kind, 2) + number(count, 4) + number(orientation, wide).ljust(4, b"\x00")
    )
    return b"Exif\x00\x00" + letters + number(8, 4) + number(1, 2) + entry + bytes(4)


def webp_chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + len(body).to_bytes(4, "little") + body

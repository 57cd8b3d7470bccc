"""JPEG: the segments that make the picture, without metadata and without what follows its end."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from models.encoder import ContentError

MAX_SCANS: Final = 100
"""Each one costs a pass over the whole picture, and a few bytes can ask for it; cameras write about ten."""
MAX_EXIF_BYTES: Final = 1 << 20
"""As much is looked at; the orientation stands near the start."""

_MARKER: Final = re.compile(rb"[\x00\xff]*\xff([^\x00\xff])", re.DOTALL)  # with what may stand before it
_MARKER_BEHIND_SCAN: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_APP, _SOI, _EOI, _SOS, _COM = 0xE0, 0xD8, 0xD9, 0xDA, 0xFE
_KEPT_APPS: Final = (0xE0, 0xEE)  # JFIF and Adobe: they tell how colours are coded
_WITHOUT_LENGTH: Final = (0x01, *range(0xD0, 0xD9))
_PROGRESSIVE: Final = {0xC0: False, 0xC1: False, 0xC2: True, 0xC9: False, 0xCA: True}
"""Frames that libjpeg decodes: of Huffman's and of arithmetic coding."""
_TABLES: Final = (0xC4, 0xC8, 0xCC)  # among the names of frames
_EXIF: Final = b"Exif\x00\x00"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\x00"
_COEFFICIENTS: Final = 64


@dataclass
class Jpeg:
    """What is left of a JPEG file, and what its headers say."""

    content: bytes = b""
    """Segments and entropy-coded bytes, without the mark of the end."""
    ended: bool = False
    """Does a mark follow, of the end or, behind the only scan, any other?"""
    width_px: int = 0
    height_px: int = 0
    coefficients: int = 0
    """Held in memory while it is decoded, of two bytes each: all of them where there are several scans."""
    exif: bytes = b""
    xmp: bytes = b""
    scans: int = 0
    lacking: dict[int, set[int]] = field(default_factory=dict)
    """Component → coefficients (0 to 63) that no scan has given to the last bit."""

    @property
    def in_one_scan(self) -> bool:
        """All components of every block in sequence, as phones write: decoded row by row."""
        return not self.coefficients

    @property
    def has_all_scans(self) -> bool:
        """Is every coefficient there to the last bit?"""
        return not any(self.lacking.values())


def read_jpeg(content: bytes) -> Jpeg:
    """The parts of ``content`` up to the end of its first picture, in order, without metadata.

    What follows is dropped: further pictures (MPO), a film (motion photo), padding. Raises
    ContentError: ``corrupt_media`` where the headers are cut or none, ``unsupported_format`` for a kind
    of JPEG that no browser shows either.
    """
    jpeg, parts = Jpeg(), [content[:2]]
    progressive, place = False, 2
    sampling: dict[int, tuple[int, int]] = {}
    while (marker := _next_marker(content, place, bool(jpeg.scans))) is not None:
        name, begin, body = marker
        if jpeg.scans:
            parts.append(content[place:begin])
            place = begin
            jpeg.ended = name == _EOI or jpeg.in_one_scan
        if jpeg.ended or name == _EOI or (jpeg.scans and name in (_SOI, *_PROGRESSIVE)):
            break
        if name in _WITHOUT_LENGTH:
            place = body
            continue
        end = body + int.from_bytes(content[body : body + 2], "big")
        if end < body + 2 or end > len(content):
            break
        segment = content[body + 2 : end]
        place = end
        if name & 0xF0 == _APP or name == _COM:
            _keep_metadata(jpeg, name, segment)
            if name not in _KEPT_APPS:
                continue
        elif name in _PROGRESSIVE:
            progressive = _PROGRESSIVE[name]
            sampling = _read_frame(jpeg, segment)
        elif name & 0xF0 == 0xC0 and name not in _TABLES:
            raise _unsupported("lossless or hierarchical JPEG")
        elif name == 0xF7:
            raise _unsupported("JPEG-LS")
        elif name == _SOS:
            _read_scan(jpeg, segment, progressive, sampling)
        parts.append(b"\xff" + bytes([name]) + content[body:end])
    if not jpeg.scans:
        raise ContentError(
            "corrupt_media", "image: expected a picture in the JPEG, got none; send the whole file"
        )
    if marker is None:
        parts.append(content[place:])
    jpeg.content = b"".join(parts).rstrip(b"\xff")  # marks that fill, or half a mark
    return jpeg


def _next_marker(content: bytes, place: int, behind_scan: bool) -> tuple[int, int, int] | None:
    """Name, first byte and end of the first marker from ``place`` on; None where the file ends before."""
    if behind_scan:
        found = _MARKER_BEHIND_SCAN.search(content, place)
        return (found[1][0], found.start(), found.end()) if found else None
    found = _MARKER.match(content, place)
    if found is None and place < len(content):
        raise ContentError(
            "corrupt_media", "image: expected segments in the JPEG, got other bytes; send the whole file"
        )
    return (found[1][0], place, found.end()) if found else None


def _keep_metadata(jpeg: Jpeg, name: int, segment: bytes) -> None:
    if (
        name == 0xE1 and segment.startswith(_EXIF) and len(jpeg.exif) < MAX_EXIF_BYTES
    ):  # longer than a segment, it goes on in the next
        jpeg.exif += segment[len(_EXIF) :]
    elif name == 0xE1 and segment.startswith(_XMP):
        jpeg.xmp = segment[len(_XMP) :]


def _read_frame(jpeg: Jpeg, segment: bytes) -> dict[int, tuple[int, int]]:
    """Sampling factors of each component, horizontal and vertical; sets the size."""
    if len(segment) < 6:
        return {}
    if segment[0] in (12, 16):  # that others have is damage, which the decoder tells
        raise _unsupported(f"JPEG of {segment[0]} bits")
    jpeg.height_px, jpeg.width_px = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    return {segment[i]: (segment[i + 1] >> 4, segment[i + 1] & 15) for i in range(6, len(segment) - 1, 3)}


def _read_scan(jpeg: Jpeg, segment: bytes, progressive: bool, sampling: dict[int, tuple[int, int]]) -> None:
    jpeg.scans += 1
    if jpeg.scans > MAX_SCANS:
        raise ContentError(
            "corrupt_media", f"image: expected at most {MAX_SCANS} scans in the JPEG, got more; save it anew"
        )
    count = segment[0] if segment else 0
    if len(segment) < 4 + 2 * count:
        return
    if jpeg.scans == 1 and (progressive or count < len(sampling)):
        jpeg.coefficients = _coefficients(jpeg.width_px, jpeg.height_px, list(sampling.values()))
        jpeg.lacking = {component: set(range(_COEFFICIENTS)) for component in sampling}
    first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
    if bits & 0x0F == 0:
        for component in segment[1 : 1 + 2 * count : 2]:
            jpeg.lacking.get(component, set()).difference_update(range(first, last + 1))


def _coefficients(width_px: int, height_px: int, sampling: list[tuple[int, int]]) -> int:
    """Of all blocks, of 8 by 8, of all components; whole rows and columns of them."""
    most_h, most_v = (max(max(s[i] for s in sampling), 1) for i in (0, 1))
    columns = [-(-width_px * h // (8 * most_h)) for h, _ in sampling]
    rows = [-(-height_px * v // (8 * most_v)) for _, v in sampling]
    return max(sum(c * r for c, r in zip(columns, rows, strict=True)), 1) * _COEFFICIENTS


def _unsupported(name: str) -> ContentError:
    return ContentError(
        "unsupported_format",
        f"image: expected JPEG, PNG, WebP or GIF, got {name}; convert it before sending, for example to JPEG",
    )

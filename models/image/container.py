"""PNG and WebP: the chunks that make the picture, without metadata and without what follows its end."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from models.encoder import ContentError

MAX_TEXT_BYTES: Final = 1 << 20
"""As much of a compressed text is read, and only where it may say which way up the photo is."""

_MOST_TEXTS: Final = 10
_PNG_START: Final = 8
_PNG_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_PNG_ANCILLARY: Final = 0x20  # in the first letter of a chunk's name
_PNG_READ: Final = (b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_PNG_EXIF_KEY: Final = b"Raw profile type exif"
_PNG_XMP_KEY: Final = b"XML:com.adobe.xmp"
_WEBP_START: Final = 12
_WEBP_PICTURE: Final = (b"VP8 ", b"VP8L", b"ANMF")
_WEBP_KEPT: Final = (b"VP8X", b"ALPH", b"ANIM", *_WEBP_PICTURE)
_WEBP_METADATA: Final = 0x2C  # flags of ICC, EXIF and XMP, RFC 9649 §2.7.1


@dataclass
class Chunks:
    """What is left of a PNG or WebP file."""

    content: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    texts: int = 0
    """Looked into."""


def read_png(content: bytes) -> Chunks:
    """The critical chunks of ``content`` and a sound tRNS, up to the end: byte for byte, and an IEND.

    All the others are left out before anything looks at them: they may have a wrong checksum, or be a
    text or a colour profile that grows to gigabytes. What is missing of the pixels, the decoder tells.
    """
    kept, parts, place = Chunks(), [content[:_PNG_START]], _PNG_START
    while place < len(content) and content[place + 4 : place + 8] != b"IEND":
        size, name = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        end = place + 12 + size
        if not name.isalpha() or (end > len(content) and not name[0] & _PNG_ANCILLARY):
            parts.append(content[place:])  # cut, or no chunk: the decoder says so where it still needs it
            break
        if not name[0] & _PNG_ANCILLARY:
            parts.append(content[place:end])
        elif name in _PNG_READ:
            body = content[place + 8 : end - 4]
            sound = zlib.crc32(name + body) == int.from_bytes(content[end - 4 : end], "big")
            if sound and end <= len(content) and name == b"tRNS":
                parts.append(content[place:end])
            elif sound and end <= len(content):
                _keep_png_metadata(kept, name, body)
        place = end
    else:
        parts.append(_PNG_END)
    kept.content = b"".join(parts)
    return kept


def _keep_png_metadata(kept: Chunks, name: bytes, body: bytes) -> None:
    """EXIF and XMP; of text only the two that can hold them, at most MAX_TEXT_BYTES."""
    if name == b"eXIf":
        kept.exif = body
        return
    key, _, text = body.partition(b"\x00")
    if key not in (_PNG_EXIF_KEY, _PNG_XMP_KEY) or kept.texts == _MOST_TEXTS:
        return
    kept.texts += 1
    packed = name == b"zTXt"
    if name == b"iTXt":
        packed, text = text[:1] == b"\x01", text[2:].split(b"\x00", 2)[-1]
    elif packed:
        text = text[1:]
    try:
        if packed:
            text = zlib.decompressobj().decompress(text, MAX_TEXT_BYTES)
        if key == _PNG_XMP_KEY:
            kept.xmp = text
        elif not kept.exif:  # as ImageMagick writes it: three lines, then hexadecimal digits
            kept.exif = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return


def read_webp(content: bytes) -> Chunks:
    """The chunks of ``content`` (RFC 9649) that make its first picture, and those of whole frames.

    Raises ContentError (``corrupt_media``) where the first picture is cut.
    """
    kept, parts, place = Chunks(), [], _WEBP_START
    declared = 8 + int.from_bytes(content[4:8], "little")
    stop = declared if _WEBP_START < declared <= len(content) else len(content)
    pictures = 0
    while place + 8 <= stop:
        name, size = content[place : place + 4], int.from_bytes(content[place + 4 : place + 8], "little")
        body, end = content[place + 8 : place + 8 + size], place + 8 + size
        if end > stop:
            break
        if name == b"EXIF":
            kept.exif = kept.exif or body
        elif name == b"XMP ":
            kept.xmp = kept.xmp or body
        elif name in _WEBP_KEPT and not (pictures and name != b"ANMF"):
            if name == b"VP8X" and body:
                body = bytes([body[0] & ~_WEBP_METADATA]) + body[1:]
            parts.append(content[place : place + 8] + body + bytes(size % 2))
            pictures += name in _WEBP_PICTURE
        place = end + size % 2
    if not pictures:
        raise ContentError(
            "corrupt_media", "image: expected a whole picture in the WebP, got none; send the whole file"
        )
    kept.content = b"RIFF" + (4 + sum(map(len, parts))).to_bytes(4, "little") + b"WEBP" + b"".join(parts)
    return kept

"""Names the file format of untrusted bytes by their first bytes, without decoding anything."""

from __future__ import annotations

from typing import Final

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"fLaC", "FLAC"),
    (b"ID3", "MP3"),
    (b"#!AMR", "AMR"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (b"\x1a\x45\xdf\xa3", "WebM"),
    (b"RF64", "RF64"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"MThd", "MIDI"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"BM", "BMP"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
)
_RIFF_FORMS: Final = {b"WAVE": "WAV", b"WEBP": "WEBP", b"AVI ": "AVI"}
_FORM_TYPES: Final = {b"AIFF": "AIFF", b"AIFC": "AIFF"}
_BRANDS: Final = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    ((b"M4A ", b"M4B "), "M4A"),
    ((b"3gp", b"3g2"), "3GP"),
)
_OGG_CODECS: Final = (
    (b"\x01vorbis", "Ogg Vorbis"),
    (b"OpusHead", "Ogg Opus"),
    (b"\x7fFLAC", "Ogg FLAC"),
    (b"Speex   ", "Ogg Speex"),
)
UNKNOWN: Final = "an unknown format"


def sniff_format(content: bytes) -> str:
    """The format's usual name (``JPEG``, ``Ogg Vorbis``, ``HEIC``, …), or ``an unknown format``.

    Reads at most the first 1,024 bytes; says nothing about whether the rest is sound.
    """
    head = content[:1024]
    form = head[8:12]
    if head[:4] == b"RIFF":
        return _RIFF_FORMS.get(form, "RIFF")
    if head[:4] == b"FORM":
        return _FORM_TYPES.get(form, "IFF")
    if head[:4] == b"OggS":
        return next((name for mark, name in _OGG_CODECS if mark in head[:256]), "Ogg")
    if head[4:8] == b"ftyp":
        return next((name for brands, name in _BRANDS if form.startswith(brands)), "MP4")
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return _mpeg_audio(head) or _markup(head) or UNKNOWN


def _mpeg_audio(head: bytes) -> str | None:
    """Frame sync of MPEG audio (ISO 11172-3 §2.4.1.3): layer bits 00 are ADTS AAC, 01 are MP3."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = (head[1] >> 1) & 3
    if layer == 0:
        return "AAC" if head[1] & 0xF0 == 0xF0 else None
    bitrate_index, rate_index = head[2] >> 4, (head[2] >> 2) & 3
    return {1: "MP3", 2: "MP2", 3: "MP1"}[layer] if bitrate_index != 15 and rate_index != 3 else None


def _markup(head: bytes) -> str | None:
    text = head.lower()
    if b"<svg" in text:
        return "SVG"
    if b"<html" in text or b"<!doctype html" in text:
        return "HTML"
    return "XML" if text.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<?xml") else None

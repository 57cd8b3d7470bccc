"""Names the file format of untrusted bytes by their first bytes, without decoding anything."""

from __future__ import annotations

from typing import Final

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"fLaC", "FLAC"),
    (b"#!AMR", "AMR"),
    (b"#!SILK", "SILK"),
    (b"\x02#!SILK", "SILK"),
    (b"Speex   ", "Speex"),
    (b"ADIF", "AAC"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (b"RF64", "RF64"),
    (b"BW64", "BW64"),
    (b"RIFX", "RIFX"),
    (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "W64"),
    (b"caff", "CAF"),
    (b".snd", "AU"),
    (b"MThd", "MIDI"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"MPCK", "Musepack"),
    (b"MP+", "Musepack"),
    (b"TTA1", "TTA"),
    (b"DSD ", "DSF"),
    (b".ra\xfd", "RealAudio"),
    (b".RMF", "RealMedia"),
    (b"\x0b\x77", "AC-3"),
    (b"\x7f\xfe\x80\x01", "DTS"),
    (b"FLV\x01", "FLV"),
    (b"\x00\x00\x01\xba", "MPEG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"qoif", "QOI"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
)
_RIFF_FORMS: Final = {b"WAVE": "WAV", b"WEBP": "WEBP", b"AVI ": "AVI", b"QLCM": "QCP", b"RMID": "MIDI"}
_FORM_TYPES: Final = {b"AIFF": "AIFF", b"AIFC": "AIFF"}
_BRANDS: Final = (
    ((b"avif", b"avis"), "AVIF"),
    ((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), "HEIC"),
    ((b"M4A ", b"M4B ", b"M4P "), "M4A"),
    ((b"3gp", b"3g2", b"3ge", b"3gg", b"3gr", b"3gs"), "3GP"),
    ((b"qt  ",), "QuickTime"),
    ((b"crx ",), "CR3"),
)
_ANY_PICTURE_BRANDS: Final = (b"mif1", b"msf1")  # ISO 23008-12: which codec, the brands after it say
_QUICKTIME_ATOMS: Final = (b"moov", b"mdat", b"wide", b"pnot")
_OGG_CODECS: Final = (
    (b"\x01vorbis", "Ogg Vorbis"),
    (b"OpusHead", "Ogg Opus"),
    (b"\x7fFLAC", "Ogg FLAC"),
    (b"Speex   ", "Ogg Speex"),
)
_TAGGED: Final = ("FLAC", "WAV", "AAC", "MP1", "MP2", "AIFF", "AC-3", "TTA", "WavPack", "Monkey's Audio")
"""Formats of sound, beside Ogg, that are found behind tags of MP3."""
_BMP_HEADER_BYTES: Final = (12, 16, 40, 52, 56, 64, 108, 124)
_HEAD_BYTES: Final = 4096
_MOST_TAGS: Final = 100
_BLANKS: Final = b"\xef\xbb\xbf \r\n\t\x00"
UNKNOWN: Final = "an unknown format"


def sniff_format(content: bytes) -> str:
    """The format's usual name (``JPEG``, ``Ogg Vorbis``, ``HEIC``, …), or ``an unknown format``.

    Tags before the sound (ID3v2, APEv2) are passed over: what follows them counts, and is MP3 where it
    has no name. Reads at most 4,096 bytes of that; says nothing about whether the rest is sound.
    """
    start = tags_before_bytes(content)
    found = _known(content[start : start + _HEAD_BYTES])
    if not (start or content.startswith(b"ID3")):
        return found
    return found if found in _TAGGED or found.startswith("Ogg") else "MP3"


def tags_before_bytes(content: bytes) -> int:
    """Length of all whole ID3v2 and APEv2 tags, and of the zeros behind them, at the start; in bytes."""
    place = 0
    for _ in range(_MOST_TAGS):
        size = tag_bytes(content, place)
        if not size or place + size >= len(content):
            break
        place += size
        while content[place : place + 1] == b"\x00":
            part = content[place : place + 1024]
            place += len(part) - len(part.lstrip(b"\x00"))
    return place


def tag_bytes(content: bytes, place: int) -> int:
    """Length of the ID3v2 or APEv2 tag that begins at ``place``, in bytes; 0 where none does.

    https://id3.org/id3v2.4.0-structure §3.1, https://wiki.hydrogenaud.io/index.php?title=APE_Tags_Header
    """
    head = content[place : place + 32]
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] != 0xFF and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = int.from_bytes(head[20:24], "little") & 1 << 29
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    return 0


def _known(head: bytes) -> str:
    form = head[8:12]
    if head[:4] == b"RIFF":
        return _RIFF_FORMS.get(form, "RIFF")
    if head[:4] == b"FORM":
        return _FORM_TYPES.get(form, "IFF")
    if head[:4] == b"OggS":
        return next((name for mark, name in _OGG_CODECS if mark in head[:256]), "Ogg")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "Matroska" if b"matroska" in head[:64] else "WebM"
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[4:8] in _QUICKTIME_ATOMS:
        return "QuickTime"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return _mpeg_audio(head) or _markup(head) or UNKNOWN


def _iso_media(head: bytes) -> str:
    """By the major brand; pictures of any codec by the first compatible brand that names theirs."""
    brands = [head[8:12]]
    if brands[0] in _ANY_PICTURE_BRANDS:
        end = min(int.from_bytes(head[:4], "big"), len(head))
        more = [head[i : i + 4] for i in range(16, end, 4)]
        brands = [*(brand for brand in more if brand not in _ANY_PICTURE_BRANDS), *brands]
    for brand in brands:
        for prefixes, name in _BRANDS:
            if brand.startswith(prefixes):
                return name
    return "MP4"


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
    begin = text.lstrip(_BLANKS)
    if begin.startswith(b"%pdf-"):
        return "PDF"
    return "XML" if begin.startswith(b"<?xml") else None

"""Every format that phones and shops send has a name, whether it is taken or not."""

from __future__ import annotations

import pytest

from models.encoder import ContentError
from models.file_format import UNKNOWN, sniff_format, tags_before_bytes
from models.image.decode import decode_image
from models.voice.decode import decode_voice
from tests.unit.models.voice.recordings import ape, encoded, id3v2, speech


def box(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of an ISO media file."""
    size = 16 + 4 * len(compatible)
    return (
        size.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(compatible) + b"\x00\x00\x00\x08free"
    )


def ogg(mark: bytes) -> bytes:
    return b"OggS\x00\x02" + bytes(20) + b"\x01\x1e" + mark


SOUNDS = {
    "M4A": [box(b"M4A ", b"M4A ", b"mp42"), box(b"M4B "), box(b"M4P ")],
    "AAC": [
        b"\xff\xf1\x50\x80\x02\x1f\xfc",
        b"\xff\xf9\x50\x80\x02\x1f\xfc",
        b"ADIF\x00",
        id3v2() + b"\xff\xf1\x50\x80",
    ],
    "MP4": [box(b"isom", b"isom", b"mp42"), box(b"mp42"), box(b"M4V "), box(b"dash")],
    "QuickTime": [box(b"qt  "), b"\x00\x00\x10\x00moov\x00", b"\x00\x00\x00\x08wide\x00\x00"],
    "3GP": [box(b"3gp4"), box(b"3gp5"), box(b"3g2a"), box(b"3gg6"), box(b"3ge6")],
    "AMR": [b"#!AMR\n\x3c\x91", b"#!AMR-WB\n\x3c"],
    "SILK": [b"#!SILK_V3\x0c\x00", b"\x02#!SILK_V3\x0c\x00"],
    "Speex": [b"Speex   1.2rc1"],
    "Ogg Speex": [ogg(b"Speex   1.2")],
    "Ogg FLAC": [ogg(b"\x7fFLAC\x01")],
    "Ogg": [ogg(b"\x80theora")],
    "WebM": [b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm"],
    "Matroska": [b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\x01\x42\x82\x88matroska"],
    "WMA": [b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9"],
    "AIFF": [b"FORM\x00\x00\x10\x00AIFF", b"FORM\x00\x00\x10\x00AIFC", encoded(speech(), "AIFF")],
    "CAF": [b"caff\x00\x01\x00\x00desc", encoded(speech(), "CAF")],
    "AU": [b".snd\x00\x00\x00\x18", encoded(speech(), "AU")],
    "RF64": [b"RF64\xff\xff\xff\xffWAVEds64", encoded(speech(), "RF64")],
    "W64": [encoded(speech(), "W64")],
    "BW64": [b"BW64\xff\xff\xff\xffWAVEds64"],
    "QCP": [b"RIFF\x00\x10\x00\x00QLCMfmt "],
    "MP2": [b"\xff\xfd\x90\x64"],
    "AC-3": [b"\x0b\x77\x00\x00"],
    "MIDI": [b"MThd\x00\x00\x00\x06"],
}
PICTURES = {
    "HEIC": [box(b"heic", b"mif1", b"heic"), box(b"mif1", b"mif1", b"heic"), box(b"hevc"), box(b"mif1")],
    "AVIF": [box(b"avif", b"avif", b"mif1"), box(b"mif1", b"mif1", b"avif", b"miaf"), box(b"avis")],
    "MP4": [box(b"isom")],
    "QuickTime": [box(b"qt  ")],
    "BMP": [b"BM\x36\x00\x01\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"],
    "TIFF": [b"II*\x00\x08", b"MM\x00*\x00", b"II+\x00\x08", b"MM\x00+\x00"],
    "SVG": [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?>" + b"<!-- x -->" * 200 + b"<svg/>",
    ],
    "PDF": [b"%PDF-1.7\n", b"\xef\xbb\xbf%PDF-1.4", b"\r\n%PDF-2.0"],
    "JPEG XL": [b"\xff\x0a\xfa\x1f", b"\x00\x00\x00\x0cJXL \r\n\x87\n"],
    "JPEG 2000": [b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\x00"],
    "HTML": [b"<!DOCTYPE html><html>", b"\n<html lang='en'>"],
    "XML": [b"<?xml version='1.0'?><a/>"],
    "ICO": [b"\x00\x00\x01\x00\x01"],
    "PSD": [b"8BPS\x00\x01"],
    "ZIP": [b"PK\x03\x04"],
    "gzip": [b"\x1f\x8b\x08"],
}


@pytest.mark.parametrize("name", SOUNDS)
def test_a_sound_that_is_not_taken_is_refused_by_name_and_with_what_to_send(name: str) -> None:
    for content in SOUNDS[name]:
        with pytest.raises(ContentError) as caught:
            decode_voice(content + bytes(200))
        assert caught.value.code == "unsupported_format"
        assert f"expected WAV, FLAC, Ogg (Vorbis, Opus) or MP3, got {name};" in str(caught.value)
        assert "convert it before sending, for example to WAV" in str(caught.value)


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_is_not_taken_is_refused_by_name_and_with_what_to_send(name: str) -> None:
    for content in PICTURES[name]:
        with pytest.raises(ContentError) as caught:
            decode_image(content + bytes(200))
        assert caught.value.code == "unsupported_format"
        assert f"expected JPEG, PNG, WebP or GIF, got {name};" in str(caught.value)
        assert "convert it before sending, for example to JPEG" in str(caught.value)


@pytest.mark.parametrize(("code", "name"), [(0x55, "MP3"), (0xFF, "AAC"), (0x161, "WMA"), (0xA109, "Speex")])
def test_a_wav_of_another_codec_is_refused_by_the_name_of_that(code: int, name: str) -> None:
    plain = encoded(speech())
    extended = plain[:16] + (40).to_bytes(4, "little") + b"\xfe\xff" + plain[22:36] + bytes(8)
    extended += code.to_bytes(2, "little") + bytes(14) + plain[36:]
    for content in (plain[:20] + code.to_bytes(2, "little") + plain[22:], extended):
        with pytest.raises(ContentError, match=f"got WAV with {name} inside; convert it") as caught:
            decode_voice(content)
        assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize("tag", [id3v2(), id3v2(footer=True), ape(), id3v2() + ape() + bytes(3_000)])
def test_what_follows_a_tag_has_the_name(tag: bytes) -> None:
    assert tags_before_bytes(tag + b"fLaC") == len(tag)
    sounds = {
        "FLAC": b"fLaC",
        "MP3": b"\xff\xfb\x90\x64",
        "Ogg Opus": ogg(b"OpusHead"),
        "WAV": encoded(speech()),
    }
    for name, content in sounds.items():
        assert sniff_format(tag + content) == name
    assert sniff_format(tag + b"\xff\xd8\xff\xe0") == "MP3"  # no picture is tagged like this


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"BMW drives", b"BM", bytes(5_000), b"\xff" * 50, b"RI", b"ftyp"]
)
def test_what_has_no_name_is_unknown(content: bytes) -> None:
    assert sniff_format(content) == UNKNOWN


def test_a_tag_alone_is_an_mp3_without_sound() -> None:
    for content in (id3v2(), b"ID3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"):
        assert sniff_format(content) == "MP3"
        with pytest.raises(ContentError) as caught:
            decode_voice(content)
        assert caught.value.code == "corrupt_media"

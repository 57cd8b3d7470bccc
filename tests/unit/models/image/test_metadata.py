"""What nobody looks at in a photo may be huge, broken or missing: the pixels stay the same."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.image.container import MAX_TEXT_BYTES, read_png
from models.image.jpeg import MAX_SCANS
from models.image.orientation import orientation
from tests.unit.models.image.photos import (
    PNG_START,
    case,
    encoded,
    exif,
    jpeg_segment,
    outcome,
    photo,
    png_chunk,
    png_chunks,
    png_with,
    webp,
    webp_chunk,
)

JUNK = random.Random(2).randbytes(2_000)
PNG = encoded(photo(), "PNG")
JPEG = encoded(photo(), "JPEG")
PROGRESSIVE = encoded(photo(), "JPEG", progressive=True)
WEBP = encoded(photo(), "WEBP")
GIF = encoded(photo(), "GIF")
BOMB = zlib.compress(bytes(40_000_000), 9)


# PNG


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    ("name", "body"),
    [
        (b"tEXt", b"Comment\x00hello"),
        (b"zTXt", b"Comment\x00\x00" + BOMB),
        (b"zTXt", b"Comment\x00\x00no zlib at all"),
        (b"iTXt", b"Comment\x00\x01\x00en\x00\x00" + BOMB),
        (b"iTXt", b"Comment\x00\x00\x00\x00\x00" + bytes(3_000_000)),
        (b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + BOMB),
        (b"iTXt", b"\xff\xfe"),
        (b"iCCP", b"profile\x00\x00" + BOMB),
        (b"iCCP", b""),
        (b"eXIf", b"no EXIF at all"),
        (b"gAMA", b"\x00"),
        (b"pHYs", b""),
        (b"tIME", b"\xff" * 7),
        (b"acTL", bytes(8)),
        (b"caBX", JUNK),
    ],
)
def test_side_chunks_of_a_png_do_not_matter(name: bytes, body: bytes, right: bool) -> None:
    assert outcome(png_with(PNG, png_chunk(name, body, right))) == outcome(PNG)
    assert len(outcome(PNG)) == 64


def test_no_more_of_a_text_is_decompressed_than_a_limit() -> None:
    bomb = png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + BOMB)
    assert len(read_png(png_with(PNG, bomb)).xmp) == MAX_TEXT_BYTES


def test_many_texts_together_may_be_large() -> None:
    text = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(900_000)))
    assert outcome(png_with(PNG, *[text] * 100)) == outcome(PNG)


@pytest.mark.parametrize("name", [b"IHDR", b"IDAT"])
def test_a_damaged_chunk_of_the_picture_itself_is_corrupt(name: bytes) -> None:
    chunks = png_chunks(PNG)
    place = next(i for i, chunk in enumerate(chunks) if chunk[4:8] == name)
    damaged = bytearray(chunks[place])
    damaged[len(damaged) // 2] ^= 0x10
    chunks[place] = bytes(damaged)
    assert outcome(PNG_START + b"".join(chunks)) == "corrupt_media"


def test_a_png_may_lack_what_follows_its_pixels() -> None:
    for cut in (1, 4, 11, 12, 16):
        assert outcome(PNG[:-cut]) == outcome(PNG)
    late = png_with(PNG, png_chunk(b"tEXt", b"Comment\x00" + bytes(500)))
    for cut in (13, 100, 500):
        assert outcome(late[:-cut]) == outcome(PNG)


def test_transparency_counts_unless_its_checksum_is_wrong() -> None:
    palette = Image.new("P", (32, 32), 3)
    palette.putpalette([0, 0, 0] * 256)
    opaque = encoded(palette, "PNG")
    clear = encoded(palette, "PNG", transparency=3)
    first, second, *rest = png_chunks(opaque)
    transparency = next(chunk[8:-4] for chunk in png_chunks(clear) if chunk[4:8] == b"tRNS")
    right, wrong = (
        b"".join([PNG_START, first, second, png_chunk(b"tRNS", transparency, ok), *rest])
        for ok in (True, False)
    )
    assert outcome(right) == outcome(clear) != outcome(opaque)
    assert outcome(wrong) == outcome(opaque)


@pytest.mark.parametrize("name", ["png_badcrc_anc.png", "png_itxt_big.png"])
def test_the_pngs_that_were_sent_to_us(name: str) -> None:
    assert outcome(case(f"photo_metadata/{name}")) == outcome(case("photo_metadata/whole.png"))


# JPEG


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE])
@pytest.mark.parametrize(
    "segment",
    [
        jpeg_segment(0xE1, b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage"),
        jpeg_segment(0xE1, exif(1)[:-9]),
        jpeg_segment(0xE1, exif(1, count=5)),
        jpeg_segment(0xE1, exif(0)),
        jpeg_segment(0xE1, b"Exif\x00\x00"),
        jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x" + JUNK),
        jpeg_segment(0xE2, b"MPF\x00II*\x00\x08\x00\x00\x00" + JUNK),
        jpeg_segment(0xE2, b"ICC_PROFILE\x00\x01\x09" + JUNK),
        jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\x00\x00\x00\x00\x00\x03ab"),
        jpeg_segment(0xEB, JUNK),
        jpeg_segment(0xFE, bytes(65_533)),
        jpeg_segment(0xEB, bytes(65_533)) * 100,
        b"\xff\xff\xff" + jpeg_segment(0xFE, b"behind marks that fill"),
    ],
)
def test_side_segments_of_a_jpeg_do_not_matter(segment: bytes, whole: bytes) -> None:
    assert outcome(whole[:2] + segment + whole[2:]) == outcome(whole)
    start = whole.index(b"\xff\xdb")
    assert outcome(whole[:start] + segment + whole[start:]) == outcome(whole)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 97, "subsampling": 0}, {"restart_marker_blocks": 3}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_without_its_end_is_whole_and_one_without_its_last_pixels_is_cut(
    mode: str, options: dict[str, object]
) -> None:
    content = encoded(photo().convert(mode), "JPEG", **options)
    assert outcome(content[:-1]) == outcome(content[:-2]) == outcome(content)
    for part in (0.99, 0.97, 0.9, 0.7, 0.5):
        assert outcome(content[: int(part * len(content))]) == "corrupt_media"


def test_a_large_jpeg_without_its_end_is_whole() -> None:
    content = encoded(photo(1600, 1200), "JPEG", quality=90)
    assert outcome(content[:-1]) == outcome(content[:-2]) == outcome(content)
    assert {outcome(content[:-cut]) for cut in (200, 3_000, 30_000)} == {"corrupt_media"}


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, encoded(photo(), "JPEG", restart_marker_blocks=3)])
@pytest.mark.parametrize("part", [0.6, 0.8, 0.95])
def test_a_cut_jpeg_before_another_is_cut(whole: bytes, part: float) -> None:
    assert outcome(whole[: int(part * len(whole))] + encoded(photo(40, 40), "JPEG")) == "corrupt_media"


@pytest.mark.parametrize("part", [0.6, 0.8, 0.95])
def test_a_cut_jpeg_in_one_scan_is_cut_though_its_end_is_marked(part: float) -> None:
    assert outcome(JPEG[: int(part * len(JPEG))] + b"\xff\xd9") == "corrupt_media"


def test_a_progressive_jpeg_without_its_last_scan_is_cut() -> None:
    last = PROGRESSIVE.rindex(b"\xff\xda")
    tables = PROGRESSIVE.rindex(b"\xff\xc4", 0, last)
    assert outcome(PROGRESSIVE[:last]) == outcome(PROGRESSIVE[:tables]) == "corrupt_media"


@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE])
@pytest.mark.parametrize(
    "behind",
    [
        encoded(photo(40, 40), "JPEG"),  # MPO, or a gain map
        b"\x00\x00\x00\x18ftypmp42" + JUNK,  # a motion photo
        bytes(100_000),
        b"\xff" * 1_000,
        JUNK,
        b"\xff",
    ],
)
def test_what_stands_behind_a_jpeg_does_not_matter(behind: bytes, whole: bytes) -> None:
    assert outcome(whole + behind) == outcome(whole)


def test_a_picture_of_several_in_one_file_is_the_first() -> None:
    more = [photo(90, 60).rotate(180), photo(45, 30)]
    content = encoded(photo(), "MPO", save_all=True, append_images=more)
    assert outcome(content) == outcome(JPEG)


def test_more_scans_than_a_camera_writes_are_refused() -> None:
    scan = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    assert outcome(PROGRESSIVE[:-2] + scan * MAX_SCANS + b"\xff\xd9") == "corrupt_media"


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xCB, 0xF7])
def test_a_jpeg_of_another_kind_is_named(marker: int) -> None:
    place = JPEG.index(b"\xff\xc0")
    assert outcome(JPEG[:place] + b"\xff" + bytes([marker]) + JPEG[place + 2 :]) == "unsupported_format"
    twelve = JPEG[: place + 4] + b"\x0c" + JPEG[place + 5 :]
    assert outcome(twelve) == "unsupported_format"


# WebP and GIF


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("behind", [JUNK, bytes(1_000), b"\x00", b"RIFF" + JUNK, webp_chunk(b"VP8 ", JUNK)])
def test_what_stands_behind_a_webp_or_gif_does_not_matter(behind: bytes, lossless: bool) -> None:
    content = encoded(photo(), "WEBP", lossless=lossless)
    assert outcome(content + behind) == outcome(content)
    assert outcome(GIF + behind) == outcome(GIF)


def test_side_chunks_of_a_webp_do_not_matter() -> None:
    picture = WEBP[12:]
    head = webp_chunk(b"VP8X", b"\x2c\x00\x00\x00" + (89).to_bytes(3, "little") + (59).to_bytes(3, "little"))
    for side in (webp_chunk(b"EXIF", JUNK), webp_chunk(b"XMP ", JUNK), webp_chunk(b"abcd", JUNK)):
        assert outcome(webp(head, webp_chunk(b"ICCP", JUNK), picture, side)) == outcome(WEBP)
        cut = webp(head, picture, side)
        assert outcome(cut[:-100]) == outcome(cut[:-1_990]) == outcome(WEBP)
        assert outcome(cut[: -len(side) - 2]) == "corrupt_media"


def test_a_gif_may_lack_its_last_byte() -> None:
    assert outcome(GIF[:-1]) == outcome(GIF)


# Cuts


@pytest.mark.parametrize(
    "whole", [PNG, JPEG, PROGRESSIVE, WEBP, GIF, encoded(photo(), "WEBP", lossless=True)]
)
def test_a_cut_picture_is_refused_or_the_same(whole: bytes) -> None:
    same = outcome(whole)
    found = [outcome(whole[:end]) for end in range(len(whole) - 1, 0, -max(len(whole) // 700, 1))]
    assert set(found) <= {same, "corrupt_media", "unsupported_format"}
    assert found[60:].count(same) == 0  # beyond the last bytes, all are refused


@settings(max_examples=80, deadline=None)
@given(
    part=st.floats(0, 1, exclude_max=True),
    noise=st.floats(0, 60),
    progressive=st.booleans(),
    quality=st.integers(20, 95),
)
def test_a_cut_jpeg_of_any_kind_is_refused_or_the_same(
    part: float, noise: float, progressive: bool, quality: int
) -> None:
    content = encoded(photo(70, 50, noise), "JPEG", progressive=progressive, quality=quality)
    assert outcome(content[: int(part * len(content))]) in (
        outcome(content),
        "corrupt_media",
        "unsupported_format",
    )


# Which way up


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4, 8, 9])
def test_the_orientation_is_read_from_every_integer(kind: int, order: str) -> None:
    for wanted in range(1, 9):
        assert orientation(exif(wanted, order, kind)) == wanted


@pytest.mark.parametrize("wanted", range(1, 9))
def test_the_orientation_is_found_where_each_format_keeps_it(wanted: int) -> None:
    block = exif(wanted)
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % wanted
    turned = {outcome(encoded(photo(), "PNG", exif=block))}
    profile = b"\nexif\n%8d\n" % len(block) + block.hex().encode()
    for text in (
        png_chunk(b"eXIf", block[6:]),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + xmp),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + zlib.compress(xmp)),
        png_chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(profile)),
        png_chunk(b"tEXt", b"Raw profile type exif\x00" + profile),
    ):
        turned.add(outcome(png_with(PNG, text)))
    assert len(turned) == 1
    by_exif = JPEG[:2] + jpeg_segment(0xE1, block) + JPEG[2:]
    by_xmp = JPEG[:2] + jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + xmp) + JPEG[2:]
    assert outcome(by_exif) == outcome(by_xmp)
    assert (outcome(by_exif) == outcome(JPEG)) == (wanted == 1)


@settings(max_examples=300, deadline=None)
@given(
    block=st.one_of(
        st.binary(max_size=80),
        st.builds(lambda a, b: exif(a % 65536)[:14] + b, st.integers(0), st.binary(max_size=60)),
    )
)
def test_any_block_of_exif_gives_a_number(block: bytes) -> None:
    assert isinstance(orientation(block, block), int)

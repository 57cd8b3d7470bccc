"""What was accepted before the repair of metadata gives the same pixels, and nothing is printed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from models.encoder import ContentError
from models.image import decode
from models.image.decode import SIDE_PX, decode_image
from tests.support.folders import ROOT
from tests.unit.models.image.photos import encoded, exif, jpeg_segment, photo, png_chunk, png_with

SAMPLE = ROOT / "pipelines/demo/sample/events.parquet"
BEFORE = "e9e9d689f92533c9021650d5deff07e3f5c9ef5636a65cec012f574fb418961e"
"""Pixels, or the code of the refusal, of the pictures in the sample in their order: commit ec90179."""

DECODE_ALL = """
import base64, json, sys
from models.encoder import ContentError
from models.image.decode import decode_image
codes = []
for line in sys.stdin:
    try:
        codes.append(decode_image(base64.b64decode(line)).shape[0])
    except ContentError as error:
        codes.append(error.code)
print(json.dumps(codes))
"""


def test_the_pictures_of_the_sample_give_the_same_pixels_as_before() -> None:
    table = pq.read_table(SAMPLE)
    digest, count = hashlib.sha256(), 0
    for topic, value in zip(table["topic"].to_pylist(), table["value"].to_pylist(), strict=True):
        if topic != "images":
            continue
        content = base64.b64decode(json.loads(value)["data_base64"]) if value[:1] == b"{" else value
        try:
            found = decode_image(content).tobytes()
        except ContentError as error:
            found = error.code.encode()
        digest.update(hashlib.sha256(found).digest())
        count += 1
    assert count == 101
    assert digest.hexdigest() == BEFORE


def as_before(content: bytes) -> np.ndarray:
    """By Pillow alone, which reads all the metadata and turns by it."""
    with Image.open(io.BytesIO(content)) as picture:
        picture.draft(None, (2 * SIDE_PX, 2 * SIDE_PX))
        picture.load()
        return decode._upright_pixels(picture, SIDE_PX, picture.getexif().get(0x0112, 1))


MODES = ["RGB", "L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"]
OPTIONS: dict[str, list[dict[str, object]]] = {
    "JPEG": [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}, {"comment": b"hi"}],
    "PNG": [{}, {"dpi": (72, 72)}, {"transparency": 3}],
    "WEBP": [{}, {"lossless": True}, {"xmp": b'<x tiff:Orientation="6"/>'}],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("format", OPTIONS)
def test_metadata_and_modes_give_the_same_pixels_as_before(format: str, mode: str) -> None:
    image, tried = photo(101, 70).convert(mode), 0
    for options in OPTIONS[format]:
        for more in ({}, {"icc_profile": bytes(3_000), "exif": exif(6)}, {"exif": exif(3, ">")}):
            try:
                content = encoded(image, format, **options, **more)
            except (OSError, TypeError, ValueError):  # a mode that this format does not have
                continue
            np.testing.assert_array_equal(decode_image(content), as_before(content))
            tried += 1
    assert tried or (format, mode) in {
        ("JPEG", "P"),
        ("JPEG", "RGBA"),
        ("JPEG", "LA"),
        ("PNG", "CMYK"),
        ("PNG", "YCbCr"),
    }


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF"])
def test_the_first_frame_of_an_animation_gives_the_same_pixels_as_before(format: str, default: bool) -> None:
    clear = photo().convert("RGBA")
    clear.putalpha(99)
    options: dict[str, object] = {"default_image": True} if default and format == "PNG" else {}
    content = encoded(clear, format, save_all=True, append_images=[photo().rotate(180)], **options)
    np.testing.assert_array_equal(decode_image(content), as_before(content))


def hostile() -> list[bytes]:
    """Damaged files of every format, and such as Pillow warns of."""
    rng = random.Random(5)
    kinds = [encoded(photo(), format) for format in ("JPEG", "PNG", "WEBP", "GIF")]
    kinds += [
        encoded(photo(), "JPEG", progressive=True),
        encoded(photo().convert("P"), "PNG", transparency=b"\x00\x80"),
    ]
    kinds += [
        encoded(photo(), format, exif=exif(6), icc_profile=rng.randbytes(900))
        for format in ("JPEG", "PNG", "WEBP")
    ]
    jpeg, png = kinds[:2]
    files = [
        jpeg[:2] + jpeg_segment(0xE1, exif(6)[:-7]) + jpeg[2:],
        jpeg[:2] + jpeg_segment(0xE1, exif(6, count=5)) + jpeg[2:],
        jpeg[:2]
        + jpeg_segment(0xE2, b"MPF\x00II*\x00\x08\x00\x00\x00\x03\x00" + rng.randbytes(60))
        + jpeg[2:],
        png_with(png, png_chunk(b"acTL", bytes(8)), png_chunk(b"acTL", bytes(8))),
        png_with(png, png_chunk(b"eXIf", exif(6)[6:-8])),
        encoded(Image.new("1", (5_100, 5_100)), "PNG"),
    ]
    for kind in kinds:
        for _ in range(30):
            damaged = bytearray(kind)
            for _ in range(rng.choice((1, 2, 20))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            files.append(bytes(damaged[: rng.choice((len(damaged), rng.randrange(20, len(damaged))))]))
    return files


def test_nothing_is_printed_about_hostile_files() -> None:
    files = hostile()
    lines = b"\n".join(base64.b64encode(content) for content in files)
    done = subprocess.run(
        [sys.executable, "-c", DECODE_ALL],
        input=lines,
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=250,
    )
    assert done.stderr == b""
    codes = json.loads(done.stdout)
    assert len(codes) == len(files)
    assert {str(SIDE_PX), "corrupt_media", "media_too_large"} <= set(map(str, codes))

"""Photos of many megapixels are decoded small; what would need the memory of all its pixels is refused."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.encoder import ContentError
from models.image.decode import MAX_PIXELS, SIDE_PX, decode_image
from models.image.jpeg import read_jpeg
from tests.support.folders import ROOT
from tests.unit.models.image.photos import encoded, outcome, photo

DECODE = """
import re, sys
from pathlib import Path
from models.image.decode import decode_image

def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

content = Path(sys.argv[1]).read_bytes()
decode_image(Path(sys.argv[2]).read_bytes())  # what every picture needs
before = peak_kib()
pixels = decode_image(content)
print(pixels.shape[0], pixels[..., 0].mean(), peak_kib() - before)
"""


def large_jpeg(width: int, height: int, **options: object) -> bytes:
    """A photo that was enlarged, with the cells of its sampling as small as in any other."""
    small = photo(width // 16, height // 16, noise=3)
    return encoded(small.resize((width, height), Image.Resampling.NEAREST), "JPEG", quality=70, **options)


@pytest.fixture(scope="module")
def of_48_megapixels() -> dict[str, bytes]:
    kinds: dict[str, dict[str, object]] = {"baseline": {}, "progressive": {"progressive": True}}
    return {kind: large_jpeg(8_000, 6_000, **options) for kind, options in kinds.items()}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux")
@pytest.mark.parametrize(("kind", "most_mib"), [("baseline", 40), ("progressive", 200)])
def test_a_photo_of_48_megapixels_is_decoded_in_little_memory(
    kind: str, most_mib: int, of_48_megapixels: dict[str, bytes], tmp_path: Path
) -> None:
    """All its pixels would take 137 MiB; a progressive one is held as coefficients, as one of 25 is."""
    (tmp_path / "large.jpg").write_bytes(of_48_megapixels[kind])
    (tmp_path / "small.jpg").write_bytes(encoded(photo(), "JPEG"))
    done = subprocess.run(
        [sys.executable, "-c", DECODE, tmp_path / "large.jpg", tmp_path / "small.jpg"],
        capture_output=True,
        cwd=ROOT,
        check=True,
        timeout=120,
        text=True,
    )
    side, mean, kib = map(float, done.stdout.split())
    assert side == SIDE_PX
    assert 100 < mean < 150
    assert kib < most_mib * 1024


def test_a_large_photo_looks_like_a_small_one(of_48_megapixels: dict[str, bytes]) -> None:
    small = decode_image(encoded(photo(500, 375, noise=3), "PNG")).astype(int)
    for content in of_48_megapixels.values():
        assert np.abs(decode_image(content).astype(int) - small).mean() < 4


def test_a_large_photo_without_its_end_is_whole(of_48_megapixels: dict[str, bytes]) -> None:
    content = of_48_megapixels["baseline"]
    assert outcome(content[:-2]) == outcome(content)
    assert outcome(content[: len(content) // 2]) == "corrupt_media"


def refusal(content: bytes) -> str:
    with pytest.raises(ContentError) as caught:
        decode_image(content)
    assert caught.value.code == "media_too_large"
    return str(caught.value)


def with_size(content: bytes, width: int, height: int) -> bytes:
    """A JPEG that declares another size."""
    place = re.search(rb"\xff[\xc0\xc2]", content)
    assert place
    at = place.end() + 3
    return content[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + content[at + 4 :]


def test_a_jpeg_beyond_200_megapixels_is_refused() -> None:
    content = encoded(photo(), "JPEG")
    assert "at most 200000000 pixels, got 16384x12288" in refusal(with_size(content, 16_384, 12_288))
    assert "pixels, got 65500x65500" in refusal(with_size(content, 65_500, 65_500))
    assert outcome(with_size(content, 16_320, 12_240)) == "corrupt_media"  # it is looked at, and cut


def test_a_progressive_jpeg_is_held_whole_and_so_may_have_fewer() -> None:
    content = encoded(photo(), "JPEG", progressive=True)
    assert "send it in one scan (baseline) or smaller" in refusal(with_size(content, 12_000, 9_000))
    assert "several scans" in refusal(
        with_size(encoded(photo(), "JPEG", progressive=True, subsampling=0), 8_000, 6_000)
    )


@pytest.mark.parametrize(("subsampling", "share"), [(0, 3), (1, 2), (2, 1.5)])
def test_coefficients_are_counted_by_sampling(subsampling: int, share: float) -> None:
    content = encoded(photo(640, 480), "JPEG", progressive=True, subsampling=subsampling)
    assert read_jpeg(content).coefficients == share * 640 * 480
    assert read_jpeg(encoded(photo(640, 480), "JPEG", subsampling=subsampling)).coefficients == 0


@pytest.mark.parametrize("format", ["PNG", "GIF", "WEBP"])
def test_a_bomb_of_another_format_is_refused(format: str) -> None:
    side = 5_001
    content = io.BytesIO()
    Image.new("L" if format != "WEBP" else "RGB", (side, side)).save(content, format)
    assert len(content.getvalue()) < 1_000_000
    assert f"at most {MAX_PIXELS} pixels" in refusal(content.getvalue())


def test_a_large_jpeg_for_a_model_of_large_pictures_stays_within_the_limit() -> None:
    content = with_size(encoded(photo(), "JPEG"), 14_000, 14_000)
    with pytest.raises(ContentError) as caught:
        decode_image(content, 4_000)
    assert caught.value.code == "media_too_large"

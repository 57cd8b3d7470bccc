"""Photos: what is accepted, what is refused by which name, and what the encoder promises."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from features.schema import EMBEDDING_DIM
from models import checkpoint
from models.device import DeviceError
from models.encoder import OTHER, ContentError
from models.heads import Head
from models.image import decode
from models.image.decode import SIDE_PX, decode_image
from models.image.encoder import ImageEncoder, config_of
from models.image.resnet import WIDTHS
from models.image.resnet import ResNet as ImageNetwork

SHAPE = (SIDE_PX, SIDE_PX, 3)


def picture(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    """A smooth colourful picture whose four corners differ."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    tint = np.random.default_rng(seed).uniform(0.5, 1, 3)
    pixels = np.stack([x * 255 * tint[0], y * 255 * tint[1], (1 - x * y) * 200 * tint[2]], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def refusal(content: bytes) -> ContentError:
    with pytest.raises(ContentError) as caught:
        decode_image(content)
    return caught.value


def levels_off(content: bytes, wanted: bytes) -> float:
    """Greatest mean difference of a channel between what two files decode to."""
    difference = decode_image(content).astype(float) - decode_image(wanted).astype(float)
    return float(np.abs(difference).mean(axis=(0, 1)).max())


def png_with_size(width: int, height: int) -> bytes:
    """The head of a PNG that declares a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


# What is accepted


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_accepted_format_becomes_the_same_square_of_pixels(format: str) -> None:
    pixels = decode_image(encoded(picture(), format))
    assert pixels.shape == SHAPE
    assert pixels.dtype == np.uint8
    assert levels_off(encoded(picture(), format), encoded(picture())) < 6


def test_a_progressive_jpeg_decodes_like_a_plain_one() -> None:
    assert levels_off(encoded(picture(), "JPEG", progressive=True), encoded(picture(), "JPEG")) < 2


def test_a_large_jpeg_decoded_small_looks_like_the_whole() -> None:
    large = picture(1600, 1200)
    assert levels_off(encoded(large, "JPEG", quality=95), encoded(large)) < 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    image = picture().convert(mode)
    content = encoded(image, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    assert levels_off(content, encoded(image.convert("RGB"))) < 6


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode: str) -> None:
    image = picture().convert(mode)
    image.putalpha(0)
    assert decode_image(encoded(image)).min() == 255
    image.putalpha(128)
    half = decode_image(encoded(image)).astype(int)
    image.putalpha(255)
    assert np.abs(half - (decode_image(encoded(image)).astype(int) + 255) / 2).max() <= 2


def test_a_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.new("P", (32, 32), 3)
    image.putpalette([0, 0, 0] * 256)
    assert decode_image(encoded(image, "PNG", transparency=3)).min() == 255
    assert decode_image(encoded(image, "GIF", transparency=3)).min() == 255
    assert decode_image(encoded(image, "PNG")).max() == 0


def test_rgb_with_a_transparent_colour_is_laid_over_white() -> None:
    assert decode_image(encoded(Image.new("RGB", (32, 32), (9, 8, 7)), transparency=(9, 8, 7))).min() == 255


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    pixels = decode_image(encoded(Image.fromarray(ramp)))[..., 0]
    assert np.abs(pixels[0].astype(float) - ramp[0] / 257).max() <= 1
    assert len(np.unique(pixels)) == 64


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_is_set_upright(orientation: int) -> None:
    stored = {  # how the camera stores an upright picture that it marks with this orientation
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = picture() if orientation == 1 else picture().transpose(stored[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("JPEG", "PNG", "WEBP"):
        assert levels_off(encoded(image, format, exif=exif), encoded(picture(), format)) < 4


def test_a_long_picture_loses_its_ends_and_one_of_a_kept_shape_nothing() -> None:
    def with_red_ends(width: int, height: int, edge: int) -> Image.Image:
        image, long = Image.new("RGB", (width, height), "red"), (edge if width > height else 0)
        high = edge if height > width else 0
        image.paste((0, 0, 255), (long, high, width - long, height - high))
        return image

    for cut in (with_red_ends(400, 150, 90), with_red_ends(150, 400, 90)):
        assert decode_image(encoded(cut))[..., 0].max() == 0
    for whole in (with_red_ends(300, 400, 20), with_red_ends(400, 300, 20), picture(200, 200)):
        stretched = np.array(whole.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(decode_image(encoded(whole)), stretched)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_a_photo_with_a_broken_exif_block_is_taken_as_it_lies() -> None:
    content = encoded(picture(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff garbage")
    assert levels_off(content, encoded(picture(), "JPEG")) == 0


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(format: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    pixels = decode_image(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
    assert pixels[..., 0].min() > 240
    assert pixels[..., 1:].max() < 15


# What is refused


@pytest.mark.parametrize(
    ("format", "name"), [("TIFF", "TIFF"), ("BMP", "BMP"), ("ICO", "ICO"), ("AVIF", "AVIF"), ("EPS", "EPS")]
)
def test_other_picture_formats_are_refused_by_name(format: str, name: str) -> None:
    error = refusal(encoded(picture(64, 64), format))
    assert error.code == "unsupported_format"
    assert f"got {name};" in str(error)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", "MP4"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "ZIP"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"8BPS\x00\x01", "PSD"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV"),
        (b"plain text", "an unknown format"),
        (b"", "an unknown format"),
    ],
)
def test_bytes_of_no_accepted_format_are_refused_by_name(content: bytes, name: str) -> None:
    error = refusal(content)
    assert error.code == "unsupported_format"
    assert f"got {name};" in str(error)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_cut_picture_is_corrupt(format: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8))
    content = encoded(noise, format)
    assert refusal(content[: int(part * len(content))]).code == "corrupt_media"


@pytest.mark.parametrize("size", [(12_000, 12_000), (40_000, 40_000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_of_a_huge_picture_is_refused_before_it_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("decoded"))
    assert refusal(png_with_size(*size)).code == "media_too_large"


def test_the_limit_of_pixels_is_exact() -> None:
    assert decode_image(encoded(Image.new("1", (5000, 5000)))).shape == SHAPE
    assert refusal(encoded(Image.new("1", (5000, 5001)))).code == "media_too_large"


def test_a_webp_that_declares_a_huge_canvas_is_refused_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b"\x00" * 4 + (16383).to_bytes(3, "little") * 2
    content = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + body
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("opened"))
    assert refusal(content).code == "media_too_large"


@pytest.mark.parametrize("lossless", [True, False])
def test_the_webp_header_gives_the_true_size(lossless: bool) -> None:
    content = encoded(picture(90, 60), "WEBP", lossless=lossless)
    assert decode._webp_canvas_px(content) == (90, 60)


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (1, 30_000), (321, 16)])
def test_a_picture_with_nothing_to_see_is_too_small(size: tuple[int, int]) -> None:
    error = refusal(encoded(Image.new("RGB", size)))
    assert error.code == "media_too_small"
    assert f"got {size[0]}x{size[1]}" in str(error)


def test_the_smallest_and_longest_accepted_pictures_decode() -> None:
    assert decode_image(encoded(Image.new("RGB", (16, 16)))).shape == SHAPE
    assert decode_image(encoded(Image.new("RGB", (320, 16)))).shape == SHAPE


def test_a_refusal_never_quotes_the_content() -> None:
    for content in (
        b"secret-token <svg",
        b"\xff\xd8\xffsecret-token",
        b"RIFF\x00\x00\x00\x00WEBPsecret-token",
    ):
        assert "secret" not in str(refusal(content))


CODES = {"unsupported_format", "corrupt_media", "media_too_large", "media_too_small"}


def outcome(content: bytes) -> str:
    try:
        return "decoded" if decode_image(content).shape == SHAPE else "misshapen"
    except ContentError as error:
        return error.code


SEEDS = [encoded(picture(40, 30), format) for format in ("JPEG", "PNG", "WEBP", "GIF")]


@settings(max_examples=150, deadline=None)
@given(seed=st.sampled_from(SEEDS), flips=st.lists(st.integers(0, 10**6), max_size=8), keep=st.floats(0, 1))
def test_damage_of_any_kind_gives_pixels_or_a_content_error(
    seed: bytes, flips: list[int], keep: float
) -> None:
    damaged = bytearray(seed[: max(int(keep * 2 * len(seed)), 4)])
    for flip in flips:
        damaged[flip // 8 % len(damaged)] ^= 1 << flip % 8
    assert outcome(bytes(damaged)) in {"decoded", *CODES}


@settings(max_examples=100, deadline=None)
@given(
    prefix=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a"]),
    rest=st.binary(max_size=300),
)
def test_random_bytes_are_refused_and_nothing_else(prefix: bytes, rest: bytes) -> None:
    assert outcome(prefix + rest) in CODES


# The encoder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as training starts with: enough for what holds of any weights."""
    torch.manual_seed(0)
    heads = {"category": ("tops", "shoes", OTHER), "colour": ("Red", "Blue", OTHER)}
    network = ImageNetwork({name: len(labels) for name, labels in heads.items()})
    path = tmp_path_factory.mktemp("weights") / "image.safetensors"
    config = config_of({n: Head(labels).to_config() for n, labels in heads.items()}, WIDTHS, {})
    checkpoint.save(path, network.state_dict(), config)
    return path


@pytest.fixture(scope="module")
def encoder(untrained: Path) -> ImageEncoder:
    return ImageEncoder(untrained)


def samples(count: int) -> list[np.ndarray]:
    return [decode_image(encoded(picture(seed=i), "JPEG")) for i in range(count)]


def test_a_picture_alone_and_in_a_batch_gives_the_same(encoder: ImageEncoder) -> None:
    batch = samples(70)
    together = encoder.encode(batch)
    assert together.embedding.shape == (70, EMBEDDING_DIM)
    assert together.embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together.embedding, axis=1), 1, atol=1e-5)
    for i in (0, 31, 32, 69):
        alone = encoder.encode(batch[i : i + 1])
        np.testing.assert_allclose(alone.embedding[0], together.embedding[i], atol=1e-4)
        for name, head in together.heads.items():
            assert alone.heads[name].labels == [head.labels[i]]
            np.testing.assert_allclose(alone.heads[name].scores[0], head.scores[i], atol=1e-4)


def test_an_empty_batch_gives_empty_answers(encoder: ImageEncoder) -> None:
    nothing = encoder.encode([])
    assert nothing.embedding.shape == (0, EMBEDDING_DIM)
    assert all(head.labels == [] and head.scores.shape == (0,) for head in nothing.heads.values())


def test_the_folded_network_is_the_trained_one() -> None:
    torch.manual_seed(1)
    network = ImageNetwork({"category": 3, "colour": 4}).train()
    pixels = torch.from_numpy(np.stack(samples(8)))
    network(pixels)  # moves the running moments away from 0 and 1
    with torch.inference_mode():
        plain, folded = network.eval()(pixels), network.folded()(pixels)
    torch.testing.assert_close(folded[0], plain[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(folded[1]["colour"], plain[1]["colour"], atol=1e-3, rtol=1e-3)


def test_the_fingerprint_names_the_weights(untrained: Path, encoder: ImageEncoder, tmp_path: Path) -> None:
    assert ImageEncoder(untrained).fingerprint == encoder.fingerprint
    state, config = checkpoint.load(untrained)
    checkpoint.save(tmp_path / "other.safetensors", state | {"stem.weight": state["stem.weight"] * 2}, config)
    assert ImageEncoder(tmp_path / "other.safetensors").fingerprint != encoder.fingerprint


def test_a_gpu_that_is_not_there_is_an_error(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="expected a CUDA GPU"):
        ImageEncoder(untrained, device="cuda")
    with pytest.raises(DeviceError, match="expected cpu or cuda, got 'tpu'"):
        ImageEncoder(untrained, device="tpu")


def test_a_sample_says_how_much_memory_it_takes(encoder: ImageEncoder) -> None:
    assert encoder.sample_bytes(encoder.decode(encoded(picture()))) == SIDE_PX * SIDE_PX * 3

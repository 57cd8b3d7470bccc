"""Untrusted picture bytes → RGB pixels of one fixed size, within fixed limits of memory and time."""

from __future__ import annotations

import hashlib
import io
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin

from models.encoder import ContentError
from models.file_format import sniff_format
from models.image.container import read_png, read_webp
from models.image.jpeg import Jpeg, read_jpeg
from models.image.orientation import orientation

SIDE_PX: Final = 64
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS: Final = 25_000_000
MAX_JPEG_PIXELS: Final = 200_000_000
"""A JPEG of more than MAX_PIXELS is decoded at 1/8 of its size, row by row: phones have 200 megapixels."""
MAX_JPEG_COEFFICIENTS: Final = 4 * MAX_PIXELS
"""Of a JPEG in several scans (progressive) all are held at once, in two bytes each, at any size."""
MIN_SIDE_PX: Final = 16
MAX_ASPECT: Final = 20
KEPT_ASPECT: Final = 4 / 3
"""A longer picture is cut to this, the shape of most that are trained on, instead of being squashed more."""
DECODER_VERSION: Final = 2
"""Part of the encoder's fingerprint: grows with every change of what the pixels become."""

_JPEG_END: Final = b"\xff\xd9"
_TAILS: Final = (bytes(8), b"\xaa" * 8)
"""libjpeg takes in eight bytes before it is done with the last pixels."""
_LONG_TAILS: Final = (b"", b"\xaa" * 1024, b"\x55" * 1024)
_SAME_LEVELS: Final = 2
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Second line behind the check of the declared size below: frames that grow while they load.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)


def decode_image(content: bytes, side_px: int = SIDE_PX) -> npt.NDArray[np.uint8]:
    """JPEG, PNG, WebP or GIF bytes → uint8 RGB ``[side_px, side_px, 3]``, upright, frame 0, over white.

    The middle, of KEPT_ASPECT at most, is stretched into the square: a longer picture loses its ends.
    Metadata (EXIF, GPS) ends here; but for the orientation nobody looks at it, whole or broken.

    Raises ContentError: ``unsupported_format``, ``media_too_large`` (more than MAX_PIXELS, a JPEG more
    than MAX_JPEG_PIXELS or MAX_JPEG_COEFFICIENTS), ``media_too_small`` (a side under MIN_SIDE_PX, or
    longer than MAX_ASPECT times the other) or ``corrupt_media``. Sizes are judged on the header, before
    any pixel is decoded.
    """
    found = sniff_format(content)
    if found not in FORMATS:
        raise ContentError(
            "unsupported_format",
            f"image: expected JPEG, PNG, WebP or GIF, got {found};"
            " convert it before sending, for example to JPEG",
        )
    try:
        if found == "JPEG":
            return _decode_jpeg(read_jpeg(content), side_px)
        return _decode_other(content, found, side_px)
    except ContentError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ContentError(
            "media_too_large",
            f"image: expected at most {MAX_PIXELS} pixels, got more; send a smaller picture",
        ) from None
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, …
        raise ContentError(
            "corrupt_media",
            f"image: expected a whole {found}, got one that does not decode ({type(error).__name__});"
            " send the whole file",
        ) from None


def _decode_other(content: bytes, found: str, side_px: int) -> npt.NDArray[np.uint8]:
    turned = 1
    if found != "GIF":
        if found == "WEBP":
            _check_size(*_webp_canvas_px(content))  # libwebp allocates the canvas while it opens
        chunks = read_png(content) if found == "PNG" else read_webp(content)
        content, turned = chunks.content, orientation(chunks.exif, chunks.xmp)
    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        _check_size(*picture.size)
        picture.load()
        return _upright_pixels(picture, side_px, turned)


def _decode_jpeg(jpeg: Jpeg, side_px: int) -> npt.NDArray[np.uint8]:
    _check_size(jpeg.width_px, jpeg.height_px, MAX_JPEG_PIXELS)
    if jpeg.coefficients > MAX_JPEG_COEFFICIENTS:
        raise ContentError(
            "media_too_large",
            f"image: expected at most {MAX_JPEG_COEFFICIENTS} samples in a JPEG of several scans,"
            f" got {jpeg.coefficients}; send it in one scan (baseline) or smaller",
        )
    turned = orientation(jpeg.exif, jpeg.xmp)
    # Without the mark of the end, pixels may be lost too, but not where it does not matter what follows.
    if jpeg.in_one_scan:  # read without that mark, or the decoder would fill up what is lost with grey
        first = _jpeg_pixels(jpeg.content + _TAILS[0], side_px, turned)
        second = first if jpeg.ended else _jpeg_pixels(jpeg.content + _TAILS[1], side_px, turned)
        whole = np.abs(first.astype(int) - second).max() <= _SAME_LEVELS
    else:
        first = _jpeg_pixels(jpeg.content + _JPEG_END, side_px, turned)
        if jpeg.ended:
            return first
        seen = {_all_pixels(jpeg.content + tail + _JPEG_END) for tail in _LONG_TAILS if jpeg.has_all_scans}
        whole = len(seen) == 1
    if not whole:
        raise ContentError(
            "corrupt_media",
            "image: expected a whole JPEG, got one whose last pixels are cut; send the whole file",
        )
    return first


def _jpeg_pixels(content: bytes, side_px: int, turned: int) -> npt.NDArray[np.uint8]:
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as picture:
        _check_size(*picture.size, MAX_JPEG_PIXELS)
        picture.draft(None, (2 * side_px, 2 * side_px))  # decode at 1/2, 1/4 or 1/8
        _check_size(*picture.size)
        picture.load()
        return _upright_pixels(picture, side_px, turned)


def _all_pixels(content: bytes) -> bytes:
    """Hash of the pixels at full size, or at half of it where they are too many."""
    with JpegImagePlugin.JpegImageFile(io.BytesIO(content)) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            picture.draft(None, (picture.width // 2, picture.height // 2))
        _check_size(*picture.size)
        picture.load()
        return hashlib.sha256(picture.tobytes()).digest()


def _check_size(width_px: int, height_px: int, most: int = MAX_PIXELS) -> None:
    short, long = sorted((width_px, height_px))
    if short * long > most:
        raise ContentError(
            "media_too_large",
            f"image: expected at most {most} pixels, got {width_px}x{height_px}; send a smaller picture",
        )
    if short < MIN_SIDE_PX or long > MAX_ASPECT * short:
        raise ContentError(
            "media_too_small",
            f"image: expected sides of at least {MIN_SIDE_PX} px and at most {MAX_ASPECT}:1,"
            f" got {width_px}x{height_px}; there is too little to see in it",
        )


def _webp_canvas_px(content: bytes) -> tuple[int, int]:
    """Width and height that a WebP header declares (RFC 9649 §2.5–2.7)."""
    kind, body = content[12:16], content[20:30]
    if kind == b"VP8X" and len(body) == 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) == 10:
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise ContentError("corrupt_media", "image: expected a WebP image chunk after the RIFF header, got none")


def _upright_pixels(picture: Image.Image, side_px: int, turned: int) -> npt.NDArray[np.uint8]:
    small = _to_rgb(picture).resize((side_px, side_px), Image.Resampling.BILINEAR, _middle(*picture.size))
    turn = _UPRIGHT.get(turned)
    return np.array(small if turn is None else small.transpose(turn), dtype=np.uint8)


def _middle(width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is kept."""
    left = max(width_px - height_px * KEPT_ASPECT, 0) / 2
    top = max(height_px - width_px * KEPT_ASPECT, 0) / 2
    return left, top, width_px - left, height_px - top


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # convert() clips 16-bit grey to 14 levels; 65535 / 257 = 255 exactly
        deep = np.asarray(picture).astype(np.float32) / 257.0
        picture = Image.fromarray(np.clip(deep + 0.5, 0, 255).astype(np.uint8))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return paper.convert("RGB")
    return picture.convert("RGB")

"""Untrusted picture bytes → RGB pixels of one fixed size, within fixed limits of memory and time."""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.encoder import ContentError
from models.file_format import sniff_format

SIDE_PX: Final = 64
FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS: Final = 25_000_000
MIN_SIDE_PX: Final = 16
MAX_ASPECT: Final = 20
KEPT_ASPECT: Final = 4 / 3
"""A longer picture is cut to this, the shape of most that are trained on, instead of being squashed more."""
DECODER_VERSION: Final = 2
"""Part of the encoder's fingerprint: grows with every change of what the pixels become."""

_ORIENTATION_TAG: Final = 0x0112  # EXIF 2.3, table 4
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
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # see _orientation


def decode_image(content: bytes, side_px: int = SIDE_PX) -> npt.NDArray[np.uint8]:
    """JPEG, PNG, WebP or GIF bytes → uint8 RGB ``[side_px, side_px, 3]``, upright, frame 0, over white.

    The middle, of KEPT_ASPECT at most, is stretched into the square: a longer picture loses its ends.
    Metadata (EXIF, GPS) ends here.

    Raises ContentError: ``unsupported_format``, ``media_too_large`` (more than MAX_PIXELS),
    ``media_too_small`` (a side under MIN_SIDE_PX, or longer than MAX_ASPECT times the other) or
    ``corrupt_media``. Sizes are judged on the header, before any pixel is decoded.
    """
    found = sniff_format(content)
    if found not in FORMATS:
        raise ContentError(
            "unsupported_format",
            f"image: expected JPEG, PNG, WebP or GIF, got {found}; convert it before sending",
        )
    if found == "WEBP":
        _check_size(*_webp_canvas_px(content))  # libwebp allocates the canvas while it opens
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            _check_size(*picture.size)
            picture.draft(None, (2 * side_px, 2 * side_px))  # JPEG: decode at 1/2, 1/4 or 1/8
            picture.load()
            return _upright_pixels(picture, side_px)
    except ContentError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ContentError(
            "media_too_large", f"image: expected at most {MAX_PIXELS} pixels, got more"
        ) from None
    except Exception as error:  # Pillow raises OSError, ValueError, SyntaxError, struct.error, …
        raise ContentError(
            "corrupt_media",
            f"image: expected a whole {found}, got one that does not decode ({type(error).__name__})",
        ) from None


def _check_size(width_px: int, height_px: int) -> None:
    short, long = sorted((width_px, height_px))
    if short * long > MAX_PIXELS:
        raise ContentError(
            "media_too_large", f"image: expected at most {MAX_PIXELS} pixels, got {width_px}x{height_px}"
        )
    if short < MIN_SIDE_PX or long > MAX_ASPECT * short:
        raise ContentError(
            "media_too_small",
            f"image: expected sides of at least {MIN_SIDE_PX} px and at most {MAX_ASPECT}:1,"
            f" got {width_px}x{height_px}",
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


def _upright_pixels(picture: Image.Image, side_px: int) -> npt.NDArray[np.uint8]:
    small = _to_rgb(picture).resize((side_px, side_px), Image.Resampling.BILINEAR, _middle(*picture.size))
    turn = _UPRIGHT.get(_orientation(picture))
    return np.array(small if turn is None else small.transpose(turn), dtype=np.uint8)


def _middle(width_px: int, height_px: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what is kept."""
    left = max(width_px - height_px * KEPT_ASPECT, 0) / 2
    top = max(height_px - width_px * KEPT_ASPECT, 0) / 2
    return left, top, width_px - left, height_px - top


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation 1–8; a block that cannot be read counts as upright, the photo itself is fine."""
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
        return value if isinstance(value, int) else 1
    except Exception:
        return 1


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

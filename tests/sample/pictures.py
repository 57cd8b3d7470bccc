"""Which drawing stands for which category, and how a picture becomes bytes."""

from __future__ import annotations

import io
import random

from PIL import Image

from tests.sample import bags, care, clothes, groceries, innerwear, shoes

DRAWINGS = {
    "tops": clothes.top,
    "bottoms": clothes.bottom,
    "dresses": clothes.dress,
    "shoes": shoes.shoe,
    "bags_accessories": bags.bag,
    "innerwear": innerwear.innerwear,
    "personal_care": care.care,
    "fruit": groceries.fruit,
    "dairy": groceries.dairy,
}


def picture(category: str, rng: random.Random) -> Image.Image:
    """A new picture of something of the category."""
    return DRAWINGS[category](rng)


def jpeg(drawn: Image.Image) -> bytes:
    """JPEG bytes of quality 90."""
    return _encoded(drawn, "JPEG", quality=90)


def encoded(drawn: Image.Image, rng: random.Random) -> tuple[bytes, str]:
    """Bytes and media type: mostly JPEG, now and then PNG or WebP."""
    draw = rng.random()
    if draw < 0.8:
        return jpeg(drawn), "image/jpeg"
    if draw < 0.9:
        return _encoded(drawn, "PNG"), "image/png"
    return _encoded(drawn, "WEBP", quality=90), "image/webp"


def _encoded(drawn: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    drawn.save(file, kind, **options)
    return file.getvalue()

"""Contents that every working encoder of a modality takes: one that fails on its probe is broken.

An encoder that fails on a content fails either because of the content or because of itself (out of memory, a
lost GPU, damaged weights, a bug). The probe tells the two apart.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import numpy as np
from PIL import Image

from models.encoder import Encoder, TextContent

_RATE_HZ: Final = 16_000


def encoder_fault(encoder: Encoder) -> Exception | None:
    """What a broken encoder raises on its probe; None for one that works, whatever failed before.

    Embeddings that are not finite count as a fault. A modality without a probe counts as working.
    """
    make = _PROBES.get(encoder.modality)
    if make is None:
        return None
    try:
        encoded = encoder.encode([encoder.decode(make())])
        if not np.isfinite(encoded.embedding).all():
            return FloatingPointError("embedding is not finite")
    except Exception as error:
        return error
    return None


def _text() -> TextContent:
    return TextContent("很好 good")


@cache
def _image() -> bytes:
    """A PNG of 64 x 64 px: a bright disc on a dark ground."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    pixels = np.where((x**2 + y**2 < 0.5)[..., None], (230, 120, 40), (20, 30, 40)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@cache
def _voice() -> bytes:
    """A WAV of 0.8 s: a sung vowel, harmonics of 140 Hz that swell and fade."""
    t = np.arange(int(0.8 * _RATE_HZ)) / _RATE_HZ
    tone = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 12))
    samples = 0.3 * tone * np.sin(np.pi * t / 0.8) ** 2
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(_RATE_HZ)
        out.writeframes((samples / np.abs(samples).max() * 16_000).astype("<i2").tobytes())
    return file.getvalue()


_PROBES: Final[Mapping[str, Callable[[], Any]]] = {"text": _text, "image": _image, "voice": _voice}

"""Which encoder serves which modality, and how a settings file's words become loaded models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from features.taxonomy import Taxonomy
from models import checkpoint
from models.device import require_device
from models.encoder import Encoder

PathLike = str | Path | None


def _text(weights: Path, device: str, **_: Any) -> Encoder:
    from models.text.encoder import TextEncoder

    return TextEncoder(weights, device)


def _image(weights: Path, device: str, **_: Any) -> Encoder:
    from models.image.encoder import ImageEncoder

    return ImageEncoder(weights, device)


def _voice(
    weights: Path,
    device: str,
    words: Mapping[str, str] | None = None,
    taxonomy: Taxonomy | None = None,
    emotion: bool = False,
) -> Encoder:
    from models.voice.encoder import VoiceEncoder

    return VoiceEncoder(weights, device, words=words, taxonomy=taxonomy, emotion=emotion)


LOADERS: Final[Mapping[str, Callable[..., Encoder]]] = {"text": _text, "image": _image, "voice": _voice}
"""Modality → what loads its encoder; each imports its model only when asked."""


def architectures() -> dict[str, tuple[str, ...]]:
    """Modality → the architectures that a checkpoint of it may name."""
    from models.image.encoder import ARCHITECTURES as IMAGE
    from models.text.encoder import READERS
    from models.voice.encoder import ARCHITECTURES as VOICE

    return {"text": tuple(READERS), "image": tuple(IMAGE), "voice": tuple(VOICE)}


def load_encoder(
    modality: str,
    weights: PathLike = None,
    device: str = "auto",
    words: Mapping[str, str] | None = None,
    taxonomy: Taxonomy | None = None,
    emotion: bool = False,
) -> Encoder:
    """One modality's encoder; the shipped weights where ``weights`` is None.

    ``emotion`` reports the emotion head of voice weights that were trained with one.

    Raises KeyError for an unknown modality, CheckpointError and DeviceError as the encoders do.
    """
    path = Path(weights) if weights else checkpoint.WEIGHTS_DIR / f"{modality}.safetensors"
    return LOADERS[modality](path, resolve_device(device), words=words, taxonomy=taxonomy, emotion=emotion)


def load_encoders(
    device: str = "auto",
    text: PathLike = None,
    image: PathLike = None,
    voice: PathLike = None,
    words: Mapping[str, str] | None = None,
    threads: int | None = None,
    taxonomy: Taxonomy | None = None,
    emotion: bool = False,
) -> dict[str, Encoder]:
    """Modality → encoder. ``threads`` sets torch's CPU threads for the whole process.

    ``words`` maps spoken words to category ids of ``taxonomy`` (the shipped one by default).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    weights = {"text": text, "image": image, "voice": voice}
    return {m: load_encoder(m, weights[m], device, words, taxonomy, emotion) for m in LOADERS}


def resolve_device(device: str) -> str:
    """``auto`` → what is there: ``cuda`` or ``cpu``; anything else as asked, or DeviceError."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return require_device(device)

"""One file per model: fp16 weights in safetensors, with everything needed to use them in its metadata.

The metadata holds one JSON document, the *config*. Keys every encoder uses:

===============  ==================================================================================
``architecture``  what the weights are of, e.g. ``text-bag`` (checked on load)
``version``       integer, version of that architecture's layout
``preprocessing`` version of the code before the model; part of the fingerprint
``space``         :data:`models.space.SPACE_VERSION`
``heads``         name → ``{"labels": [...], "temperature": t, "threshold": p}`` (see models/heads.py)
``figures``       what was measured on the untouched test split; not part of the fingerprint
``folder_path``   folder of a frozen model, seen from the weights (models/pretrained.py); not part of it
===============  ==================================================================================

Beside ``x.safetensors`` lies ``x.safetensors.sha256`` (the format of ``sha256sum``), checked on load.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from features.errors import PortraitError

WEIGHTS_DIR: Final = Path(__file__).with_name("weights")
"""Where the shipped weights lie: ``text``, ``image``, ``voice`` and ``fusion`` ``.safetensors``."""

_KEY: Final = "portrait"  # the only metadata key: with one key the file's bytes are reproducible

_T = TypeVar("_T")

Weights = dict[str, torch.Tensor]
Config = dict[str, Any]


class CheckpointError(PortraitError, ValueError):
    """Weights that cannot be used; the message says which file, what was expected and what to do."""


class MissingWeightsError(CheckpointError):
    """There is no file at the path."""


class WrongHashError(CheckpointError):
    """The file is not the one that was asked for, or was changed after it was written."""


class NotSafetensorsError(CheckpointError):
    """The file is damaged, of another format, or was not written by :func:`save`."""


class WrongArchitectureError(CheckpointError):
    """The weights are of another model than the one that loads them."""


class WrongPreprocessingError(CheckpointError):
    """The weights were trained on what other code made of the content."""


def save(path: str | Path, state_dict: Mapping[str, torch.Tensor], config: Config) -> str:
    """Write weights (floats as fp16, others as they are) and config in one step; returns the file's sha256.

    Equal input gives equal bytes. Raises CheckpointError where a weight is not finite in fp16.
    """
    path = Path(path)
    half = {name: _half(path, name, tensor) for name, tensor in sorted(state_dict.items())}
    data = to_bytes(half, metadata={_KEY: _canonical(config)})
    digest = hashlib.sha256(data).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, data)
    _write(_digest_path(path), f"{digest}  {path.name}\n".encode())
    return digest


def load(
    path: str | Path,
    expected_sha256: str | None = None,
    architecture: str | None = None,
    preprocessing: int | str | None = None,
) -> tuple[Weights, Config]:
    """Read weights (as stored: fp16, on the CPU) and config.

    ``expected_sha256`` (hex) wins over the ``.sha256`` file beside the weights. ``architecture`` is a
    prefix that the config's must have, e.g. ``text-``; ``preprocessing`` is the version of the code before
    the model, which must be the one that the weights were trained behind.

    Raises MissingWeightsError, WrongHashError, NotSafetensorsError, WrongArchitectureError,
    WrongPreprocessingError.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(
            f"{path}: expected a weights file, got none; check the path or run `portrait train`"
        )
    _check_digest(path, expected_sha256)
    weights: Weights = {}
    try:
        with safe_open(str(path), framework="pt") as file:
            config = json.loads((file.metadata() or {})[_KEY])
            for name in sorted(file.keys()):
                weights[name] = file.get_tensor(name)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        got = "no config in it" if isinstance(error, KeyError) else "a file that cannot be read as such"
        raise NotSafetensorsError(
            f"{path}: expected safetensors written by `portrait train`, got {got}; fetch or train it again"
        ) from error
    got = str(config.get("architecture"))
    if architecture is not None and not got.startswith(architecture):
        raise WrongArchitectureError(
            f"{path}: expected weights of {architecture!r}, got {got!r}; name the file of the right model"
        )
    trained = config.get("preprocessing")
    if preprocessing is not None and trained != preprocessing:
        raise WrongPreprocessingError(
            f"{path}: expected weights trained behind preprocessing {preprocessing!r}, got {trained!r}: the "
            "same content would get other vectors; run `portrait train`, or take the Portrait of the weights"
        )
    return weights, config


def choose(architectures: Mapping[str, _T], path: str | Path, config: Config) -> _T:
    """What builds the network that a config names. Raises WrongArchitectureError for an unknown one."""
    name = str(config.get("architecture"))
    if name not in architectures:
        raise WrongArchitectureError(
            f"{path}: expected weights of one of {sorted(architectures)}, got {name!r}; name another file"
        )
    return architectures[name]


def full_precision(weights: Weights) -> Weights:
    """The weights as float32, for a network that computes in it; integer tensors stay."""
    return {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}


def fingerprint(weights: Mapping[str, torch.Tensor], config: Config) -> str:
    """Hex sha256 over the weights' names, shapes and fp16 bytes and all of the config but ``figures`` and
    ``folder_path``.

    ``config["preprocessing"]`` is thereby part of it. Weights in fp32 and their fp16 copy agree.
    """
    told = {k: v for k, v in config.items() if k not in ("figures", "folder_path")}
    digest = hashlib.sha256(_canonical(told).encode())
    for name, tensor in sorted(weights.items()):
        half = _half(Path("fingerprint"), name, tensor)
        digest.update(f"\0{name}\0{half.dtype}\0{tuple(half.shape)}\0".encode())
        digest.update(half.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _half(path: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().to("cpu")
    if not tensor.is_floating_point():
        return tensor.contiguous()
    half = tensor.to(torch.float16).contiguous()
    if not bool(torch.isfinite(half).all()):
        raise CheckpointError(
            f"{path}: {name}: expected numbers that fp16 can hold, got others; scale the weights"
        )
    return half


def _check_digest(path: Path, expected: str | None) -> None:
    beside = _digest_path(path)
    if expected is None and beside.is_file():
        expected = (beside.read_text(encoding="ascii", errors="replace").split() or [""])[0]
    if expected is None:
        return
    with path.open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != expected.lower():
        raise WrongHashError(
            f"{path}: expected sha256 {expected}, got {got}; fetch or train the weights again"
        )


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _canonical(config: Config) -> str:
    return json.dumps(config, ensure_ascii=False, sort_keys=True, allow_nan=False)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)

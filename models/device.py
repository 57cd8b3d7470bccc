"""Where a model runs: what was asked for, or an error that says why not."""

from __future__ import annotations

import torch

from features.errors import UsageError


class DeviceError(UsageError):
    """A device that cannot be used; the message names it and what is there."""


def require_device(device: str) -> str:
    """``cpu`` or ``cuda`` as asked.

    Raises DeviceError for any other name, and for ``cuda`` where torch sees no GPU: a job that was
    promised a GPU must not run on without one.
    """
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"device: expected cpu or cuda, got {device!r}; change device in the settings")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device: expected a CUDA GPU, got none that torch sees; set device to cpu or auto")
    return device


def trains_in_bf16(device: str) -> bool:
    """Whether training in bf16 is the faster: on a GPU, and on processors with instructions for it."""
    return device == "cuda" or bool(torch.cpu.get_capabilities().get("avx512_bf16", False))

"""Other runtimes in the place of an encoder's network: torch.compile and onnxruntime, both on one thread.

``encode`` stays as it is: hashing, log-mels, batches and verdicts are the encoder's own; only the method of
its network that it calls (:data:`METHODS`) is computed by another runtime.
"""

from __future__ import annotations

import importlib
import io
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from models.encoder import Encoder

METHODS: Final = {"text": "forward", "image": "forward", "voice": "features"}
"""Modality → what ``encode`` calls of its network."""
TOLERANCE: Final = 1e-3
"""How far a runtime's outputs may be from eager torch's on the same inputs."""

Call = Callable[..., Any]
Given = tuple[Tensor, ...]


class UnavailableError(RuntimeError):
    """A runtime that this machine lacks; the message names what to install."""


@dataclass(frozen=True)
class Slot:
    """The place of an encoder's network."""

    encoder: Encoder

    @property
    def network(self) -> nn.Module:
        network: nn.Module = self.encoder._network  # type: ignore[attr-defined]
        return network

    @property
    def method(self) -> str:
        return METHODS[self.encoder.modality]

    @property
    def shipped(self) -> Call:
        call: Call = getattr(self.network, self.method)
        return call

    def filled(self, call: Call) -> AbstractContextManager[Any]:
        """While it is entered, ``encode`` takes ``call`` for its network."""
        return patch.object(self.network, self.method, call)

    def calls(self, encode: Callable[[], None]) -> list[Given]:
        """What ``encode`` gives its network."""
        seen: list[Given] = []
        shipped = self.shipped

        def noted(*given: Tensor) -> Any:
            seen.append(given)
            return shipped(*given)

        with self.filled(noted):
            encode()
        return seen


@dataclass(frozen=True)
class Runtime:
    """Something that computes what a network's method computes, and what is to be told of it."""

    call: Call
    told: dict[str, Any] = field(default_factory=dict)


def eager(slot: Slot, encode: Callable[[], None]) -> Runtime:
    """torch as shipped."""
    return Runtime(slot.shipped)


def compiled(slot: Slot, encode: Callable[[], None]) -> Runtime:
    """torch.compile with inductor; it compiles while ``encode`` first meets each kind of shape."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise UnavailableError(f"torch.compile needs {compiler}, which is absent; apt-get install g++")
    torch._dynamo.reset()
    counters.clear()
    call = torch.compile(slot.shipped)
    with slot.filled(call):
        first_s, again_s = _seconds(encode), _seconds(encode)
    breaks = sum(counters["graph_break"].values())
    return Runtime(call, {"prepare_s": round(first_s - again_s, 1), "graph_breaks": breaks})


def exported(slot: Slot, encode: Callable[[], None]) -> Runtime:
    """onnxruntime over an export in which the batch, and what else varies between calls, is dynamic."""
    try:
        ort = importlib.import_module("onnxruntime")
        importlib.import_module("onnxscript")
    except ImportError as error:
        raise UnavailableError(
            f"{error.name} is not installed; .venv/bin/uv pip install onnx onnxruntime onnxscript"
        ) from None
    calls = slot.calls(encode)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        told = _export(slot, calls, Path(folder) / "network.onnx")
        session = ort.InferenceSession(
            str(Path(folder) / "network.onnx"), options, providers=["CPUExecutionProvider"]
        )
    told |= {"prepare_s": round(time.perf_counter() - began_s, 1)}
    names = [each.name for each in session.get_inputs()]
    with torch.inference_mode():
        sample = slot.shipped(*calls[0])

    def call(*given: Tensor) -> Any:
        feed = {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)}
        first, *rest = map(torch.from_numpy, session.run(None, feed))
        return first if isinstance(sample, Tensor) else (first, dict(zip(sample[1], rest, strict=True)))

    return Runtime(call, told)


RUNTIMES: Final[dict[str, Callable[[Slot, Callable[[], None]], Runtime]]] = {
    "eager": eager,
    "torch.compile": compiled,
    "onnxruntime": exported,
}


def difference(slot: Slot, runtime: Runtime, calls: Sequence[Given]) -> float:
    """The largest difference of any output from eager torch's, over these calls."""
    pairs = [(_flat(runtime.call(*given)), _flat(slot.shipped(*given))) for given in calls]
    return max(
        float((a - b).abs().max()) for found, wanted in pairs for a, b in zip(found, wanted, strict=True)
    )


def reason(error: BaseException) -> str:
    """Type and one line of what failed first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


class _Flat(nn.Module):
    """A network's method with a tuple of tensors as output, as exporters want it."""

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self.network, self.method = slot.network, slot.method

    def forward(self, *given: Tensor) -> Given:
        return tuple(_flat(getattr(self.network, self.method)(*given)))


def _flat(result: Any) -> list[Tensor]:
    """Features, or embedding and logits by head, in a row."""
    return [result] if isinstance(result, Tensor) else [result[0], *result[1].values()]


def _export(slot: Slot, calls: Sequence[Given], file: Path) -> dict[str, Any]:
    """Write the file with torch's exporter, or with the older one where that fails."""
    sample = tuple(tensor.clone() for tensor in max(calls, key=lambda given: len(given[0])))
    free = [
        [d for d in range(tensor.dim()) if d == 0 or len({given[i].shape[d] for given in calls}) > 1]
        for i, tensor in enumerate(sample)
    ]
    names = [f"given_{i}" for i in range(len(sample))]
    shapes = tuple(dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for dims in free)
    axes = {name: {d: f"{name}_{d}" for d in dims} for name, dims in zip(names, free, strict=True)}
    told: dict[str, Any] = {"exporter": "torch.export"}
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        module = _Flat(slot).eval()
        try:
            torch.onnx.export(
                module, sample, file, dynamo=True, dynamic_shapes={"given": shapes}, verbose=False
            )
        except Exception as error:
            told = {"exporter": "TorchScript", "torch_export_failed": reason(error)}
            torch.onnx.export(
                module, sample, file, dynamo=False, input_names=names, dynamic_axes=axes, verbose=False
            )
    return told


def _seconds(run: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    run()
    return time.perf_counter() - began_s

"""Models of other makers from a folder of this machine, in the format of Hugging Face.

Frozen: only the projection into the shared space and the heads are trained here, and only they are in the
checkpoint, beside the folder's place and the sha256 of what lies in it. Weights are read from safetensors,
no code of the folder runs, nothing is fetched. Needs the extra ``hf`` (transformers).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoint import CheckpointError, WrongHashError

_READ: Final = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Files that decide what a model says: configuration, weights, tokenizer."""


class FolderError(CheckpointError):
    """A folder whose model cannot be used; the message names the file and what to do."""


class LocalFolder:
    """A folder that holds a model, checked before anything of it is loaded.

    Raises FolderError for a folder without a configuration or safetensors, or one that wants to run code.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = self.read("config.json")
        if "auto_map" in self.config:
            raise FolderError(
                f"{path}: expected a model of transformers itself, got one with code of its own"
            )
        if not any(path.glob("*.safetensors")):
            raise FolderError(
                f"{path}: expected weights as safetensors, got none; convert them with save_pretrained"
            )

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(
                f"{self.path / name}: expected JSON, got {type(error).__name__}; "
                "name a folder that save_pretrained wrote"
            ) from error
        if not isinstance(found, dict):
            raise FolderError(f"{self.path / name}: expected an object, got {type(found).__name__}")
        return found

    def sha256(self) -> str:
        """Hex sha256 over names and content of what decides what the model says."""
        digest = hashlib.sha256()
        for file in sorted({f for pattern in _READ for f in self.path.glob(pattern)}):
            with file.open("rb") as opened:
                digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def to_config(self, near: Path) -> dict[str, str]:
        """Keys of a checkpoint's config; the path counts from ``near``, the folder of the weights."""
        path = Path(os.path.relpath(self.path.resolve(), near.resolve()))
        return {"folder_path": path.as_posix(), "folder_sha256": self.sha256()}


def folder_of(config: Mapping[str, Any], near: Path) -> LocalFolder:
    """The folder that a checkpoint names. Raises FolderError, WrongHashError for other content."""
    path = near / str(config["folder_path"])
    if not path.is_dir():
        raise FolderError(
            f"{path}: expected the folder of the model that the weights were trained on, got none; "
            "put it there or train again"
        )
    folder = LocalFolder(path)
    if (got := folder.sha256()) != config["folder_sha256"]:
        raise WrongHashError(
            f"{path}: expected content of sha256 {config['folder_sha256']}, got {got}; train again on it"
        )
    return folder


class Frozen:
    """A model that is used but neither trained nor stored: copies of a network share it."""

    def __init__(self, folder: LocalFolder, part: str = "") -> None:
        transformers = load_transformers()
        try:
            model: nn.Module = transformers.AutoModel.from_pretrained(
                folder.path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
            )
        except Exception as error:  # whatever a library raises on files of others
            raise FolderError(
                f"{folder.path}: expected a model that transformers loads, got {type(error).__name__}; "
                "check the folder"
            ) from error
        if folder.config.get("is_encoder_decoder"):
            model = getattr(model, "encoder", model)
        self._model: nn.Module = getattr(model, part, model).eval().requires_grad_(False)
        sizes: Any = self._model.config
        width = getattr(sizes, "hidden_size", None) or getattr(sizes, "d_model", None)
        self.width = int(width or sizes.hidden_sizes[-1])

    def to(self, device: str) -> Self:
        """Move the model."""
        self._model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self._model.parameters()).device

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """→ last states: [n, steps, width], or [n, width, high, wide]."""
        with torch.inference_mode():
            states: Tensor = self._model(
                **{k: v.to(self.device) for k, v in inputs.items()}
            ).last_hidden_state
        return states

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def pool(states: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of a model's states (of those in ``mask`` [n, steps]), each vector of mean 0 and variance 1."""
    if states.dim() == 4:
        states = states.flatten(2).transpose(1, 2)
    if mask is None:
        mean = states.mean(1)
    else:
        kept = mask[:, :, None].to(states)
        mean = (states * kept).sum(1) / kept.sum(1)
    return F.layer_norm(mean.float(), mean.shape[1:])


def load_transformers() -> Any:
    """The library, imported only where it is needed. Raises FolderError where it is not installed."""
    try:
        transformers: Any = import_module("transformers")  # by name: its types differ with its presence
    except ImportError as error:
        raise FolderError(
            "local model folder: expected the package transformers, got none; "
            "pip install 'portrait-profiles[hf]'"
        ) from error
    transformers.utils.logging.disable_progress_bar()
    return transformers


def folder_side_px(folder: LocalFolder) -> int:
    """Side of the square pictures that a vision model takes. Raises FolderError."""
    said = folder.read("preprocessor_config.json")
    size = said.get("crop_size") or said.get("size") or folder.config.get("image_size")
    if isinstance(size, Mapping):
        sides = {size[k] for k in ("height", "width", "shortest_edge") if k in size}
        size = sides.pop() if len(sides) == 1 else None
    if not isinstance(size, int) or not 16 <= size <= 1024:
        raise FolderError(
            f"{folder.path}: preprocessor_config.json: expected one side of 16 to 1024 px, got {size!r}; "
            "give the model square pictures"
        )
    return size

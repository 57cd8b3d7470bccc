"""Photos: an encoder of square pictures into the shared space, with named heads.

==================  =================================================================================
``image-resnet``    residual network of 64 or 96 px pictures (:mod:`models.image.resnet`)
``image-hf``        frozen vision model of a local folder (:mod:`models.image.pretrained`)
==================  =================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from models import checkpoint, space
from models.device import require_device
from models.encoder import Encoded
from models.heads import Head, heads_from_config
from models.image.decode import DECODER_VERSION, SIDE_PX, decode_image
from models.image.network import CHUNK, ImageNetwork
from models.image.resnet import ResNet

Config = dict[str, Any]
HeadSizes = Mapping[str, int]


def _resnet(config: Config, head_sizes: HeadSizes, near: Path) -> ImageNetwork:
    return ResNet(head_sizes, config["widths"], config.get("side_px", SIDE_PX))


def _folder(config: Config, head_sizes: HeadSizes, near: Path) -> ImageNetwork:
    from models.image.pretrained import FolderImageNetwork
    from models.pretrained import folder_of

    return FolderImageNetwork(head_sizes, folder_of(config, near))


ARCHITECTURES: Final[Mapping[str, Callable[[Config, HeadSizes, Path], ImageNetwork]]] = {
    "image-resnet": _resnet,
    "image-hf": _folder,
}
"""Architecture → what builds its empty network from a config; ``near`` is the folder of the weights."""


def network_of(config: Config, near: Path = checkpoint.WEIGHTS_DIR) -> ImageNetwork:
    """An empty network of a checkpoint's shape; ``near`` is the folder that its paths count from."""
    sizes = {name: len(head["labels"]) for name, head in config["heads"].items()}
    return ARCHITECTURES[config["architecture"]](config, sizes, near)


def load_network(weights: str | Path, sha256: str | None = None) -> tuple[ImageNetwork, Config, str]:
    """The network of a checkpoint, its config and its fingerprint. Raises CheckpointError."""
    state, config = checkpoint.load(weights, sha256, "image-", DECODER_VERSION)
    checkpoint.choose(ARCHITECTURES, weights, config)
    network = network_of(config, Path(weights).parent)
    network.load_state_dict(checkpoint.full_precision(state))
    return network, config, checkpoint.fingerprint(state, config)


class ImageEncoder:
    """Photos as they come (JPEG, PNG, WebP, GIF bytes) → :class:`models.encoder.Encoded`.

    The embedding is always of unit length; where the head ``category`` says ``other`` it is near no
    category and means nothing. Raises CheckpointError for weights that cannot be used and DeviceError
    for a device that is not there.
    """

    modality = "image"

    def __init__(
        self,
        weights: str | Path = checkpoint.WEIGHTS_DIR / "image.safetensors",
        device: str = "cpu",
        sha256: str | None = None,
    ) -> None:
        self.device = require_device(device)
        network, self.config, self.fingerprint = load_network(weights, sha256)
        self.heads = heads_from_config(self.config)
        self.side_px = int(self.config.get("side_px", SIDE_PX))
        self._network = network.folded().to(self.device)
        if network.frozen is not None:
            network.frozen.to(self.device)

    def decode(self, content: Any) -> npt.NDArray[np.uint8]:
        """Bytes → uint8 RGB ``[side_px, side_px, 3]``; see :func:`models.image.decode.decode_image`."""
        return decode_image(content, self.side_px)

    def sample_bytes(self, sample: Any) -> int:
        """Bytes of one decoded picture: 12,288 at 64 px."""
        return int(sample.nbytes)

    def encode(self, samples: Sequence[npt.NDArray[np.uint8]]) -> Encoded:
        """uint8 pictures of ``decode`` → embedding and heads, in their order; n may be 0."""
        with self._inference():
            parts = [self._network(chunk) for chunk in self._chunks(samples)]
        embedding = torch.cat([e for e, _ in parts]).cpu().numpy()
        logits = {name: torch.cat([heads[name] for _, heads in parts]).cpu().numpy() for name in self.heads}
        return Encoded(
            embedding,
            {name: head.judge(logits[name]) for name, head in self.heads.items()},
            lang=["none"] * len(samples),
        )

    def features(self, samples: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
        """[n, width] what the network sees in pictures before it places them."""
        with self._inference():
            parts = [self._network.features(chunk) for chunk in self._chunks(samples)]
        return torch.cat(parts).float().cpu().numpy()

    def _chunks(self, samples: Sequence[npt.NDArray[np.uint8]]) -> Sequence[torch.Tensor]:
        side = self.side_px
        pixels = torch.from_numpy(np.stack(samples) if samples else np.zeros((0, side, side, 3), np.uint8))
        return torch.split(pixels, CHUNK) if self.device == "cpu" else (pixels.to(self.device),)

    @contextmanager
    def _inference(self) -> Iterator[None]:
        with (
            torch.inference_mode(),
            torch.autocast(self.device, torch.float16, enabled=self.device == "cuda"),
        ):
            yield


def config_of(
    heads: Mapping[str, Head | Mapping[str, Any]],
    widths: Sequence[int],
    figures: Mapping[str, Any],
    side_px: int = SIDE_PX,
    architecture: str = "image-resnet",
) -> Config:
    """The checkpoint's config; see :mod:`models.checkpoint`."""
    return {
        "architecture": architecture,
        "version": 1,
        "preprocessing": DECODER_VERSION,
        "space": space.SPACE_VERSION,
        "side_px": side_px,
        "widths": list(widths),
        "heads": {n: h.to_config() if isinstance(h, Head) else dict(h) for n, h in heads.items()},
        "figures": dict(figures),
    }

"""An encoder of every architecture with random weights, small enough for unit tests."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import checkpoint
from models.encoder import OTHER
from models.heads import Head
from models.image import encoder as image
from models.pretrained import LocalFolder
from models.text import encoder as text
from models.voice import encoder as voice

CATEGORY = Head(("tops", "shoes", "food", OTHER), 1.2, 0.3).to_config()
TEXT_HEADS = {
    "category": CATEGORY,
    "en_cat": Head(("a", "b")).to_config(),
    "sentiment": Head(("negative", "positive")).to_config(),
}
COLUMNS = {"latin": [("en_cat", "a"), ("en_cat", "b")], "han": [("category", "tops")]}
READERS: dict[str, dict[str, Any]] = {
    "text-bigru": {"cell": "gru", "buckets": 512, "dim": 8, "hidden": 8, "limit": 64},
    "text-lstm": {"cell": "lstm", "buckets": 512, "dim": 8, "hidden": 8, "limit": 64},
    "text-transformer": {"buckets": 512, "dim": 16, "layers": 1, "attention_heads": 2, "limit": 64},
}
IMAGE_HEADS = {"category": CATEGORY, "colour": Head(("Red", "Blue", OTHER)).to_config()}
VOICE_HEADS = {"word": Head(("Open", "好", OTHER)).to_config()}
EMOTION = {"emotion": Head(("angry", "happy")).to_config()}
LANGS = {"Open": "en", "好": "zh"}
HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None

Made = tuple[nn.Module, dict[str, Any]]


def _text(architecture: str, wide: bool) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        columns = COLUMNS if wide else None
        config = text.config_of(
            columns, TEXT_HEADS, {"en_cat": "latin"}, {}, architecture, READERS.get(architecture)
        )
        if architecture == "text-hf":
            config |= LocalFolder(tiny_bert(folder / "bert")).to_config(folder)
        return text.network_of(config, folder), config

    return make


def _image(side_px: int) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        config = image.config_of(IMAGE_HEADS, (4, 4, 8, 8), {}, side_px)
        return image.network_of(config, folder), config

    return make


def _image_folder(folder: Path) -> Made:
    config = image.config_of(IMAGE_HEADS, (), {}, 32, "image-hf")
    config |= LocalFolder(tiny_vit(folder / "vit")).to_config(folder)
    return image.network_of(config, folder), config


def _voice(architecture: str, heads: dict[str, Any], sizes: dict[str, Any]) -> Callable[[Path], Made]:
    def make(folder: Path) -> Made:
        config = voice.config_of(heads, LANGS, {}, architecture, sizes)
        if architecture == "voice-hf":
            config |= LocalFolder(tiny_wav2vec(folder / "wav2vec")).to_config(folder)
        return voice.network_of(config, folder), config

    return make


SMALL = {"widths": [4, 4, 4], "hidden": 8}
MAKERS: dict[str, Callable[[Path], Made]] = {
    "text-bag": _text("text-bag", wide=True),
    **{name: _text(name, wide=False) for name in READERS},
    **{f"{name} and tables": _text(name, wide=True) for name in READERS},
    "image-resnet 64": _image(64),
    "image-resnet 96": _image(96),
    "voice-gru": _voice("voice-gru", VOICE_HEADS, SMALL),
    "voice-cnn": _voice("voice-cnn", VOICE_HEADS, SMALL),
    "voice-transformer": _voice("voice-transformer", VOICE_HEADS, SMALL),
    "voice-gru with emotion": _voice("voice-gru", VOICE_HEADS | EMOTION, SMALL),
}
FOLDER_MAKERS: dict[str, Callable[[Path], Made]] = {
    "text-hf": _text("text-hf", wide=False),
    "text-hf and tables": _text("text-hf", wide=True),
    "image-hf": _image_folder,
    "voice-hf": _voice("voice-hf", VOICE_HEADS, {}),
}


def save_tiny(name: str, folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Write a checkpoint of random weights into ``folder`` → its path, and the weights before rounding."""
    torch.manual_seed(3)
    network, config = (MAKERS | FOLDER_MAKERS)[name](folder)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.startswith(("topics", "mood")):
                tensor.normal_(0, 0.3)
    path = folder / f"{name.replace(' ', '_')}.safetensors"
    checkpoint.save(path, network.state_dict(), config)
    return path, network.state_dict()


def tiny_bert(folder: Path) -> Path:
    """A BERT of one layer that reads single characters."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), "好"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return folder


def tiny_vit(folder: Path) -> Path:
    """A vision Transformer of one layer for 32 px pictures."""
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    said = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


def tiny_wav2vec(folder: Path) -> Path:
    """A wav2vec 2.0 of one layer."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8, 8),
        conv_stride=(20, 16),
        conv_kernel=(20, 16),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder

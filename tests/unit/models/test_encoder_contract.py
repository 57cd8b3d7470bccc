"""What every shipped encoder promises, whatever its modality."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageDraw

from features.schema import EMBEDDING_DIM, LANGUAGES
from models import checkpoint
from models.encoder import ContentError, Encoded, Encoder, TextContent
from models.registry import LOADERS, load_encoder, load_encoders

MODALITIES = sorted(LOADERS)


@cache
def encoder(modality: str) -> Encoder:
    return load_encoder(modality, device="cpu")


def texts() -> list[TextContent]:
    return [
        TextContent("这本书很好看，推荐"),
        TextContent("The dress fits well and the fabric is soft"),
        TextContent("x"),
        TextContent("酒店房间很干净，服务态度也好，就是早餐一般。" * 40),
        TextContent("!!! ???"),
        TextContent("C'est une très belle robe, je suis contente de mon achat"),
        TextContent("a" * 3000),
        TextContent("平板屏幕清晰 iPad is great"),
    ]


def pictures() -> list[bytes]:
    rng, made = np.random.default_rng(0), []
    for i, size in enumerate([(64, 64), (200, 120), (60, 80), (17, 300)]):
        image = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 255, 3)))
        ImageDraw.Draw(image).ellipse((4, 4, size[0] // 2, size[1] // 2), fill=(200, 40 * i, 90))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG" if i % 2 else "PNG")
        made.append(buffer.getvalue())
    return made


def clips() -> list[bytes]:
    made = []
    for i, (seconds, rate_hz) in enumerate([(0.5, 16_000), (1.0, 8_000), (2.2, 44_100), (1.4, 16_000)]):
        t = np.arange(int(seconds * rate_hz)) / rate_hz
        tone = sum(np.sin(k * 2 * np.pi * (120 + 35 * i) * t) / k for k in range(1, 9))
        wave = 0.2 * tone * np.clip(np.sin(2 * np.pi * 1.5 * t / seconds), 0, None)
        buffer = io.BytesIO()
        soundfile.write(buffer, wave.astype(np.float32), rate_hz, format="WAV")
        made.append(buffer.getvalue())
    return made


CONTENTS = {"text": texts, "image": pictures, "voice": clips}
NOTHING: dict[str, Any] = {"text": TextContent(" \u200b\x00 "), "image": b"", "voice": b""}


@cache
def samples(modality: str) -> list[Any]:
    return [encoder(modality).decode(content) for content in CONTENTS[modality]()]


def same(a: Encoded, i: int, b: Encoded, j: int) -> None:
    """Item i of a is item j of b: embedding and scores within 1e-4, labels exactly."""
    np.testing.assert_allclose(a.embedding[i], b.embedding[j], atol=1e-4)
    for name, head in a.heads.items():
        assert head.labels[i] == b.heads[name].labels[j]
        np.testing.assert_allclose(head.scores[i], b.heads[name].scores[j], atol=1e-4)
    if a.sentiment is not None and b.sentiment is not None:
        np.testing.assert_allclose(a.sentiment[i], b.sentiment[j], atol=2e-4)


def test_every_modality_that_events_carry_has_an_encoder() -> None:
    assert MODALITIES == ["image", "text", "voice"]
    assert {m: e.modality for m, e in load_encoders(device="cpu").items()} == {m: m for m in MODALITIES}


@pytest.mark.parametrize("modality", MODALITIES)
def test_embeddings_are_unit_float32_and_every_head_speaks_of_every_sample(modality: str) -> None:
    encoded, n = encoder(modality).encode(samples(modality)), len(samples(modality))
    assert encoded.embedding.shape == (n, EMBEDDING_DIM)
    assert encoded.embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoded.embedding, axis=1), 1, atol=1e-5)
    assert "category" in encoded.heads
    for head in encoded.heads.values():
        assert len(head.labels) == n
        assert head.scores.shape == (n,)
        assert np.all((head.scores >= 0) & (head.scores <= 1 + 1e-6))
    assert encoded.lang is not None
    assert len(encoded.lang) == n
    assert set(encoded.lang) <= set(LANGUAGES)
    assert len(encoded.aspects) in (0, n)
    if encoded.sentiment is not None:
        assert encoded.sentiment.shape == (n,)
        assert np.all(np.isnan(encoded.sentiment) | (np.abs(encoded.sentiment) <= 1))


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_sample_alone_is_what_it_is_in_a_batch(modality: str) -> None:
    together = encoder(modality).encode(samples(modality))
    for i, sample in enumerate(samples(modality)):
        same(encoder(modality).encode([sample]), 0, together, i)


@pytest.mark.parametrize("modality", MODALITIES)
def test_order_and_longer_neighbours_change_nothing(modality: str) -> None:
    forward = encoder(modality).encode(samples(modality))
    backward = encoder(modality).encode(samples(modality)[::-1] * 2)
    n = len(samples(modality))
    for i in range(n):
        same(forward, i, backward, n - 1 - i)
        same(forward, i, backward, 2 * n - 1 - i)


@pytest.mark.parametrize("modality", MODALITIES)
def test_an_empty_batch_is_a_batch(modality: str) -> None:
    encoded = encoder(modality).encode([])
    assert encoded.embedding.shape == (0, EMBEDDING_DIM)
    assert all(head.labels == [] and len(head.scores) == 0 for head in encoded.heads.values())


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_same_content_gives_the_same_bytes(modality: str) -> None:
    again = [encoder(modality).decode(content) for content in CONTENTS[modality]()]
    first, second = encoder(modality).encode(samples(modality)), encoder(modality).encode(again)
    assert first.embedding.tobytes() == second.embedding.tobytes()


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_weights_survive_a_round_trip_and_keep_their_fingerprint(modality: str, tmp_path: Path) -> None:
    weights, config = checkpoint.load(checkpoint.WEIGHTS_DIR / f"{modality}.safetensors")
    copy = tmp_path / "copy.safetensors"
    checkpoint.save(copy, {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}, config)
    reloaded = load_encoder(modality, copy, device="cpu")
    assert reloaded.fingerprint == encoder(modality).fingerprint
    assert (
        reloaded.encode(samples(modality)).embedding.tobytes()
        == encoder(modality).encode(samples(modality)).embedding.tobytes()
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_other_weights_have_another_fingerprint(modality: str, tmp_path: Path) -> None:
    weights, config = checkpoint.load(checkpoint.WEIGHTS_DIR / f"{modality}.safetensors")
    name = max((n for n, t in weights.items() if t.is_floating_point()), key=lambda n: weights[n].numel())
    weights[name] = weights[name] + torch.tensor(0.25, dtype=torch.float16)
    checkpoint.save(tmp_path / "other.safetensors", weights, config)
    other = load_encoder(modality, tmp_path / "other.safetensors", device="cpu")
    assert other.fingerprint != encoder(modality).fingerprint


@pytest.mark.parametrize("modality", MODALITIES)
def test_content_without_content_is_refused_by_code(modality: str) -> None:
    with pytest.raises(ContentError) as caught:
        encoder(modality).decode(NOTHING[modality])
    assert caught.value.code in ("empty_text", "unsupported_format", "corrupt_media", "no_sound")


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_size_of_a_sample_is_stated(modality: str) -> None:
    assert all(0 < encoder(modality).sample_bytes(s) < 1 << 24 for s in samples(modality))


@pytest.mark.parametrize("modality", MODALITIES)
def test_weights_of_another_modality_are_refused(modality: str) -> None:
    other = next(m for m in MODALITIES if m != modality)
    with pytest.raises(checkpoint.WrongArchitectureError):
        load_encoder(modality, checkpoint.WEIGHTS_DIR / f"{other}.safetensors", device="cpu")


def test_all_shipped_weights_stay_small() -> None:
    sizes = {p.stem: p.stat().st_size / 1e6 for p in checkpoint.WEIGHTS_DIR.glob("*.safetensors")}
    assert sizes["text"] <= 16
    assert sizes["image"] <= 6
    assert sizes["voice"] <= 3
    assert sizes["fusion"] <= 2
    assert sum(sizes.values()) <= 40

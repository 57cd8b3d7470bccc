"""What every encoder promises: the shipped ones, and one of every other architecture with random weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image, ImageDraw

from features.schema import EMBEDDING_DIM, LANGUAGES
from models import checkpoint
from models.encoder import ContentError, Encoded, Encoder, TextContent
from models.probes import encoder_fault
from models.registry import LOADERS, architectures, load_encoder, load_encoders
from tests.unit.models.tiny_encoders import FOLDER_MAKERS, HAS_TRANSFORMERS, MAKERS, save_tiny

MODALITIES = sorted(LOADERS)
NEEDS_TRANSFORMERS = pytest.mark.skipif(
    not HAS_TRANSFORMERS, reason="needs transformers: pip install 'portrait-profiles[hf]'"
)
CASES = [
    *MODALITIES,
    *MAKERS,
    *(pytest.param(name, marks=NEEDS_TRANSFORMERS) for name in FOLDER_MAKERS),
]
"""A modality stands for its shipped encoder."""


@pytest.fixture(scope="module", autouse=True)
def folder(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the random weights lie while this file's tests run."""
    global _FOLDER
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with TemporaryDirectory() as made:
        _FOLDER = Path(made)
        yield
    torch.set_num_threads(threads)
    for cached in (weights_of, encoder, samples):
        cached.cache_clear()


_FOLDER = Path()


def modality_of(case: str) -> str:
    return case.split("-")[0]


@cache
def weights_of(case: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Weights file, and the weights before they were rounded to fp16 (shipped: as they are)."""
    if case in MODALITIES:
        path = checkpoint.WEIGHTS_DIR / f"{case}.safetensors"
        return path, checkpoint.full_precision(checkpoint.load(path)[0])
    return save_tiny(case, _FOLDER)


@cache
def encoder(case: str) -> Encoder:
    return load_encoder(modality_of(case), weights_of(case)[0], "cpu", emotion="emotion" in case)


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


CONTENTS: dict[str, Callable[[], list[Any]]] = {"text": texts, "image": pictures, "voice": clips}
NOTHING: dict[str, Any] = {"text": TextContent(" \u200b\x00 "), "image": b"", "voice": b""}


@cache
def samples(case: str) -> list[Any]:
    return [encoder(case).decode(content) for content in CONTENTS[modality_of(case)]()]


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


@pytest.mark.parametrize("case", CASES)
def test_embeddings_are_unit_float32_and_every_head_speaks_of_every_sample(case: str) -> None:
    encoded, n = encoder(case).encode(samples(case)), len(samples(case))
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


@pytest.mark.parametrize("case", CASES)
def test_a_sample_alone_is_what_it_is_in_a_batch(case: str) -> None:
    together = encoder(case).encode(samples(case))
    for i, sample in enumerate(samples(case)):
        same(encoder(case).encode([sample]), 0, together, i)


@pytest.mark.parametrize("case", CASES)
def test_order_and_longer_neighbours_change_nothing(case: str) -> None:
    forward = encoder(case).encode(samples(case))
    backward = encoder(case).encode(samples(case)[::-1] * 2)
    n = len(samples(case))
    for i in range(n):
        same(forward, i, backward, n - 1 - i)
        same(forward, i, backward, 2 * n - 1 - i)


@pytest.mark.parametrize("case", CASES)
def test_a_working_encoder_takes_its_probe_and_a_broken_one_does_not(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoder_fault(encoder(case)) is None
    monkeypatch.setattr(encoder(case), "encode", lambda samples: 1 / 0)
    assert isinstance(encoder_fault(encoder(case)), ZeroDivisionError)


@pytest.mark.parametrize("case", CASES)
def test_an_empty_batch_is_a_batch(case: str) -> None:
    encoded = encoder(case).encode([])
    assert encoded.embedding.shape == (0, EMBEDDING_DIM)
    assert all(head.labels == [] and len(head.scores) == 0 for head in encoded.heads.values())


@pytest.mark.parametrize("case", CASES)
def test_the_same_content_gives_the_same_bytes(case: str) -> None:
    again = [encoder(case).decode(content) for content in CONTENTS[modality_of(case)]()]
    first, second = encoder(case).encode(samples(case)), encoder(case).encode(again)
    assert first.embedding.tobytes() == second.embedding.tobytes()


def beside(case: str, tmp_path: Path, name: str) -> Path:
    """A path for changed weights, from where a model's folder is found as from the original's."""
    return _FOLDER / f"{case} {name}" if case in FOLDER_MAKERS else tmp_path / name


@pytest.mark.parametrize("case", CASES)
def test_the_weights_survive_a_round_trip_and_keep_their_fingerprint(case: str, tmp_path: Path) -> None:
    weights, config = checkpoint.load(weights_of(case)[0])
    copy = beside(case, tmp_path, "copy.safetensors")
    checkpoint.save(copy, {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}, config)
    reloaded = load_encoder(modality_of(case), copy, device="cpu")
    assert reloaded.fingerprint == encoder(case).fingerprint
    assert (
        reloaded.encode(samples(case)).embedding.tobytes()
        == encoder(case).encode(samples(case)).embedding.tobytes()
    )


@pytest.mark.parametrize("case", CASES)
def test_other_weights_have_another_fingerprint(case: str, tmp_path: Path) -> None:
    weights, config = checkpoint.load(weights_of(case)[0])
    name = max((n for n, t in weights.items() if t.is_floating_point()), key=lambda n: weights[n].numel())
    weights[name] = weights[name] + torch.tensor(0.25, dtype=torch.float16)
    path = beside(case, tmp_path, "other.safetensors")
    checkpoint.save(path, weights, config)
    other = load_encoder(modality_of(case), path, device="cpu")
    assert other.fingerprint != encoder(case).fingerprint


@pytest.mark.parametrize("case", CASES)
def test_content_without_content_is_refused_by_code(case: str) -> None:
    with pytest.raises(ContentError) as caught:
        encoder(case).decode(NOTHING[modality_of(case)])
    assert caught.value.code in ("empty_text", "unsupported_format", "corrupt_media", "no_sound")


@pytest.mark.parametrize("case", CASES)
def test_the_size_of_a_sample_is_stated(case: str) -> None:
    assert all(0 < encoder(case).sample_bytes(s) < 1 << 24 for s in samples(case))


@pytest.mark.parametrize("modality", MODALITIES)
def test_weights_of_another_modality_are_refused(modality: str) -> None:
    other = next(m for m in MODALITIES if m != modality)
    with pytest.raises(checkpoint.WrongArchitectureError):
        load_encoder(modality, checkpoint.WEIGHTS_DIR / f"{other}.safetensors", device="cpu")


@pytest.mark.parametrize("modality", MODALITIES)
def test_weights_trained_behind_other_preprocessing_are_refused(modality: str, tmp_path: Path) -> None:
    weights, config = checkpoint.load(checkpoint.WEIGHTS_DIR / f"{modality}.safetensors")
    checkpoint.save(tmp_path / "older.safetensors", weights, config | {"preprocessing": "older"})
    with pytest.raises(checkpoint.WrongPreprocessingError, match="got 'older'"):
        load_encoder(modality, tmp_path / "older.safetensors", device="cpu")


def test_every_architecture_has_a_case() -> None:
    named = {case.split(" ")[0] for case in (*MAKERS, *FOLDER_MAKERS)}
    assert named == {name for names in architectures().values() for name in names}


@pytest.mark.parametrize("case", CASES)
def test_weights_rounded_to_fp16_say_nearly_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, exact = weights_of(case)
    config = checkpoint.load(path)[1]
    monkeypatch.setattr(checkpoint, "load", lambda *_: (exact, config))
    unrounded = load_encoder(modality_of(case), path, "cpu").encode(samples(case))
    rounded = encoder(case).encode(samples(case))
    np.testing.assert_allclose(rounded.embedding, unrounded.embedding, atol=5e-3)
    for name, head in unrounded.heads.items():
        np.testing.assert_allclose(rounded.heads[name].scores, head.scores, atol=1e-2)


def test_weights_of_an_unknown_architecture_are_refused(tmp_path: Path) -> None:
    for modality in MODALITIES:
        weights, config = checkpoint.load(weights_of(modality)[0])
        path = tmp_path / f"{modality}.safetensors"
        checkpoint.save(path, weights, config | {"architecture": f"{modality}-oracle"})
        with pytest.raises(checkpoint.WrongArchitectureError, match="expected weights of one of"):
            load_encoder(modality, path, "cpu")


def test_all_shipped_weights_stay_small() -> None:
    sizes = {p.stem: p.stat().st_size / 1e6 for p in checkpoint.WEIGHTS_DIR.glob("*.safetensors")}
    assert sizes["text"] <= 20
    assert sizes["image"] <= 6
    assert sizes["voice"] <= 3
    assert sizes["fusion"] <= 2
    assert sum(sizes.values()) <= 40

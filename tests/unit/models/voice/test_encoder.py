"""What the voice encoder promises: batches, the map of words, places in the space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.schema import EMBEDDING_DIM
from features.taxonomy import Category, Taxonomy
from models import checkpoint, space
from models.device import DeviceError
from models.encoder import OTHER
from models.heads import Head
from models.voice.decode import RATE_HZ, condition
from models.voice.encoder import VoiceEncoder, config_of
from models.voice.gru import GruVoice
from models.voice.mel import LogMel, pad_waves


def speech(seconds: float, seed: int) -> np.ndarray:
    """Gliding overtones in two bursts, another pitch for every seed."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pitch = 120 + 60 * seed + 30 * np.sin(5 * t)
    tone = sum(np.sin(k * 2 * np.pi * np.cumsum(pitch) / RATE_HZ) / k for k in range(1, 12))
    return (0.3 * tone * np.clip(np.sin(4 * np.pi * t / seconds), 0, None)).astype(np.float32)


WORDS = ("北京", "Open", "Close", OTHER)
HEELS = Category("shoes.heels", "高跟鞋", "Heels", "shoes")
TAXONOMY = Taxonomy((Category("tops", "上装", "Tops"), Category("shoes", "鞋", "Shoes"), HEELS), {}, {})


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights as training starts with, but sure of themselves: enough for what holds of any weights."""
    torch.manual_seed(4)
    network = GruVoice({"word": len(WORDS)})
    with torch.no_grad():
        network.get_parameter("word.weight").mul_(100)
    path = tmp_path_factory.mktemp("weights") / "voice.safetensors"
    heads = {"word": Head(WORDS).to_config()}
    checkpoint.save(
        path, network.state_dict(), config_of(heads, {"北京": "zh", "Open": "en", "Close": "en"}, {})
    )
    return path


@pytest.fixture(scope="module")
def encoder(untrained: Path) -> VoiceEncoder:
    return VoiceEncoder(untrained, taxonomy=TAXONOMY)


def samples(count: int) -> list[np.ndarray]:
    """Clips of many lengths."""
    return [condition(speech(0.2 + 0.3 * (i % 9), seed=i % 5)) for i in range(count)]


def test_a_clip_alone_and_padded_in_a_batch_gives_the_same(encoder: VoiceEncoder) -> None:
    batch = samples(40)
    together = encoder.encode(batch)
    assert together.embedding.shape == (40, EMBEDDING_DIM)
    assert together.embedding.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together.embedding, axis=1), 1, atol=1e-5)
    for i in (0, 3, 8, 20, 39):
        alone = encoder.encode(batch[i : i + 1])
        np.testing.assert_allclose(alone.embedding[0], together.embedding[i], atol=1e-4)
        for name, head in together.heads.items():
            assert alone.heads[name].labels == [head.labels[i]]
            np.testing.assert_allclose(alone.heads[name].scores[0], head.scores[i], atol=1e-4)


def test_padding_changes_no_frame_of_the_spectrogram() -> None:
    mel = LogMel()
    short, long = samples(9)[0], samples(9)[8]
    alone, counts = mel(*pad_waves([short]))
    padded, both = mel(*pad_waves([short, long]))
    frames = int(counts[0])
    assert int(both[0]) == frames < alone.shape[2] < padded.shape[2]
    torch.testing.assert_close(padded[0, :, :frames], alone[0, :, :frames], atol=1e-5, rtol=0)
    assert bool((padded[0, :, frames:] == 0).all())


def test_an_empty_batch_gives_empty_answers(encoder: VoiceEncoder) -> None:
    nothing = encoder.encode([])
    assert nothing.embedding.shape == (0, EMBEDDING_DIM)
    assert all(head.labels == [] and head.scores.shape == (0,) for head in nothing.heads.values())
    assert nothing.lang == []


def test_without_a_map_words_have_places_of_their_own_and_no_category(encoder: VoiceEncoder) -> None:
    said = encoder.encode(samples(20))
    assert set(said.heads["category"].labels) == {OTHER}
    own = space.word_prototypes(len(WORDS))
    for i, (word, score) in enumerate(zip(said.heads["word"].labels, said.heads["word"].scores, strict=True)):
        if score > 0.8:
            assert int((own @ said.embedding[i]).argmax()) == WORDS.index(word)


def test_a_clip_of_no_known_word_stands_at_the_place_of_other(untrained: Path, tmp_path: Path) -> None:
    state, config = checkpoint.load(untrained)
    config["heads"]["word"]["threshold"] = 1.1
    checkpoint.save(tmp_path / "unsure.safetensors", state, config)
    unsure = VoiceEncoder(tmp_path / "unsure.safetensors", words={"Open": "tops"}, taxonomy=TAXONOMY)
    said = unsure.encode(samples(3))
    assert said.heads["word"].labels == said.heads["category"].labels == said.lang == [OTHER] * 3
    np.testing.assert_allclose(
        said.embedding, np.tile(space.word_prototypes(len(WORDS))[-1], (3, 1)), atol=1e-5
    )


def test_with_a_map_a_word_stands_where_its_category_stands(untrained: Path, encoder: VoiceEncoder) -> None:
    clips = samples(20)
    plain = encoder.encode(clips)
    everything = {"北京": "tops", "Open": "shoes.heels", "Close": "shoes.heels"}
    mapped = VoiceEncoder(untrained, words=everything, taxonomy=TAXONOMY).encode(clips)
    assert mapped.heads["word"].labels == plain.heads["word"].labels
    tops, shoes = space.category_prototypes(2)
    sure = 0
    for i, (word, score) in enumerate(
        zip(plain.heads["word"].labels, plain.heads["word"].scores, strict=True)
    ):
        if score > 0.8 and word != OTHER:
            sure += 1
            assert mapped.heads["category"].labels[i] == everything[word]
            wanted, other = (tops, shoes) if everything[word] == "tops" else (shoes, tops)
            assert mapped.embedding[i] @ wanted > 0.9 > mapped.embedding[i] @ other
    assert sure > 0


def test_the_probability_of_a_category_is_that_of_its_words(untrained: Path, encoder: VoiceEncoder) -> None:
    clips = samples(6)
    both = VoiceEncoder(untrained, words={"Open": "tops", "Close": "tops"}, taxonomy=TAXONOMY).encode(clips)
    p = encoder.heads["word"].probabilities(encoder._logits(clips)["word"])
    np.testing.assert_allclose(
        both.heads["category"].scores, np.maximum(p[:, 1] + p[:, 2], p[:, 0] + p[:, 3]), atol=1e-4
    )


def test_the_language_is_that_of_the_word(encoder: VoiceEncoder) -> None:
    said = encoder.encode(samples(20))
    known = {"北京": "zh", "Open": "en", "Close": "en", OTHER: "other"}
    assert said.lang == [known[word] for word in said.heads["word"].labels]


def test_the_map_is_part_of_the_fingerprint(untrained: Path, encoder: VoiceEncoder) -> None:
    mapped = VoiceEncoder(untrained, words={"Open": "tops", "Close": "shoes"}, taxonomy=TAXONOMY)
    turned = VoiceEncoder(untrained, words={"Close": "shoes", "Open": "tops"}, taxonomy=TAXONOMY)
    swapped = VoiceEncoder(untrained, words={"Open": "shoes", "Close": "tops"}, taxonomy=TAXONOMY)
    assert mapped.fingerprint == turned.fingerprint
    assert len({encoder.fingerprint, mapped.fingerprint, swapped.fingerprint}) == 3


def test_a_map_of_unknown_words_or_categories_is_refused(untrained: Path) -> None:
    with pytest.raises(ValueError, match=r"words: expected words of .*, got \['Shut'\]"):
        VoiceEncoder(untrained, words={"Shut": "tops"}, taxonomy=TAXONOMY)
    with pytest.raises(ValueError, match=r"words: expected category ids .*, got \['hats'\]"):
        VoiceEncoder(untrained, words={"Open": "hats"}, taxonomy=TAXONOMY)


def test_a_gpu_that_is_not_there_is_an_error(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="expected a CUDA GPU"):
        VoiceEncoder(untrained, device="cuda")


def test_a_sample_says_how_much_memory_it_takes(encoder: VoiceEncoder) -> None:
    assert encoder.sample_bytes(np.zeros(RATE_HZ, np.float32)) == 64_000

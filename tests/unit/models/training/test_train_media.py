"""Training of the image and voice encoders: what is learned from, what is held out, what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from models.encoder import OTHER
from models.image.encoder import ImageEncoder
from models.training.image.augment import augment
from models.training.image.data import NO_LABEL, blank_pictures, load_images
from models.training.image.train import train_image
from models.training.splits import difference_hashes, split_of, without_twins
from models.training.voice.data import disturb, make_noise, speaker_splits
from models.voice.decode import RATE_HZ
from models.voice.encoder import VoiceEncoder
from tests.support.folders import DATA


def test_a_group_is_always_in_the_same_split_and_splits_have_their_shares() -> None:
    splits = [split_of(f"title:{i}") for i in range(4000)]
    assert splits == [split_of(f"title:{i}") for i in range(4000)]
    shares = [splits.count(name) / 4000 for name in ("train", "dev", "test")]
    np.testing.assert_allclose(shares, (0.75, 0.10, 0.15), atol=0.02)


def test_a_picture_seen_in_the_test_is_not_trained_on() -> None:
    stay = without_twins(["test", "train", "dev", "train", "dev", "train"], [1, 1, 1, 2, 2, 3])
    assert stay.tolist() == [True, False, False, False, True, True]


def test_difference_hashes_survive_a_change_of_light_and_tell_pictures_apart() -> None:
    pictures = blank_pictures(12, seed=3)[[3, 9]]
    darker = (pictures * 0.8).astype(np.uint8)
    plain, dark = difference_hashes(pictures), difference_hashes(darker)
    assert all((a ^ b).bit_count() <= 4 for a, b in zip(plain, dark, strict=True))
    assert (plain[0] ^ plain[1]).bit_count() > 16


def test_every_speaker_has_one_split() -> None:
    names = [f"spk{i:02}" for i in range(26)]
    splits = speaker_splits(names * 3)
    assert sorted(splits) == names
    assert [list(splits.values()).count(s) for s in ("train", "dev", "test")] == [18, 3, 5]


def test_a_disturbed_clip_is_another_one_at_the_same_scale() -> None:
    rng = np.random.default_rng(0)
    wave = make_noise(RATE_HZ, rng)
    other = disturb(wave, rng)
    assert len(other) != len(wave)
    assert np.abs(other).max() == pytest.approx(1)


def test_noise_of_one_seed_is_always_the_same() -> None:
    first, again = (make_noise(RATE_HZ, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_the_colours_of_natural_photos_are_changed_at_will_and_those_of_others_hardly() -> None:
    torch.manual_seed(0)
    grey = torch.full((400, 32, 32, 3), 140, dtype=torch.uint8)
    natural = torch.arange(400) < 200
    changed = augment(grey, natural)
    assert changed.shape == grey.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 255
    middle = changed.flatten(1, 2).median(dim=1).values  # what a hidden rectangle leaves as it is
    tint = middle.amax(1) / middle.amin(1)
    assert tint[natural].quantile(0.5) > 1.2 > 1.15 > tint[~natural].quantile(0.95)


@pytest.mark.data
def test_a_short_training_on_few_pictures_gives_an_encoder(tmp_path: Path) -> None:
    figures = train_image(DATA / "tiny", tmp_path / "image.safetensors", epochs=1)
    encoder = ImageEncoder(tmp_path / "image.safetensors")
    assert encoder.config["figures"] == figures
    said = encoder.encode([encoder.decode(b) for b in _column("tiny/img_grocery", "jpg")[:3]])
    assert set(said.heads) >= {"category", "sub", "clothing_label", "grocery_coarse"}


@pytest.mark.data
def test_no_title_and_no_picture_is_in_two_splits() -> None:
    images = load_images(DATA / "tiny")
    hashes = np.array(difference_hashes(images.pixels))
    seen = {split: set(hashes[images.where(split)]) for split in ("train", "dev", "test")}
    assert not seen["train"] & seen["test"]
    assert not seen["train"] & seen["dev"]
    assert all(names[-1] == OTHER for names in images.names.values())
    assert all(((y >= 0) | (y == NO_LABEL)).all() for y in images.labels.values())


# What ships


def _column(file: str, column: str) -> list[bytes]:
    found: list[bytes] = pq.read_table(DATA / f"{file}.parquet")[column].to_pylist()
    return found


@pytest.mark.data
def test_the_shipped_image_encoder_knows_products_of_unseen_titles() -> None:
    rows = pq.read_table(DATA / "img_fashion_products.parquet").to_pylist()
    unseen = [r for r in rows if split_of("title:" + " ".join(r["title"].lower().split())) == "test"][::8]
    encoder = ImageEncoder()
    said = encoder.encode([encoder.decode(r["jpg"]) for r in unseen]).heads["sub"]
    kept = np.array([label != OTHER for label in said.labels])
    right = np.array([label == r["sub"] for label, r in zip(said.labels, unseen, strict=True)])
    assert len(unseen) > 300
    assert kept.mean() > 0.9
    assert right[kept].mean() > 0.9


@pytest.mark.data
def test_the_shipped_image_encoder_abstains_on_pictures_of_no_product() -> None:
    encoder = ImageEncoder()
    said = encoder.encode(list(blank_pictures(120, seed=99, side_px=encoder.side_px))).heads["category"]
    assert np.mean([label == OTHER for label in said.labels]) > 0.9


@pytest.mark.data
def test_the_shipped_voice_encoder_knows_words_of_unseen_speakers() -> None:
    rows = pq.read_table(DATA / "aud_dspspeech20.parquet").to_pylist()
    splits = speaker_splits([r["speaker"] for r in rows])
    unseen = [r for r in rows if splits[r["speaker"]] == "test"][::2]
    encoder = VoiceEncoder()
    said = encoder.encode([encoder.decode(r["ogg"]) for r in unseen])
    kept = np.array([label != OTHER for label in said.heads["word"].labels])
    right = np.array([label == r["word"] for label, r in zip(said.heads["word"].labels, unseen, strict=True)])
    assert len(unseen) == 300
    assert kept.mean() > 0.8
    assert right[kept].mean() > 0.95
    tongues = [lang in (r["lang"], "other") for lang, r in zip(said.lang or [], unseen, strict=True)]
    assert np.mean(tongues) > 0.95


@pytest.mark.data
def test_the_shipped_voice_encoder_abstains_on_words_it_does_not_know() -> None:
    encoder = VoiceEncoder()
    digits = [encoder.decode(wav) for wav in _column("aud_fsdd_8k_120", "wav")]
    said = encoder.encode(digits).heads["word"].labels
    assert np.mean([label == OTHER for label in said]) > 0.6

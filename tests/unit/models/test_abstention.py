"""Where the shipped encoders hold their tongue, and that silence leaves no tag."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow.parquet as pq
import pytest

from features.taxonomy import load_taxonomy
from models.encoder import OTHER, Encoded, TextContent
from models.image.encoder import ImageEncoder
from models.text.encoder import TextEncoder
from models.text.ngrams import normalise
from models.training.image.data import blank_pictures
from models.training.splits import split_of
from models.training.voice.data import make_noise
from models.voice.decode import RATE_HZ, condition
from models.voice.encoder import VoiceEncoder
from pipelines.steps.encode import SURE, tags_of
from tests.support.folders import DATA

TAXONOMY = load_taxonomy()
OTHER_LANGUAGES = {
    "de": "Das Kleid ist sehr schön und passt perfekt",
    "es": "El vestido es muy bonito y me queda perfecto",
    "it": "Il vestito è molto bello e mi sta benissimo",
    "fr": "La chambre d'hôtel était propre et le personnel aimable",
    "ru": "Платье очень красивое и хорошо сидит",
    "ko": "이 드레스는 정말 예쁘고 잘 맞아요",
    "ja": "このドレスはとても素敵です",
    "ar": "الفستان جميل جدا ومناسب",
    "th": "ชุดนี้สวยมากและพอดีตัว",
}
NO_REVIEWS = [
    "asdf qwer zxcv",
    "12345 67890",
    "!!! ??? ...",
    "🙂🙂🙂",
    "https://example.org/a?b=c",
    "的的的了了了",
    "The kettle leaks",
]


@cache
def text() -> TextEncoder:
    return TextEncoder()


def read(texts: list[str]) -> Encoded:
    return text().encode([text().decode(TextContent(t)) for t in texts])


def tags(encoded: Encoded) -> list[list[tuple[int, float]]]:
    """What each sample adds to a profile."""
    n = len(encoded.embedding)
    verdicts = [
        {name: (h.labels[i], float(h.scores[i])) for name, h in encoded.heads.items() if h.labels[i] != OTHER}
        for i in range(n)
    ]
    category = encoded.heads["category"]
    least = [SURE if label == OTHER else 0.0 for label in category.labels]
    return [tags_of(v, TAXONOMY, x) for v, x in zip(verdicts, least, strict=True)]


def abstained(encoded: Encoded, head: str) -> float:
    """Share of samples on which a head says nothing."""
    return float(np.mean([label == OTHER for label in encoded.heads[head].labels]))


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_a_review_in_another_language_adds_no_tag_and_no_sentiment(language: str) -> None:
    encoded = read([OTHER_LANGUAGES[language]])
    assert all(head.labels == [OTHER] for head in encoded.heads.values())
    assert encoded.sentiment is not None
    assert np.isnan(encoded.sentiment[0])
    assert tags(encoded) == [[]]


def test_what_is_no_review_adds_no_tag() -> None:
    encoded = read(NO_REVIEWS)
    assert abstained(encoded, "category") == 1
    assert tags(encoded) == [[]] * len(NO_REVIEWS)


@pytest.mark.parametrize("seed", [99, 100])
def test_pictures_of_no_product_add_no_tag(seed: int) -> None:
    encoder = ImageEncoder()
    encoded = encoder.encode(list(blank_pictures(60, seed, encoder.side_px)))
    assert abstained(encoded, "category") >= 0.9
    silent = [not found for found in tags(encoded)]
    assert np.mean(silent) >= 0.85


def test_noise_and_music_add_no_tag() -> None:
    rng = np.random.default_rng(1)
    encoder = VoiceEncoder(words=dict.fromkeys(("Open", "北京"), TAXONOMY.first_level[0]))
    encoded = encoder.encode([condition(make_noise(RATE_HZ, rng)) for _ in range(40)])
    assert abstained(encoded, "word") >= 0.95
    assert np.mean([not found for found in tags(encoded)]) >= 0.95


@pytest.mark.data
@pytest.mark.parametrize(("label", "share"), [("衣服", 0.9), ("热水器", 0.7)])
def test_reviews_of_what_maps_to_no_category_mostly_add_no_tag(label: str, share: float) -> None:
    rows = pq.read_table(DATA / "text_zh_online_shopping.parquet", columns=["cat", "review"]).to_pylist()
    unseen = [
        found
        for row in rows
        if row["cat"] == label and (found := normalise(row["review"] or "")) and split_of(found) == "test"
    ]
    encoded = read(unseen[:300])
    assert len(unseen) > 50
    assert abstained(encoded, "category") >= share


@pytest.mark.data
def test_foreign_words_of_unseen_speakers_mostly_add_no_tag() -> None:
    encoder = VoiceEncoder()
    rows = pq.read_table(DATA / "aud_speech_commands_300.parquet").to_pylist()
    unseen = [r["ogg"] for r in rows if split_of(f"speaker:{r['speaker_hash']}") == "test"]
    assert len(unseen) > 50
    assert abstained(encoder.encode([encoder.decode(ogg) for ogg in unseen]), "word") >= 0.8


@pytest.mark.parametrize("encoder", [TextEncoder, ImageEncoder, VoiceEncoder])
def test_every_head_states_how_well_it_is_calibrated(
    encoder: type[TextEncoder] | type[ImageEncoder] | type[VoiceEncoder],
) -> None:
    figures = encoder().config["figures"].values()
    errors = [f["calibration_error"] for f in figures if isinstance(f, dict) and "calibration_error" in f]
    assert errors
    assert all(0 <= e < 0.2 for e in errors)


def test_emotion_is_not_in_the_shipped_weights() -> None:
    assert "emotion" not in VoiceEncoder().heads

"""Inference batches: bounded by count and bytes, and one poisoned event costs nobody but itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.schema import EMBEDDING_DIM, EVENT_DTYPE, LANGUAGES, NO_TAG, EncodedEvent, Modality
from features.taxonomy import Category, Taxonomy, load_taxonomy
from models.encoder import OTHER, ContentError, Encoded, HeadScores
from pipelines.messages.parse import Event
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Models, Settings
from pipelines.steps.encode import EncoderFailedError, EventHandler, encode_events, pack_events, tags_of

GOOD, UNDECODABLE, SURPRISING, POISONED = b"good", b"undecodable", b"surprising", b"poisoned"


class FragileEncoder:
    """Fails in ways that a test asks for by the content; remembers the batches that it was given."""

    modality = "image"
    fingerprint = "00" * 32
    device = "cpu"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.broken = False

    def decode(self, content: bytes) -> bytes:
        if content == UNDECODABLE:
            raise ContentError("corrupt_media", "expected a picture, got another thing")
        if content == SURPRISING:
            raise MemoryError("the content is surprising")
        return content

    def sample_bytes(self, sample: bytes) -> int:
        return 1000

    def encode(self, samples: Sequence[bytes]) -> Encoded:
        if self.broken:
            raise RuntimeError("the device is lost")
        if POISONED in samples:
            raise RuntimeError("poisoned")
        self.batches.append(len(samples))
        vectors = np.zeros((len(samples), EMBEDDING_DIM), np.float32)
        vectors[:, 0] = 1
        heads = {"category": HeadScores(["tops"] * len(samples), np.full(len(samples), 0.75, np.float32))}
        return Encoded(vectors, heads)


def _event(number: int, content: bytes) -> Event:
    record = Record("images", "id", 0, number, 1_700_000_000_000, b"u", content, ())
    return Event("u", "s", str(number), Modality.IMAGE, 1_700_000_000_000_000, record, "image/png", content)


def _run(contents: Sequence[bytes], max_bytes: int = 10**9) -> tuple[list[Any], FragileEncoder]:
    encoder = FragileEncoder()
    events = [_event(i, content) for i, content in enumerate(contents)]
    return list(encode_events(events, encoder, load_taxonomy(), "EncodeImage", max_bytes)), encoder


@given(st.lists(st.sampled_from([GOOD, GOOD, GOOD, UNDECODABLE, SURPRISING, POISONED]), max_size=40))
def test_every_event_comes_back_once_and_only_bad_ones_are_rejected(contents: list[bytes]) -> None:
    results, _ = _run(contents)
    reasons = {
        UNDECODABLE: Reason.CORRUPT_MEDIA,
        SURPRISING: Reason.INTERNAL_ERROR,
        POISONED: Reason.INFERENCE_FAILED,
    }
    rejected = {r.record.offset: r.reason for r in results if isinstance(r, Rejected)}
    encoded = {int(r.event_id) for r in results if isinstance(r, EncodedEvent)}
    assert rejected == {i: reasons[c] for i, c in enumerate(contents) if c != GOOD}
    assert encoded == {i for i, c in enumerate(contents) if c == GOOD}
    assert len(results) == len(contents)


def test_an_encoder_that_fails_on_every_content_ends_the_batch_and_rejects_nothing() -> None:
    encoder = FragileEncoder()
    encoder.broken = True
    events = [_event(i, GOOD) for i in range(5)]
    with pytest.raises(EncoderFailedError, match=r"models\.image: expected the encoder on cpu"):
        list(encode_events(events, encoder, load_taxonomy(), "EncodeImage", 10**9))


def test_a_decoder_that_fails_on_every_content_ends_the_batch_too(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FragileEncoder()
    monkeypatch.setattr(encoder, "decode", lambda _: 1 / 0)
    with pytest.raises(EncoderFailedError, match="got ZeroDivisionError"):
        list(encode_events([_event(0, GOOD)], encoder, load_taxonomy(), "EncodeImage", 10**9))


def test_a_reject_code_that_nobody_knows_costs_its_content_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FragileEncoder()

    def decode(content: bytes) -> bytes:
        if content == UNDECODABLE:
            raise ContentError("too_blue", "expected another picture")
        return content

    monkeypatch.setattr(encoder, "decode", decode)
    events = [_event(0, GOOD), _event(1, UNDECODABLE), _event(2, GOOD)]
    results = list(encode_events(events, encoder, load_taxonomy(), "EncodeImage", 10**9))
    assert [r.reason for r in results if isinstance(r, Rejected)] == [Reason.INTERNAL_ERROR]
    assert len(results) == 3


def test_a_language_that_the_schema_lacks_counts_as_another() -> None:
    encoded = FragileEncoder().encode([GOOD])
    encoded.lang = ["ja"]
    (event,) = pack_events([_event(0, GOOD)], encoded, load_taxonomy())
    assert LANGUAGES[np.frombuffer(event.numbers, EVENT_DTYPE)[0]["lang"]] == "other"


def test_no_exception_text_of_a_library_reaches_a_reject() -> None:
    results, _ = _run([SURPRISING, POISONED])
    assert all("surprising" not in r.detail and "poisoned" not in r.detail for r in results)


def test_decoded_samples_are_run_in_parts_that_fit_the_byte_bound() -> None:
    _, encoder = _run([GOOD] * 10, max_bytes=3_500)
    assert encoder.batches == [3, 3, 3, 1]


@pytest.mark.parametrize(("size", "batches"), [(10, [4, 4, 2]), (600, [1] * 10)])
def test_batches_are_bounded_by_items_and_by_undecoded_bytes(size: int, batches: list[int]) -> None:
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    settings = Settings(models=Models(batch_items=4, batch_bytes=1000))
    kwargs = EventHandler(Modality.IMAGE, settings).batch_elements_kwargs()
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        lengths = (
            pipeline
            | beam.Impulse()
            | beam.FlatMap(lambda _: [_event(i, b"x" * size) for i in range(10)])
            | beam.BatchElements(**kwargs)
            | beam.Map(len)
        )
        assert_that(lengths, equal_to(batches))


def test_an_encoded_event_carries_its_source_its_vector_and_its_tags() -> None:
    (event,), _ = _run([GOOD])
    numbers = np.frombuffer(event.numbers, EVENT_DTYPE)[0]
    assert (event.user_id, event.source, event.event_id, event.topic) == ("u", "s", "0", "images")
    assert (numbers["offset"], numbers["modality"], numbers["event_time_us"]) == (
        0,
        Modality.IMAGE,
        1_700_000_000_000_000,
    )
    assert numbers["embedding"][0] == 1
    assert numbers["tag"].tolist() == [load_taxonomy().slots["tops"], NO_TAG, NO_TAG, NO_TAG]
    assert numbers["tag_score"][0] == 0.75
    assert np.isnan(numbers["sentiment"])


TAXONOMY = Taxonomy(
    (
        Category("a", "甲", "A"),
        Category("b", "乙", "B"),
        Category("a.1", "甲一", "A1", "a"),
        Category("b.1", "乙一", "B1", "b"),
    ),
    {"fine": {"one": "a.1", "two": "b.1"}, "coarse": {"b": "b"}},
    {},
)


@pytest.mark.parametrize(
    ("verdicts", "tags"),
    [
        ({"category": ("a", 0.9)}, [(0, 0.9)]),
        ({"category": ("a", 0.9), "fine": ("one", 0.5)}, [(0, 0.9), (2, 0.5)]),
        ({"category": ("a", 0.9), "fine": ("two", 0.8)}, [(0, 0.9)]),  # a finer label of another category
        ({"fine": ("two", 0.8)}, [(1, 0.8), (3, 0.8)]),
        ({"category": ("unknown", 0.9), "coarse": ("b", 0.6)}, [(1, 0.6)]),
        ({"category": ("unknown", 0.9)}, []),
        ({}, []),
    ],
)
def test_one_event_speaks_of_one_category_and_its_surest_child(
    verdicts: dict[str, tuple[str, float]], tags: list[tuple[int, float]]
) -> None:
    assert tags_of(verdicts, TAXONOMY) == tags


def test_an_abstaining_head_adds_no_tag_and_no_label() -> None:
    class Abstaining(FragileEncoder):
        def encode(self, samples: Sequence[bytes]) -> Encoded:
            encoded = super().encode(samples)
            encoded.heads["category"].labels = [OTHER] * len(samples)
            return encoded

    (event,) = encode_events([_event(0, GOOD)], Abstaining(), load_taxonomy(), "EncodeImage", 10**9)
    assert isinstance(event, EncodedEvent)
    assert event.labels == "{}"
    assert (np.frombuffer(event.numbers, EVENT_DTYPE)["tag"] == NO_TAG).all()


@pytest.mark.parametrize(("score", "tagged"), [(0.3, False), (0.8, True)])
def test_where_the_category_head_abstains_a_finer_head_must_be_sure(score: float, tagged: bool) -> None:
    heads = {
        "category": HeadScores(["other"], np.full(1, 0.4, np.float32)),
        "fine": HeadScores(["one"], np.full(1, score, np.float32)),
    }
    vectors = np.zeros((1, EMBEDDING_DIM), np.float32)
    [event] = pack_events([_event(0, GOOD)], Encoded(vectors, heads), TAXONOMY)
    tags = np.frombuffer(event.numbers, EVENT_DTYPE)["tag"][0]
    assert (tags[0] != NO_TAG) == tagged

"""Events of one modality → encoded events or rejects, through Beam's RunInference.

A batch is bounded by count and by bytes. Decoding is guarded item by item; a batch that fails in the
model is halved until the poisoned item stands alone, so that its neighbours go through.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import ModelHandler, RunInference
from apache_beam.pvalue import PCollection

from features.errors import PortraitError
from features.schema import (
    ASPECTS,
    EVENT_DTYPE,
    LANGUAGES,
    NO_TAG,
    TAGS_PER_EVENT,
    EncodedEvent,
    Modality,
)
from features.taxonomy import Taxonomy
from models.encoder import OTHER, ContentError, Encoded, Encoder
from models.probes import encoder_fault
from pipelines import metrics
from pipelines.messages.parse import Event, content_key, event_key, topic_key
from pipelines.messages.record import Reason, Rejected
from pipelines.process import worker
from pipelines.settings import Settings

_LOG = logging.getLogger(__name__)
_ASPECT_BIT: Final = {name: i for i, name in enumerate(ASPECTS)}
_LANG_INDEX: Final = {name: i for i, name in enumerate(LANGUAGES)}
_OTHER_LANGUAGE: Final = LANGUAGES.index("other")
_UNITS_PER_ITEM: Final = 1024
"""Batch size is counted in 1024ths of an item, so that one number bounds items and bytes together."""


SURE: Final = 0.5
"""Score from which finer heads speak where ``category`` abstains: a kettle is not "Knits" at 0.2."""


class Encode(beam.PTransform[Any, Any]):
    """``PCollection[Event]`` of one modality → ``events`` (EncodedEvent) and ``rejected``."""

    def __init__(self, modality: Modality, settings: Settings) -> None:
        super().__init__()
        self._handler = EventHandler(modality, settings)

    def expand(self, events: PCollection[Event]) -> Any:
        return (
            events
            | "RunInference" >> RunInference(self._handler)
            | "Part" >> beam.FlatMap(_part).with_outputs("rejected", main="events")
        )


def _part(result: EncodedEvent | Rejected) -> Iterator[Any]:
    yield beam.pvalue.TaggedOutput("rejected", result) if isinstance(result, Rejected) else result


class EventHandler(ModelHandler[Event, EncodedEvent | Rejected, Encoder]):
    """Beam's view of an encoder: the model is loaded once a process, however many DoFns ask for it."""

    def __init__(self, modality: Modality, settings: Settings) -> None:
        super().__init__()
        self._modality = modality
        self._settings = settings
        self._stage = f"Encode{modality.name.capitalize()}"

    def load_model(self) -> Encoder:
        return worker(self._settings).encoders[self._modality]

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        """Full batches at once: growing ones (Beam's default) cost more than they save."""
        models = self._settings.models
        full = models.batch_items * _UNITS_PER_ITEM

        def units(event: Event) -> int:
            return max(_UNITS_PER_ITEM, event_bytes(event) * full // models.batch_bytes)

        return {"min_batch_size": full, "max_batch_size": full, "element_size_fn": units}

    def get_num_bytes(self, batch: Sequence[Event]) -> int:
        return sum(map(event_bytes, batch))

    def run_inference(
        self, batch: Sequence[Event], model: Encoder, inference_args: dict[str, Any] | None = None
    ) -> Iterable[EncodedEvent | Rejected]:
        """One result per event, in no promised order."""
        started_s = time.perf_counter()
        taxonomy = worker(self._settings).taxonomy
        results = list(encode_events(batch, model, taxonomy, self._stage, self._settings.models.batch_bytes))
        metrics.BATCH_ITEMS.labels(modality=model.modality).observe(len(batch))
        metrics.BATCH_SECONDS.labels(modality=model.modality).observe(time.perf_counter() - started_s)
        return results


def event_bytes(event: Event) -> int:
    """Undecoded bytes of an event's record: what a batch holds in memory before decoding."""
    content = event.content
    return len(content) if isinstance(content, bytes) else len(event.record.value or b"")


class EncoderFailedError(PortraitError):
    """The encoder itself is broken: it fails on its probe too. The records are not to blame; the call may be
    repeated."""


class Decoded(NamedTuple):
    """A sample ready for its encoder."""

    sample: Any


class Failure(NamedTuple):
    """Why one content cannot be encoded: a reason, the exception's class, and a text without content."""

    reason: Reason
    error: str
    detail: str


def decode(content: Any, encoder: Encoder) -> Decoded | Failure:
    """Decode one content; whatever a decoder raises is that content's failure, never its neighbours'."""
    try:
        return Decoded(encoder.decode(content))
    except ContentError as error:
        return Failure(_reason(error.code), type(error).__name__, str(error))
    except Exception as error:
        _refuse_broken(encoder)
        name = type(error).__name__
        _LOG.warning("decoding a %s failed with %s; it is rejected", encoder.modality, name)
        return Failure(Reason.INTERNAL_ERROR, name, "expected a content error, got another exception")


def _reason(code: str) -> Reason:
    """The reject code that an encoder names; one that is unknown here costs its content, not the batch."""
    try:
        return Reason(code)
    except ValueError:
        _LOG.warning("an encoder named the reject code %r, which is none; internal_error is used", code)
        return Reason.INTERNAL_ERROR


def _refuse_broken(encoder: Encoder) -> None:
    """Raises EncoderFailedError where the encoder fails on its probe: then no content is to blame."""
    if (fault := encoder_fault(encoder)) is not None:
        raise EncoderFailedError(
            f"models.{encoder.modality}: expected the encoder on {encoder.device} to encode its probe, got "
            f"{type(fault).__name__}; check the memory, the device and the weights, then start again: no "
            "record is lost"
        ) from fault


def encode_halving(
    samples: Sequence[Any], encoder: Encoder, start: int = 0
) -> Iterator[tuple[int, Encoded | Exception]]:
    """Encode samples, halving a batch that fails: (place of the first, result); an exception stands alone.

    Raises EncoderFailedError where the encoder fails on its probe too.
    """
    if not samples:
        return
    try:
        encoded = encoder.encode(samples)
        if not np.isfinite(encoded.embedding).all():
            raise FloatingPointError("embedding is not finite")
        yield start, encoded
    except Exception as error:
        if len(samples) == 1:
            _refuse_broken(encoder)
            _LOG.warning(
                "encoding a %s failed with %s; it is rejected", encoder.modality, type(error).__name__
            )
            yield start, error
            return
        metrics.BATCHES_HALVED.labels(modality=encoder.modality).inc()
        half = len(samples) // 2
        yield from encode_halving(samples[:half], encoder, start)
        yield from encode_halving(samples[half:], encoder, start + half)


def encode_events(
    events: Sequence[Event], encoder: Encoder, taxonomy: Taxonomy, stage: str, max_bytes: int
) -> Iterator[EncodedEvent | Rejected]:
    """Encode a batch: every event comes back once, as :class:`EncodedEvent` or :class:`Rejected`.

    Decoded samples of more than ``max_bytes`` together are run in several parts.
    """
    waiting: list[Event] = []
    samples: list[Any] = []
    held_bytes = 0
    for event in events:
        decoded = decode(event.content, encoder)
        if isinstance(decoded, Failure):
            yield _rejected(event, stage, decoded)
            continue
        size = encoder.sample_bytes(decoded.sample)
        if samples and held_bytes + size > max_bytes:
            yield from _infer(waiting, samples, encoder, taxonomy, stage)
            waiting, samples, held_bytes = [], [], 0
        waiting.append(event)
        samples.append(decoded.sample)
        held_bytes += size
    yield from _infer(waiting, samples, encoder, taxonomy, stage)


def _infer(
    events: list[Event], samples: list[Any], encoder: Encoder, taxonomy: Taxonomy, stage: str
) -> Iterator[EncodedEvent | Rejected]:
    for start, encoded in encode_halving(samples, encoder):
        if isinstance(encoded, Exception):
            detail = "expected a finite embedding, got an error in the model"
            failure = Failure(Reason.INFERENCE_FAILED, type(encoded).__name__, detail)
            yield _rejected(events[start], stage, failure)
        else:
            yield from pack_events(events[start : start + len(encoded.embedding)], encoded, taxonomy)


def _rejected(event: Event, stage: str, failure: Failure) -> Rejected:
    return Rejected(event.record, failure.reason, stage, failure.error, failure.detail)


def pack_events(events: Sequence[Event], encoded: Encoded, taxonomy: Taxonomy) -> Iterable[EncodedEvent]:
    """Columns of an encoder → one :class:`EncodedEvent` per event, in order."""
    n = len(events)
    numbers = np.zeros(n, EVENT_DTYPE)
    set_sources(numbers, events)
    numbers["embedding"] = encoded.embedding
    numbers["sentiment"] = np.nan if encoded.sentiment is None else encoded.sentiment
    numbers["lang"] = [_LANG_INDEX.get(lang, _OTHER_LANGUAGE) for lang in encoded.lang or ["none"] * n]
    for i, aspects in enumerate(encoded.aspects):
        for name, sign in aspects.items():
            numbers["aspect_mask"][i] |= 1 << _ASPECT_BIT[name]
            numbers["aspect_sentiment"][i, _ASPECT_BIT[name]] = sign
    numbers["tag"] = NO_TAG
    category = encoded.heads.get("category")
    heads = [(name, head.labels, head.scores.tolist()) for name, head in encoded.heads.items()]
    for i, event in enumerate(events):
        verdicts = {name: (labels[i], scores[i]) for name, labels, scores in heads if labels[i] != OTHER}
        silent = category is not None and category.labels[i] == OTHER
        for k, (slot, score) in enumerate(tags_of(verdicts, taxonomy, SURE if silent else 0.0)):
            numbers["tag"][i, k] = slot
            numbers["tag_score"][i, k] = score
        text = json.dumps({head: [label, round(score, 4)] for head, (label, score) in verdicts.items()})
        yield EncodedEvent(
            event.user_id, event.source, event.event_id, event.record.topic, text, numbers[i].tobytes()
        )


def set_sources(numbers: np.ndarray[Any, Any], events: Sequence[Event]) -> None:
    """Fill what is known before inference: times, source position, identity, kind and modality."""
    numbers["event_time_us"] = [e.event_time_us for e in events]
    numbers["record_time_us"] = [e.record.timestamp_ms * 1000 for e in events]
    numbers["topic_key"] = [topic_key(e.record.topic_id) for e in events]
    numbers["partition"] = [e.record.partition for e in events]
    numbers["offset"] = [e.record.offset for e in events]
    numbers["event_key"] = [event_key(e.source, e.event_id) for e in events]
    numbers["content_key"] = [content_key(e) for e in events]
    numbers["kind"] = [e.kind for e in events]
    numbers["modality"] = [e.modality for e in events]


def tags_of(
    verdicts: Mapping[str, tuple[str, float]], taxonomy: Taxonomy, least: float = 0.0
) -> list[tuple[int, float]]:
    """Heads' verdicts → (slot, score): one category of the first level, then its surest child.

    The ``category`` head decides; without a verdict of its own that the taxonomy knows, the surest
    finer head does, if its score is at least ``least``. A finer label of another category is dropped:
    one event speaks of one thing.
    """
    found = [
        (category, score)
        for head, (label, score) in verdicts.items()
        if (category := taxonomy.category_of(head, label)) is not None and score >= least
    ]
    if not found:
        return []
    by_head = verdicts.get("category")
    decided = taxonomy.category_of("category", by_head[0]) if by_head else None
    if by_head is not None and decided is not None:
        top, top_score = decided.parent or decided.id, by_head[1]
    else:
        surest, top_score = max(found, key=lambda pair: pair[1])
        top = surest.parent or surest.id
    tags = [(taxonomy.slots[top], top_score)]
    children = {taxonomy.slots[c.id]: s for c, s in sorted(found, key=lambda p: p[1]) if c.parent == top}
    tags += sorted(children.items(), key=lambda pair: -pair[1])
    return tags[:TAGS_PER_EVENT]

"""The whole graph, top to bottom: what every runner runs. Holds no DoFn."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from features.schema import Modality
from pipelines.messages.parse import ParseEvents
from pipelines.metrics import count_ignored_fields
from pipelines.settings import Endless, Settings
from pipelines.steps.encode import Encode
from pipelines.steps.fetch_media import FetchMedia
from pipelines.steps.fold import FoldProfiles, ShardByUser
from pipelines.steps.write import WriteChangelog, WriteEvents, WriteProfiles, WriteRejected


def build(
    pipeline: beam.Pipeline,
    source: beam.PTransform[Any, Any],
    settings: Settings,
    panes: Endless | None = None,
) -> None:
    """Add the graph to ``pipeline``: ``source`` gives :class:`~pipelines.messages.record.Record` elements.

    Read, parse, fetch, decode and infer are one fused stage; only :class:`EncodedEvent` (about 300
    bytes) crosses the one shuffle, by shard of the user. An endless source needs ``panes``.
    """
    parsed = pipeline | "ReadEvents" >> source | ParseEvents(settings, count_ignored_fields)
    fetched = parsed.events | FetchMedia(settings)

    encoded = [
        fetched[modality.name] | f"Encode{modality.name.capitalize()}" >> Encode(modality, settings)
        for modality in (Modality.TEXT, Modality.IMAGE, Modality.VOICE)
    ]

    folded = (
        (*(branch.events for branch in encoded), parsed.controls)
        | "Flatten" >> beam.Flatten()
        | ShardByUser(settings.fold.shards, panes)
        | FoldProfiles(settings, panes)
    )

    folded.profiles | WriteProfiles(settings, panes)
    folded.events | WriteEvents(settings, panes)
    if settings.outputs.changelog:
        (folded.profiles, folded.erased) | "Changes" >> beam.Flatten() | WriteChangelog(settings)

    rejected = (parsed.rejected, fetched.rejected, *(branch.rejected for branch in encoded))
    rejected | "Rejected" >> beam.Flatten() | WriteRejected(settings)

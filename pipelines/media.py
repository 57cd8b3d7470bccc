"""Claim checks → the bytes they stand for: listed places only, bounded in size and time, sha256 verified.

A ``file:`` URI is opened by its real path, so that no symlink leads out of a root of ``media.roots``. An
``http(s):`` URI goes to a host of ``media.hosts`` (``name``, or ``name:port`` for another port than 80 and
443), without redirects. The name is resolved once and the connection goes to that address: a listed name
that resolves to a private, loopback or link-local address is refused, unless the list holds that address
itself (``127.0.0.1:8000``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apache_beam as beam

from features.schema import Modality
from pipelines.events import Event
from pipelines.records import Rejected
from pipelines.settings import Media, Settings

STAGE: Final = "FetchMedia"


def resolve(event: Event, media: Media) -> Event | Rejected:
    """The event with its content fetched; unchanged where it has none to fetch. Never raises."""
    raise NotImplementedError


class FetchMedia(beam.PTransform[Any, Any]):
    """``PCollection[Event]`` → one output per modality (``TEXT``, ``IMAGE``, ``VOICE``) and ``rejected``."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._media = settings.media

    def expand(self, events: beam.PCollection[Event]) -> Any:
        return events | "Fetch" >> beam.ParDo(_FetchFn(self._media)).with_outputs(
            *(m.name for m in (Modality.TEXT, Modality.IMAGE, Modality.VOICE)), "rejected"
        )


class _FetchFn(beam.DoFn):
    def __init__(self, media: Media) -> None:
        self._media = media

    def process(self, event: Event) -> Iterator[Any]:
        fetched = event if event.ref is None else resolve(event, self._media)
        tag = "rejected" if isinstance(fetched, Rejected) else fetched.modality.name
        yield beam.pvalue.TaggedOutput(tag, fetched)

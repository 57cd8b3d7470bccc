"""What one process holds once, however many DoFns a runner makes in it: models, taxonomy, store, clients.

DoFns are pickled with their settings and ask :func:`worker` for the rest, so nothing that cannot or
must not be pickled (connections, weights, secrets) is ever part of a pipeline.
"""

from __future__ import annotations

import hashlib
import threading
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from features.fold.packed_state import Spaces
from features.online import ProfileStore
from features.schema import Modality
from features.taxonomy import Taxonomy, load_taxonomy
from models.encoder import Encoder
from pipelines.settings import Models, Settings

if TYPE_CHECKING:
    from models.fusion import Fusion


class SpaceNames(NamedTuple):
    """Names (hex) of what vectors mean; vectors of two spaces are never added or compared."""

    event_space: str
    profile_space: str


class Worker:
    """Lazily made parts of one process. Made through :func:`worker` only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def taxonomy(self) -> Taxonomy:
        return _taxonomy(self.settings.taxonomy)

    @cached_property
    def encoders(self) -> dict[Modality, Encoder]:
        """One encoder per modality, on the device of the settings."""
        return _encoders(self.settings.models, self.settings.taxonomy)

    @cached_property
    def fusion(self) -> Fusion:
        return _fusion(self.settings.models.fusion, self.settings.models.fusion_kind)

    @cached_property
    def spaces(self) -> SpaceNames:
        """``event_space`` = hash of the encoders; ``profile_space`` = that, the fusion and the half-lives."""
        prints = [self.encoders[m].fingerprint for m in sorted(self.encoders)]
        event_space = hashlib.sha256(" ".join(prints).encode()).hexdigest()
        parts = [event_space, self.fusion.fingerprint, *map(str, self.settings.fold.half_lives_s)]
        return SpaceNames(event_space, hashlib.sha256(" ".join(parts).encode()).hexdigest())

    @cached_property
    def state_spaces(self) -> Spaces:
        """The same as states hold it; made once, since it hashes the taxonomy for every length it had."""
        return Spaces.of(*self.spaces, self.taxonomy)

    @cached_property
    def store(self) -> ProfileStore:
        from features.online.open import open_store

        return open_store(self.settings.feature_repo)


# Settings of two stores may name the same models (a backfill's do): they are loaded once.
@cache
def _taxonomy(file: Path | None) -> Taxonomy:
    return load_taxonomy(file)


@cache
def _encoders(models: Models, taxonomy_file: Path | None) -> dict[Modality, Encoder]:
    from models.registry import load_encoders

    taxonomy = _taxonomy(taxonomy_file)
    loaded = load_encoders(
        device=models.device,
        text=models.text,
        image=models.image,
        voice=models.voice,
        words=taxonomy.words,
        taxonomy=taxonomy,
        threads=models.threads,
        emotion=models.emotion,
    )
    return {Modality[name.upper()]: encoder for name, encoder in loaded.items()}


@cache
def _fusion(file: Path | None, kind: str) -> Fusion:
    from models.fusion import load_fusion

    return load_fusion(file, kind)


_workers: dict[str, Worker] = {}
_lock = threading.Lock()


def worker(settings: Settings) -> Worker:
    """The process's one :class:`Worker` for these settings."""
    key = repr(settings)
    with _lock:
        if key not in _workers:
            _workers[key] = Worker(settings)
        return _workers[key]

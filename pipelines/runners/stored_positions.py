"""The position book of endless jobs: the online store, as every worker reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from features.online import SourcePosition
from pipelines.process import worker
from pipelines.settings import Settings


@dataclass(frozen=True)
class StoredPositions:
    """A :class:`~pipelines.kafka.safe_offsets.PositionBook` that travels in the pipeline as its settings."""

    settings: Settings

    def read(self, namespace: str) -> dict[SourcePosition, int]:
        """Raises StoreError."""
        return worker(self.settings).store.read_positions(namespace)

    def write(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        """Raises StoreError."""
        worker(self.settings).store.write_positions(namespace, positions)

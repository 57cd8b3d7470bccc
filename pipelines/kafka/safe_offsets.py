"""Which positions of an endless reader may be committed: only those whose records took their effect."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from features.online import SourcePosition

POSITIONS: Final = "sources"
"""Under which name the store mirrors the positions of the source topics."""


class PositionBook(Protocol):
    """Numbers by partition, kept outside the runner and shared by all workers; travels in the pipeline."""

    def read(self, namespace: str) -> dict[SourcePosition, int]: ...

    def write(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        """Partitions not named keep what they had. Raises StoreError."""


class Settled:
    """Positions of one reader whose records have left every pane.

    A runner finalizes a bundle after a checkpoint, but may finalize later ones with it, and what it covers
    may still wait in panes: so a position is settled once another bundle is finalized ``after_s`` later.
    That one proves that the job did not merely wait. A start without the checkpoint then loses nothing, and
    what it reads again the fold's anti-replay window absorbs.
    """

    def __init__(self, after_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._after_s = after_s
        self._clock = clock
        self._finalized: deque[tuple[float, dict[SourcePosition, int]]] = deque()

    def finalizer(self, positions: Mapping[SourcePosition, int]) -> Callable[[], None]:
        """What a runner calls, from any thread, once the bundle that read up to ``positions`` is durable."""
        held = dict(positions)
        return lambda: self._finalized.append((self._clock(), held))

    def due(self) -> dict[SourcePosition, int]:
        """The newest settled positions since the last call; empty where there are none."""
        newest: dict[SourcePosition, int] = {}
        while self._finalized and self._finalized[-1][0] - self._finalized[0][0] >= self._after_s:
            newest |= self._finalized.popleft()[1]
        return newest

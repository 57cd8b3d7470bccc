"""That a worker runs the code that its job was submitted with: others unpickle it into something else."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import apache_beam as beam

from features.errors import PortraitError
from pipelines import __version__


@dataclass(frozen=True)
class Versions:
    """What must be equal on both sides."""

    beam: str
    portrait: str
    python: str

    @classmethod
    def here(cls) -> Versions:
        """Those of this process."""
        return cls(beam.__version__, __version__, f"{sys.version_info.major}.{sys.version_info.minor}")

    def check_here(self) -> None:
        """Raises PortraitError where this process has others."""
        if (ours := Versions.here()) != self:
            raise PortraitError(
                f"worker: expected {self} as the job was submitted with, got {ours}; install the same in the "
                "workers' environment, or submit from theirs"
            )

    def __str__(self) -> str:
        return f"apache-beam {self.beam}, portrait {self.portrait}, Python {self.python}"

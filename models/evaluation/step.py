"""One step of the quality report: what it needs, what it costs, and where its results are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

Progress = Callable[[str], None]
RESULT: Final = "result.json"


@dataclass(frozen=True)
class Budget:
    """How much is computed: everything, or a taste of it."""

    name: str
    folds: int
    seeds: int
    share: float
    """Of the texts and photos, by group: what is trained on and judged."""
    image_epochs: int
    """Of cross-fitted and repeated trainings; the shipped weights took more."""
    voice_epochs: int
    voice_copies: int
    users: int | None
    """Of the joined users; None: all."""
    fusion_seeds: int
    repeats: int
    """Bootstrap draws and permutations."""
    explained: int
    """Samples of each modality whose verdict is explained."""
    pace: float
    """Factor on the steps' estimates of seconds."""


FULL: Final = Budget("full", 5, 3, 1.0, 8, 12, 2, None, 3, 1000, 120, 1.0)
QUICK: Final = Budget("quick", 2, 1, 0.06, 1, 1, 0, 200, 1, 500, 12, 0.08)


class Table(NamedTuple):
    """A table of the report; a cell is text, a number, None or an ``Estimate``."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""


@dataclass
class Section:
    """What a step adds to the report: all of it is JSON, the page is drawn from that alone."""

    tables: list[Table] = field(default_factory=list)
    plots: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """For programs: the same numbers by name."""

    def to_json(self) -> dict[str, Any]:
        """Tables with named parts, estimates as ``{value, low, high}``, numbers rounded to 1e-5."""
        return {
            "tables": [plain(t) for t in self.tables],
            "plots": plain(self.plots),
            "notes": self.notes,
            "figures": plain(self.figures),
        }


def plain(value: Any) -> Any:
    """Any result → what JSON knows; NaN becomes None."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


@dataclass(frozen=True)
class Context:
    """What a step may read, and where it writes."""

    data: Path
    budget: Budget
    folder: Path
    """The step's own, for arrays and weights that later steps read."""
    folders: Mapping[str, Path]
    """Of the steps it needs."""
    say: Progress
    weights: Path
    """Folder of the weights that are judged."""


@dataclass(frozen=True)
class Step:
    """A part of the report. Equal inputs give an equal key, and a key that was computed is not again."""

    name: str
    title: str
    run: Callable[[Context], Section]
    files: tuple[str, ...] = ()
    """Of the data folder; without one of them the step is left out by name."""
    weights: tuple[str, ...] = ()
    """Shipped models that it judges."""
    code: tuple[str, ...] = ()
    """Modules beside the step's own whose change makes its results old."""
    needs: tuple[str, ...] = ()
    """Steps whose results it reads."""
    seconds: float = 10.0
    """One core, measured once: for the first estimate of what is left."""
    shown: bool = True
    """Whether it is a section of the page."""

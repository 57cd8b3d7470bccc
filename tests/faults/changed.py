"""The ``portrait`` command of changed code: ``python -m tests.faults.changed CHANGE ARGUMENT…``.

Only the submitting side is changed, as with a job that was submitted by an older release.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import apache_beam as beam

from pipelines import graph
from pipelines.cli.main import main
from pipelines.kafka.streaming_source import Versions
from pipelines.runners.flink import preflight
from pipelines.steps.fold import FoldProfiles
from pipelines.steps.write import WriteRejected


class FoldShoppers(FoldProfiles):
    """A step's new name."""


def _renamed() -> None:
    patch.object(graph, "FoldProfiles", FoldShoppers).start()


def _added() -> None:
    def expand(self: Any, rejected: Any) -> Any:
        _ = rejected | "Audit" >> beam.Map(repr)
        return WriteRejected.expand(self, rejected)

    changed = type("WriteRejected", (WriteRejected,), {"expand": expand})
    patch.object(graph, "WriteRejected", changed).start()


def _of_another_beam() -> None:
    here = Versions.here()
    other = Versions("2.0.0", here.portrait, here.python)
    patch.object(Versions, "here", lambda: other).start()


def _of_another_machine() -> None:
    """The cluster's folders and worker pools are out of the command's sight, as on other machines."""
    patch.object(preflight, "_LOOPBACK", frozenset()).start()


CHANGES: Final[dict[str, Callable[[], None]]] = {
    "renamed": _renamed,
    "added": _added,
    "version": _of_another_beam,
    "remote": _of_another_machine,
}

if __name__ == "__main__":
    CHANGES[sys.argv.pop(1)]()
    main()

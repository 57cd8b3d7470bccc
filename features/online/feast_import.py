"""Import Feast and leave the process as it was. Import this before the first ``feast``.

On import Feast 0.67 makes a temporary folder and sets two environment variables, which turn every
metric of ``prometheus_client`` in this process, ours too, into a memory-mapped file
(``feast/metrics.py``), and it changes the global warning filters. Nothing of it happens to a program
that runs Feast itself (``feast serve`` needs it): there Feast is imported already.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Final

_VARIABLES: Final = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")


def _import_feast() -> None:
    # prometheus_client chooses once, when imported, between memory and files.
    import prometheus_client  # noqa: F401

    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.setdefault(
        _VARIABLES[0], os.devnull
    )  # a variable that is set keeps Feast from making a folder
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of its dependencies, not ours to mend
            import feast  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


if "feast" not in sys.modules:
    _import_feast()

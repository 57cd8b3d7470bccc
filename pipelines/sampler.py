"""Shortens what Beam's state sampler adds to the end of every bundle.

A thread samples which step runs, and sleeps up to 200 ms between samples; the end of a bundle joins it, so
a stage waits for what is left of the sleep (apache_beam/runners/worker/statesampler_fast.pyx, ``stop``). A
round of local rounds is four bundles, and nothing reads the samples but Beam's own metrics of time by step.
"""

from __future__ import annotations

from typing import Any, Final

from apache_beam.runners.worker import statesampler

PERIOD_MS: Final = 5


def shorten() -> None:
    """Sample this often in this process; Beam has no option for it. Again changes nothing."""
    sampler: Any = statesampler.StateSampler.__init__
    sampler.__defaults__ = (PERIOD_MS,)

"""Beam's state sampler: the constructor that is changed is still the one that Beam calls."""

from __future__ import annotations

from apache_beam.runners.worker.statesampler import StateSampler
from apache_beam.utils.counters import CounterFactory

from pipelines.runners import local


def test_a_sampler_made_as_beam_makes_it_takes_the_short_period() -> None:
    local.shorten_state_sampling()
    made = StateSampler("fnapi-step-%s", CounterFactory())
    assert made.sampling_period_ms == local.SAMPLING_PERIOD_MS

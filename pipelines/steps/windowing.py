"""When an endless graph hands on what it groups: panes by processing time. Bounded input needs none of this.

What a pane holds is in the runner's checkpoints until it is handed on. The fold needs no order, so nothing
waits for a watermark.
"""

from __future__ import annotations

from typing import Any

import apache_beam as beam
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.trigger import (
    AccumulationMode,
    AfterAny,
    AfterCount,
    AfterProcessingTime,
    Repeatedly,
)
from apache_beam.transforms.window import GlobalWindows

from pipelines.settings import Endless


def fold_panes(endless: Endless) -> beam.WindowInto:
    """The windowing before events are grouped by shard."""
    return _every(AfterAny(_AfterDelay(endless.pane_s), AfterCount(endless.pane_events)))


def history_panes(endless: Endless) -> beam.WindowInto:
    """The windowing before parquet rows are grouped by file."""
    return _every(_AfterDelay(endless.history_s))


def settled_after_s(endless: Endless) -> float:
    """After so long a record's effects have left every pane: twice the longest way."""
    return 2 * (endless.hold_s + endless.pane_s + endless.history_s)


class _AfterDelay(AfterProcessingTime):
    """Of any number of ms: Beam 2.77 writes whole seconds only, though the model has ms."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(delay_s)  # type: ignore[no-untyped-call]

    def to_runner_api(self, context: Any) -> beam_runner_api_pb2.Trigger:
        """The trigger as runners read it."""
        delay = beam_runner_api_pb2.TimestampTransform.Delay(delay_millis=round(self.delay * 1000))
        return beam_runner_api_pb2.Trigger(
            after_processing_time=beam_runner_api_pb2.Trigger.AfterProcessingTime(
                timestamp_transforms=[beam_runner_api_pb2.TimestampTransform(delay=delay)]
            )
        )


def _every(trigger: Any) -> beam.WindowInto:
    return beam.WindowInto(
        GlobalWindows(), trigger=Repeatedly(trigger), accumulation_mode=AccumulationMode.DISCARDING
    )

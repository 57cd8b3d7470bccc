"""When an endless graph hands on what it groups: bounded input needs none of this."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Panes:
    """Panes of an endless job. What they hold is in the runner's checkpoints until it is handed on.

    Processing time alone decides: the fold needs no order, so nothing waits for a watermark.
    """

    fold_s: float = 1.0
    """Longest wait of an encoded event for others of its shard."""
    fold_events: int = 5_000
    """Events of a shard that do not wait any longer."""
    history_s: float = 60.0
    """Longest wait of parquet rows for others of their file."""
    files: int = 1
    """Files of each table per ``history_s``: more of them are written by more workers at once."""

    @property
    def settled_after_s(self) -> float:
        """Age at which a record's effects have long left every pane: twice the longest way."""
        return 2 * (self.fold_s + self.history_s)

    def of_fold(self) -> beam.WindowInto:
        """The windowing before events are grouped by shard."""
        return _every(AfterAny(_AfterDelay(self.fold_s), AfterCount(self.fold_events)))

    def of_history(self) -> beam.WindowInto:
        """The windowing before rows are grouped by file."""
        return _every(_AfterDelay(self.history_s))


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

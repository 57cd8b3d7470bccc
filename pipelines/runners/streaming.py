"""The graph as an endless job, whatever runs it: its source, where that begins, and the pipeline's proto."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2

from features.errors import UsageError
from features.online import ProfileStore, SourcePosition
from pipelines.graph import build
from pipelines.kafka.streaming_source import ReadEvents
from pipelines.runners.prepare import open_reader, source_topics
from pipelines.runners.stored_positions import StoredPositions
from pipelines.settings import Settings
from pipelines.steps.windowing import settled_after_s

Starts = Mapping[SourcePosition, int]


def endless_pipeline(
    settings: Settings, options: PipelineOptions, runner: Any, groups: int, starts: Starts
) -> beam.Pipeline:
    """The graph over ``groups`` reader groups, ready to be submitted; reaches no broker and no store."""
    settings = with_absolute_paths(settings)
    pipeline = beam.Pipeline(runner=runner, options=options)
    source = ReadEvents(
        settings.kafka,
        source_topics(settings),
        groups,
        starts,
        book=StoredPositions(settings),
        hold_s=settings.endless.hold_s,
        settled_after_s=settled_after_s(settings.endless),
    )
    build(pipeline, source, settings, settings.endless)
    return pipeline


def stored_starts(settings: Settings, store: ProfileStore, rewind: int) -> dict[SourcePosition, int]:
    """Where a job without a checkpoint begins: ``rewind`` records before the stored positions.

    What was in flight when the job before it ended is read again; the fold absorbs the rest, as long as the
    margin lies within its anti-replay window. Raises UsageError for a wider one.
    """
    if not 0 <= rewind < settings.fold.window_offsets:
        raise UsageError(
            f"--rewind: expected 0 to {settings.fold.window_offsets - 1} records, which the anti-replay "
            f"window (fold.window_offsets) absorbs, got {rewind}; choose fewer"
        )
    reader = open_reader(settings, store, (0, 1))
    try:
        first = reader.offsets_of("earliest", reader.assigned())
        return {p: max(first[p], offset - rewind) for p, offset in reader.positions().items()}
    finally:
        reader.close()


def with_absolute_paths(settings: Settings) -> Settings:
    """The same settings for a worker that runs in another folder; they must lead there on its machine."""
    absolute: Settings = _absolute(settings)
    return absolute


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.absolute()
    if isinstance(value, tuple):
        return tuple(map(_absolute, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{field.name: _absolute(getattr(value, field.name)) for field in fields(value)}
        )
    return value


def step_names(proto: beam_runner_api_pb2.Pipeline) -> list[str]:
    """The steps that do something, by full name: what a checkpoint's state belongs to."""
    return sorted(
        t.unique_name
        for t in proto.components.transforms.values()
        if t.HasField("spec") and not t.subtransforms
    )


def job_name(settings: Settings) -> str:
    """``portrait-<group>`` in the letters that Flink and Dataflow take."""
    return f"portrait-{re.sub('[^a-z0-9]+', '-', settings.kafka.group_id.lower()).strip('-')}"


def option_names(beam_args: Sequence[str]) -> set[str]:
    """Names of the options among ``beam_args``. Raises UsageError for a word that belongs to none."""
    names: set[str] = set()
    after_name = False
    for word in beam_args:
        if word.startswith("--"):
            name, equals, _ = word[2:].partition("=")
            names.add(name)
            after_name = not equals
        elif after_name:
            after_name = False
        else:
            raise UsageError(
                f"{word}: expected an option of Beam such as --parallelism=4, got this word; "
                "see portrait run --help"
            )
    return names

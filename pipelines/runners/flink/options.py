"""Beam's options of a Flink job: our defaults, what the user gave, and which are known to the job server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from apache_beam.options.pipeline_options import PipelineOptions

from features.errors import UsageError
from pipelines.kafka.key_groups import MAX_PARALLELISM
from pipelines.runners.streaming import job_name, option_names
from pipelines.settings import Settings

DEFAULTS: Final[Mapping[str, str | None]] = {
    "job_endpoint": "localhost:8099",
    "environment_type": "EXTERNAL",
    "environment_config": "localhost:50123",
    "parallelism": "2",
    "max_parallelism": str(MAX_PARALLELISM),
    "checkpointing_interval": "5000",
    "min_pause_between_checkpoints": "1000",
    "max_bundle_time_mills": "200",
    "max_bundle_size": "1000",
    "job_server_timeout": "30",
}
"""Each may be overridden; an option without a value is None."""

ALWAYS: Final[Mapping[str, str | None]] = {
    "streaming": None,
    # Without it a checkpoint that meets an open bundle holds its output back until the next element: an
    # element of the source may then wait for ever, and its partitions are silently unread.
    "finish_bundle_before_checkpointing": None,
    # Flink keeps the last checkpoint of a job that ended, for a restart from it.
    "externalized_checkpoints_enabled": None,
    "retain_externalized_checkpoints_on_cancellation": None,
}
"""What correctness rests on."""

NEEDED: Final = frozenset({"finish_bundle_before_checkpointing", "savepoint_path", "checkpointing_interval"})
"""Options that a job server must know; one that does not is too old, or not Flink's."""


def job_options(settings: Settings, beam_args: Sequence[str], restore: str | None = None) -> PipelineOptions:
    """Our defaults and ``beam_args`` (``--name=value``, ``--name value`` or ``--flag``) together.

    Raises UsageError for words that are no options, and for those that are set here.
    """
    given = option_names(beam_args)
    if clash := given & ({*ALWAYS, "runner", "savepoint_path"} - {"streaming"}):
        raise UsageError(
            f"--{min(clash)}: expected it to be left to portrait run, got it among Beam's options; "
            "drop it (a savepoint is named with --restore)"
        )
    ours = {name: value for name, value in DEFAULTS.items() if name not in given} | dict(ALWAYS)
    if "job_name" not in given:
        ours["job_name"] = job_name(settings)
    if restore is not None:
        ours["savepoint_path"] = restore
    flags = [f"--{name}" if value is None else f"--{name}={value}" for name, value in ours.items()]
    return PipelineOptions([*flags, *beam_args])


def check_known(beam_args: Sequence[str], server_options: frozenset[str]) -> None:
    """Raises UsageError for options that neither Beam nor the job server knows: it would drop them."""
    known = server_options | set(PipelineOptions([]).get_all_options()) | {"requirements_file"}
    unknown = sorted(name for name in option_names(beam_args) if name.replace("-", "_") not in known)
    if unknown:
        raise UsageError(
            f"--{unknown[0]}: expected an option of portrait run, Beam or this job server, got an unknown "
            "one; correct it (see portrait run --help, and Beam's FlinkPipelineOptions)"
        )


def value(options: PipelineOptions, name: str) -> Any:
    """One option's value as it is submitted, also of those that only the job server knows."""
    return options.get_all_options(retain_unknown_options=True).get(name)

"""The graph as an endless job on Google Cloud Dataflow; ``--dry_run`` builds all of it offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, WorkerOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.environments import DockerEnvironment

from features.errors import PortraitError, UsageError
from pipelines.runners.prepare import make_output_topics, ready_store
from pipelines.runners.streaming import (
    Starts,
    endless_pipeline,
    job_name,
    option_names,
    step_names,
    stored_starts,
)
from pipelines.settings import Settings

DEFAULTS: Final[Mapping[str, str | None]] = {
    "streaming": None,
    "experiments": "use_runner_v2",  # splittable DoFns without a bound need it
}
GPU: Final = "accelerator=type:nvidia-tesla-t4;count:1;install-nvidia-driver"
"""Asked for where ``models.device`` is cuda and nothing else is asked. It is a hint on the whole pipeline: on
the encoders alone it would give them workers of their own, and media would cross a shuffle to get there."""
READER_GROUPS: Final = 8
REWIND: Final = 1_000


def run_dataflow(
    settings: Settings, beam_args: Sequence[str], reader_groups: int | None = None, dry_run: bool = False
) -> str:
    """Submit the job, or with ``dry_run`` build it and reach nothing; what to say.

    Raises UsageError for options that do not fit, PortraitError where the extra ``gcp`` is missing.
    """
    options = dataflow_options(settings, beam_args)
    groups = reader_groups or READER_GROUPS
    if dry_run:
        return describe(dataflow_proto(settings, options, groups))
    if find_spec("apitools") is None:
        raise PortraitError(
            "--runner dataflow: expected Beam's Google Cloud parts, got none; "
            "pip install 'portrait-profiles[gcp]'"
        )
    store = ready_store(settings)
    make_output_topics(settings)
    starts = stored_starts(settings, store, REWIND)
    result: Any = endless_pipeline(settings, options, "DataflowRunner", groups, starts).run()
    return f"job {result.job_id()} is submitted"


def dataflow_options(settings: Settings, beam_args: Sequence[str]) -> PipelineOptions:
    """Our defaults and the user's options together. Raises UsageError."""
    given = option_names(beam_args)
    if missing := sorted({"project", "region", "temp_location"} - given):
        raise UsageError(
            f"--{missing[0]}: expected it for --runner dataflow, got none; give --project, --region and "
            "--temp_location=gs://…"
        )
    ours = {name: value for name, value in DEFAULTS.items() if name not in given or name == "experiments"}
    ours |= {} if "job_name" in given else {"job_name": job_name(settings)}
    if "sdk_container_image" in given and "sdk_location" not in given:
        ours["sdk_location"] = "container"  # the image holds Beam and Portrait: nothing is staged
    if settings.models.device == "cuda" and not given & {"resource_hints", "resource_hint"}:
        ours["resource_hints"] = GPU
    flags = [f"--{name}" if value is None else f"--{name}={value}" for name, value in ours.items()]
    return PipelineOptions([*flags, *beam_args])


def dataflow_proto(
    settings: Settings, options: PipelineOptions, groups: int, starts: Starts | None = None
) -> beam_runner_api_pb2.Pipeline:
    """The pipeline as it would be submitted; needs neither network nor Google's libraries."""
    pipeline = endless_pipeline(settings, options, None, groups, starts or {})
    image = options.view_as(WorkerOptions).sdk_container_image
    environment = (
        DockerEnvironment.from_container_image(image)
        if image
        else DockerEnvironment.from_options(options.view_as(PortableOptions))
    )
    proto: beam_runner_api_pb2.Pipeline = pipeline.to_runner_api(default_environment=environment)
    return proto


def describe(proto: beam_runner_api_pb2.Pipeline) -> str:
    """What the job is made of, in lines: steps, worker images, resource hints."""
    lines = [f"step  {name}" for name in step_names(proto)]
    for environment in proto.components.environments.values():
        payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
        hints = {
            urn.rpartition(":resources:")[2]: value.decode()
            for urn, value in environment.resource_hints.items()
        }
        asked = "".join(f", {name} {value}" for name, value in sorted(hints.items()))
        lines.append(f"image {payload.container_image or 'none'}{asked}")
    return "\n".join([*lines, "built offline; nothing was submitted"])

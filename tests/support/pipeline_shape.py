"""A pipeline proto as text: what it does, without what changes by machine (pickles, paths, versions).

``python -m tests.support.pipeline_shape`` writes the golden file of the endless job anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from apache_beam.portability.api import beam_runner_api_pb2
from google.protobuf.text_format import MessageToString
from google.protobuf.wrappers_pb2 import BytesValue

from pipelines.runners.dataflow import dataflow_options, dataflow_proto
from pipelines.settings import Settings, load_settings
from tests.support.folders import ROOT

GOLDEN: Final = ROOT / "tests/unit/pipelines/runners/golden" / "endless_pipeline.txt"
RENEW: Final = "python -m tests.support.pipeline_shape"
WHOLE: Final = ("outputs.changelog=profiles", "models.device=cuda")
"""Settings with which the graph has every step, and resource hints."""
PLACE: Final = ("--project=p", "--region=us-central1", "--temp_location=gs://bucket/tmp")
IMAGE: Final = "registry/portrait:1"

_MAIN: Final = "None"
"""Beam's tag of an output that has no name."""
_PARDO: Final = "beam:transform:pardo:v1"
_PICKLED: Final = "beam:coder:pickled_python:v1"


def whole_proto(settings: Settings) -> beam_runner_api_pb2.Pipeline:
    """The endless job of ``settings`` for Dataflow, in :data:`IMAGE`; reaches nothing."""
    options = dataflow_options(settings, (*PLACE, f"--sdk_container_image={IMAGE}"))
    return dataflow_proto(settings, options, groups=2)


def shape(proto: beam_runner_api_pb2.Pipeline) -> str:
    """Every step in the order of the graph, and every environment with its steps.

    A step has its URN, what it is fed with (by the step and tag that give it) and what it gives: the coder of
    each output, whether it is bounded, and the windowing where that is another than its input's.
    """
    return "\n".join([*_Shape(proto).lines(), ""])


class _Shape:
    def __init__(self, proto: beam_runner_api_pb2.Pipeline) -> None:
        self._proto = proto
        self._parts = proto.components
        self._givers = {
            collection: t.unique_name if tag == _MAIN else f"{t.unique_name} [{tag}]"
            for t in self._parts.transforms.values()
            if not t.subtransforms
            for tag, collection in t.outputs.items()
        }

    def lines(self) -> Iterator[str]:
        steps = [step for root in self._proto.root_transform_ids for step in self._steps(root)]
        yield from sorted(f"requires {urn}" for urn in self._proto.requirements)
        environments: dict[str, list[str]] = {}
        for step in steps:
            yield ""
            yield from self._step(step)
            if step.environment_id:
                environments.setdefault(self._environment(step.environment_id), []).append(step.unique_name)
        for environment, names in sorted(environments.items()):
            yield f"\nenvironment {environment}"
            yield from (f"  {name}" for name in names)

    def _steps(self, name: str) -> Iterator[Any]:
        """What does something within a transform; a group is there in the names of its steps."""
        transform = self._parts.transforms[name]
        if not transform.subtransforms:
            yield transform
        for inner in transform.subtransforms:
            yield from self._steps(inner)

    def _step(self, step: Any) -> Iterator[str]:
        yield f"step {step.unique_name}"
        yield f"  does {step.spec.urn}{self._traits(step.spec)}"
        fed = sorted(step.inputs.items(), key=lambda item: self._givers[item[1]])
        yield from (f"  from {self._givers[collection]}" for _, collection in fed)
        before = {self._windowing(collection) for _, collection in fed}
        for tag, collection in sorted(step.outputs.items()):
            given = self._parts.pcollections[collection]
            bounded = beam_runner_api_pb2.IsBounded.Enum.Name(given.is_bounded).lower()
            yield f"  gives {'' if tag == _MAIN else f'[{tag}] '}{self._coder(given.coder_id)}, {bounded}"
            if {self._windowing(collection)} != before:
                yield f"    {self._windowing(collection)}"

    def _traits(self, spec: Any) -> str:
        """What a ParDo asks of the runner."""
        if spec.urn != _PARDO:
            return ""
        pardo = beam_runner_api_pb2.ParDoPayload.FromString(spec.payload)
        traits = [f", split by {self._coder(pardo.restriction_coder_id)}"] * bool(pardo.restriction_coder_id)
        traits += [", finalizes bundles"] * pardo.requests_finalization
        for kind in ("state_specs", "timer_family_specs", "side_inputs"):
            traits += [f", {kind} {' '.join(sorted(named))}"] if (named := getattr(pardo, kind)) else []
        return "".join(traits)

    def _windowing(self, collection: str) -> str:
        strategy = self._parts.windowing_strategies[
            self._parts.pcollections[collection].windowing_strategy_id
        ]
        accumulation = beam_runner_api_pb2.AccumulationMode.Enum.Name(strategy.accumulation_mode).lower()
        trigger = MessageToString(strategy.trigger, as_one_line=True)
        return (
            f"windows {strategy.window_fn.urn}, {trigger}, {accumulation}, late {strategy.allowed_lateness}"
        )

    def _coder(self, name: str) -> str:
        coder = self._parts.coders[name]
        if coder.spec.urn == _PICKLED:  # Beam writes the class name before the pickle
            pickled: bytes = BytesValue.FromString(coder.spec.payload).value
            return pickled.partition(b"$")[0].decode()
        inner = ", ".join(map(self._coder, coder.component_coder_ids))
        short = coder.spec.urn.removeprefix("beam:coder:")
        return f"{short}({inner})" if inner else short

    def _environment(self, name: str) -> str:
        environment = self._parts.environments[name]
        hints: Mapping[str, bytes] = environment.resource_hints
        image = beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        return " ".join(
            [environment.urn, image, *(f"{urn}={value.decode()}" for urn, value in sorted(hints.items()))]
        )


def main() -> None:
    GOLDEN.write_text(shape(whole_proto(load_settings(overrides=WHOLE, environment={}))), encoding="utf-8")


if __name__ == "__main__":
    main()

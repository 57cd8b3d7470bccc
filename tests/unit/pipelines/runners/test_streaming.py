"""The endless job as it is submitted: stable steps, no secret inside, hints and images, absolute paths."""

from __future__ import annotations

import base64
import bz2
import difflib
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from features.errors import UsageError
from features.schema import Modality
from pipelines.runners.dataflow import GPU, dataflow_options, dataflow_proto, run_dataflow
from pipelines.runners.streaming import step_names, with_absolute_paths
from pipelines.settings import Settings, load_settings
from tests.support.pipeline_shape import GOLDEN, IMAGE, PLACE, RENEW, WHOLE, shape, whole_proto

SECRET = "correct-horse-battery-staple"  # noqa: S105 - planted, and looked for


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose secrets are in a file and in the environment."""
    password = tmp_path_factory.mktemp("secret") / "password"
    password.write_text(SECRET)
    return load_settings(
        overrides=[
            *WHOLE,
            "kafka.security.protocol=SASL_PLAINTEXT",
            "kafka.security.sasl_mechanism=PLAIN",
            "kafka.security.sasl_username=env:PLANTED_USER",
            f"kafka.security.sasl_password=file:{password}",
        ]
    )


@pytest.fixture(scope="module")
def proto(settings: Settings) -> Iterator[beam_runner_api_pb2.Pipeline]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANTED_USER", SECRET)
        yield whole_proto(settings)


def test_the_pipeline_keeps_its_shape(proto: beam_runner_api_pb2.Pipeline) -> None:
    """Runners match state and updates by names and coders: renew the file only with a release note."""
    golden = GOLDEN.read_text(encoding="utf-8").splitlines()
    changed = "\n".join(difflib.unified_diff(golden, shape(proto).splitlines(), "golden", "built", n=2))
    assert not changed, f"{changed}\nif this change is meant, renew {GOLDEN.name}: {RENEW}"


def test_the_shape_tells_what_a_checkpoint_or_an_update_depends_on(
    proto: beam_runner_api_pb2.Pipeline,
) -> None:
    told = shape(proto)
    changes: dict[str, Callable[[Any], object]] = {
        "step": lambda p: setattr(_step(p, "FoldProfiles/Fold/ParDo(_FoldFn)"), "unique_name", "Fold"),
        "urn": lambda p: setattr(_step(p, "Flatten").spec, "urn", "other"),
        "input": lambda p: _step(p, "Flatten").inputs.popitem(),
        "coder": lambda p: setattr(_given_by(p, "WriteEvents/Pack"), "coder_id", _a_coder(p, "bytes")),
        "delay": _shorten_triggers,
        "hint": lambda p: [e.resource_hints.clear() for e in p.components.environments.values()],
        "requirement": lambda p: p.requirements.pop(),
    }
    for name, change in changes.items():
        changed = beam_runner_api_pb2.Pipeline.FromString(proto.SerializeToString())
        change(changed)
        assert shape(changed) != told, name


def test_the_shape_tells_nothing_of_this_machine(proto: beam_runner_api_pb2.Pipeline) -> None:
    told = shape(proto)
    for of_this_machine in (str(Path.cwd()), sys.prefix, beam.__version__):
        assert of_this_machine not in told


def _step(pipeline: beam_runner_api_pb2.Pipeline, name: str) -> Any:
    return next(t for t in pipeline.components.transforms.values() if t.unique_name == name)


def _given_by(pipeline: beam_runner_api_pb2.Pipeline, name: str) -> Any:
    return pipeline.components.pcollections[next(iter(_step(pipeline, name).outputs.values()))]


def _a_coder(pipeline: beam_runner_api_pb2.Pipeline, kind: str) -> str:
    coders: Mapping[str, Any] = pipeline.components.coders
    return next(name for name, coder in coders.items() if coder.spec.urn == f"beam:coder:{kind}:v1")


def _shorten_triggers(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    for strategy in pipeline.components.windowing_strategies.values():
        for inner in _triggers(strategy.trigger):
            for transform in inner.after_processing_time.timestamp_transforms:
                transform.delay.delay_millis //= 2


def test_no_secret_travels_in_the_pipeline(proto: beam_runner_api_pb2.Pipeline, settings: Settings) -> None:
    found = list(unpacked(proto.SerializeToString()))
    assert not [data for data in found if SECRET.encode() in data]
    reference = str(settings.kafka.security.sasl_password).encode()
    assert [data for data in found if reference in data]  # so it was unpacked where a secret would be


def unpacked(data: bytes) -> Iterator[bytes]:
    """The proto's bytes and every payload in it, decoded and decompressed as Beam packs pickles."""
    yield data
    pipeline = beam_runner_api_pb2.Pipeline.FromString(data)
    for transform in pipeline.components.transforms.values():
        yield transform.spec.payload
        if transform.spec.urn in ("beam:transform:pardo:v1",):
            inner = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).do_fn.payload
            yield inner
            yield from _decoded(inner)


def _decoded(payload: bytes) -> Iterator[bytes]:
    for unpack in (bz2.decompress, zlib.decompress):
        for packed in (payload, _base64(payload)):
            try:
                yield unpack(packed)
            except (OSError, ValueError, zlib.error):
                continue


def _base64(payload: bytes) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError:
        return b""


def test_every_step_runs_in_the_named_image_with_the_gpu_hint(proto: beam_runner_api_pb2.Pipeline) -> None:
    environments = proto.components.environments
    used = {t.environment_id for t in proto.components.transforms.values() if t.environment_id}
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(environments[name].payload).container_image
        for name in used
    }
    assert images == {IMAGE}
    hints = {
        name: environments[t.environment_id].resource_hints
        for name, t in proto.components.transforms.items()
        if t.spec.urn == "beam:transform:pardo:v1"
    }
    wanted = GPU.partition("=")[2].encode()
    assert hints
    assert all(wanted in dict(found).values() for found in hints.values())


def test_inference_and_the_endless_source_are_in_the_graph(proto: beam_runner_api_pb2.Pipeline) -> None:
    steps = step_names(proto)
    for modality in (Modality.TEXT, Modality.IMAGE, Modality.VOICE):
        assert f"Encode{modality.name.capitalize()}/RunInference/BeamML_RunInference" in steps
    (read,) = (t for t in proto.components.transforms.values() if t.unique_name == "ReadEvents/Read")
    payload = beam_runner_api_pb2.ParDoPayload.FromString(read.spec.payload)
    assert payload.restriction_coder_id
    assert payload.requests_finalization
    assert proto.components.pcollections[next(iter(read.outputs.values()))].is_bounded == (
        beam_runner_api_pb2.IsBounded.UNBOUNDED
    )


def test_panes_are_handed_on_after_the_ms_of_the_settings() -> None:
    options = dataflow_options(Settings(), PLACE)
    built = dataflow_proto(load_settings(overrides=["endless.pane_s=0.25"]), options, groups=1)
    delays = {
        transform.delay.delay_millis
        for strategy in built.components.windowing_strategies.values()
        for trigger in _triggers(strategy.trigger)
        for transform in trigger.after_processing_time.timestamp_transforms
    }
    assert delays == {250, 60_000}


def _triggers(trigger: Any) -> Iterator[Any]:
    yield trigger
    for inner in (*trigger.after_any.subtriggers, trigger.repeat.subtrigger):
        if inner.ByteSize():
            yield from _triggers(inner)


def test_paths_lead_to_the_same_place_from_a_workers_folder(tmp_path: Path) -> None:
    moved = with_absolute_paths(Settings())
    assert moved.feature_repo == Path.cwd() / "feature_repo"
    assert moved.history.dir.is_absolute()
    assert moved.models.text is None


def test_a_dry_run_reaches_nothing_and_says_what_it_built() -> None:
    told = run_dataflow(Settings(), PLACE, dry_run=True)
    assert "step  FoldProfiles/Fold" in told
    assert told.endswith("nothing was submitted")


def test_dataflow_asks_for_its_place() -> None:
    with pytest.raises(UsageError, match=r"--region: expected it for --runner dataflow, got none"):
        dataflow_options(Settings(), ("--project=p", "--temp_location=gs://b/t"))

"""The endless job as it is submitted: stable steps, no secret inside, hints and images, absolute paths."""

from __future__ import annotations

import base64
import bz2
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from features.errors import UsageError
from features.schema import Modality
from pipelines.dataflow import GPU, dataflow_options, dataflow_proto, run_dataflow
from pipelines.endless import step_names, with_absolute_paths
from pipelines.settings import Settings, load_settings

GOLDEN = Path(__file__).parent / "golden" / "endless_steps.txt"
PLACE = ("--project=p", "--region=us-central1", "--temp_location=gs://bucket/tmp")
SECRET = "correct-horse-battery-staple"  # noqa: S105 - planted, and looked for


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose secrets are in a file and in the environment."""
    password = tmp_path_factory.mktemp("secret") / "password"
    password.write_text(SECRET)
    return load_settings(
        overrides=[
            "kafka.security.protocol=SASL_PLAINTEXT",
            "kafka.security.sasl_mechanism=PLAIN",
            "kafka.security.sasl_username=env:PLANTED_USER",
            f"kafka.security.sasl_password=file:{password}",
            "outputs.changelog=profiles",
            "models.device=cuda",
        ]
    )


@pytest.fixture(scope="module")
def proto(settings: Settings) -> Iterator[beam_runner_api_pb2.Pipeline]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLANTED_USER", SECRET)
        options = dataflow_options(settings, (*PLACE, "--sdk_container_image=registry/portrait:1"))
        yield dataflow_proto(settings, options, groups=2)


def test_steps_keep_their_names(proto: beam_runner_api_pb2.Pipeline) -> None:
    """Runners match state and updates by them: change the file only with a release note."""
    assert step_names(proto) == GOLDEN.read_text().split("\n")[:-1]


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
    assert images == {"registry/portrait:1"}
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

"""An encoder that fails on everything ends the run: its events are no dead letters, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from features.schema import Modality
from models.encoder import Encoded
from pipelines.process import worker
from pipelines.runners.local import LocalRun
from pipelines.steps.encode import EncoderFailedError
from tests.support.job import bad_events, make_job, real_events
from tests.support.kafka_server import KafkaServer

pytestmark = [pytest.mark.integration, pytest.mark.data, pytest.mark.timeout(300)]


def lost_device(_samples: Sequence[Any]) -> Encoded:
    raise RuntimeError("the device is lost")


@pytest.mark.parametrize("modality", [Modality.TEXT, Modality.VOICE])
def test_a_broken_encoder_ends_the_run_and_a_mended_one_goes_on(
    tmp_path: Path, kafka_server: KafkaServer, monkeypatch: pytest.MonkeyPatch, modality: Modality
) -> None:
    retries: dict[str, Any] = {"rounds.retries": 1}
    job = make_job(tmp_path / f"broken-{modality.name.lower()}", kafka_server, **retries)
    job.produce(real_events(4))
    encoder = worker(job.settings).encoders[modality]
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "encode", lost_device)
        with pytest.raises(
            EncoderFailedError, match=rf"models\.{modality.name.lower()}: expected the encoder"
        ):
            LocalRun(job.settings).run(until_caught_up=True)
    assert job.dead_letters() == []
    assert job.positions_committed() == 0

    job.produce(bad_events())  # a mended encoder still tells poison from good content
    LocalRun(job.settings).run(until_caught_up=True)
    found = job.audit()
    assert found.clean, found.notes
    assert found.rejected > 0

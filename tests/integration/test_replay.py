"""Dead letters go back to their topics once, byte for byte, and count once."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from pipelines.demo.events import EVENT_FILE
from pipelines.operations.replay import replay_dead_letters
from pipelines.runners.local import LocalRun
from tests.support.job import Job, make_job
from tests.support.kafka_server import KafkaServer

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def _picture() -> bytes:
    image = Image.new("RGB", (80, 80), "white")
    ImageDraw.Draw(image).polygon([(25, 10), (55, 10), (70, 70), (10, 70)], fill="crimson")
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _claim_check(picture: bytes, uri: str) -> pa.Table:
    value = json.dumps(
        {
            "uri": uri,
            "sha256": hashlib.sha256(picture).hexdigest(),
            "size": len(picture),
            "content_type": "image/png",
        }
    )
    headers = {
        "ce_specversion": "1.0", "ce_id": "photo-1", "ce_source": "test", "ce_type": "portrait.image.v1",
        "ce_time": "2026-03-01T00:00:00Z", "ce_subject": "ann",
        "content-type": "application/vnd.portrait.ref+json",
    }  # fmt: skip
    row = {"topic": "images", "key": "ann", "value": value.encode(), "headers": list(headers.items())}
    return pa.Table.from_pylist([row], EVENT_FILE)


def _run(job: Job) -> None:
    LocalRun(job.settings).run(until_caught_up=True)


def test_a_photo_that_arrives_late_is_replayed_and_applied_once(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    roots: dict[str, Any] = {"media.roots": [str(blobs)]}
    job = make_job(tmp_path / "replay", kafka_server, **roots)
    picture = _picture()
    job.produce(_claim_check(picture, (blobs / "late.png").as_uri()))
    _run(job)
    assert [dict(r.headers)["portrait-error-reason"] for r in job.dead_letters()] == [b"ref_missing"]

    (blobs / "late.png").write_bytes(picture)
    assert replay_dead_letters(job.settings).sent == {"ref_missing": 1}
    assert replay_dead_letters(job.settings).sent.total() == 0
    _run(job)
    found = job.audit()
    assert found.clean, found.notes
    assert found.applied == 1


def test_only_letters_of_the_reasons_asked_for_are_sent(tmp_path: Path, kafka_server: KafkaServer) -> None:
    job = make_job(tmp_path / "reasons", kafka_server)
    job.produce(_claim_check(_picture(), "file:///etc/hostname"))
    _run(job)
    replayed = replay_dead_letters(job.settings, ["ref_missing"])
    assert (replayed.sent.total(), replayed.skipped) == (0, 1)

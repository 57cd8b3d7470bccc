"""``portrait doctor``: what is installed, which device is used, what is missing and how to get it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from features.errors import PortraitError
from pipelines.process import worker
from pipelines.settings import load_settings

_PACKAGES: Final = (
    "apache-beam",
    "feast",
    "kafka-python",
    "torch",
    "librosa",
    "spacy",
    "pyarrow",
    "duckdb",
    "crc32c",
)
_EXTRAS: Final = {
    "usearch": "audiences and similar users; pip install 'portrait-profiles[analysis]'",
    "matplotlib": "the reports; pip install 'portrait-profiles[analysis]'",
    "redis": "a Redis online store; pip install 'portrait-profiles[redis]'",
    "confluent-kafka": "the embedded broker of the demo; pip install 'portrait-profiles[demo]'",
    "grpcio-health-checking": "feast ui and feast serve; pip install 'portrait-profiles[serve]'",
    "transformers": "Hugging Face encoders; pip install 'portrait-profiles[hf]'",
    "google-cloud-storage": "Dataflow; pip install 'portrait-profiles[gcp]'",
}
_PROGRAMS: Final = {
    "redis-server": "integration tests with Redis; apt-get install redis-server",
    "java": "a real Kafka and Flink (make kafka-up, flink-up); apt-get install default-jre-headless",
    "mvn": "fetching Kafka's jars (make kafka-up); apt-get install maven",
    "espeak-ng": "making the sample voices again (make sample); apt-get install espeak-ng",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``state`` is ok, missing (optional) or failed."""

    what: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All findings; ok when nothing failed."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        return all(f.state != "failed" for f in self.findings)

    def as_json(self) -> str:
        return json.dumps({"ok": self.ok, "findings": [asdict(f) for f in self.findings]}, ensure_ascii=False)

    def as_text(self) -> str:
        width = max(len(f.what) for f in self.findings)
        return "\n".join(f"{f.state:8}{f.what:{width}}  {f.detail}" for f in self.findings)


def examine(config: Path | None, overrides: Sequence[str]) -> Report:
    """Look at everything that a run on this machine needs; broken settings are a finding, not an error."""
    return Report([*_machine(), *_packages(), *_programs(), *_models(config, overrides)])


def _machine() -> Iterator[Finding]:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    free_gib = shutil.disk_usage(".").free / 2**30
    detail = f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory_gib:.0f} GiB"
    yield Finding("machine", "ok", f"{detail}, {free_gib:.0f} GiB free here")


def _packages() -> Iterator[Finding]:
    for name in _PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "failed", f"pip install {name}")
    for name, purpose in _EXTRAS.items():
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "missing", f"only for {purpose}")


def _programs() -> Iterator[Finding]:
    for name, purpose in _PROGRAMS.items():
        path = shutil.which(name)
        yield Finding(name, "ok" if path else "missing", path or f"only for {purpose}")


def _models(config: Path | None, overrides: Sequence[str]) -> Iterator[Finding]:
    try:
        settings = load_settings(config, overrides)
        yield Finding("settings", "ok", str(config or "portrait.yaml or defaults"))
        held = worker(settings)
        for modality, encoder in held.encoders.items():
            yield Finding(
                f"{modality.name.lower()} encoder", "ok", f"{encoder.fingerprint[:16]} on {encoder.device}"
            )
        yield Finding("fusion", "ok", held.fusion.fingerprint[:16])
        yield Finding(
            "spaces", "ok", f"event {held.spaces.event_space[:16]}, profile {held.spaces.profile_space[:16]}"
        )
    except PortraitError as error:
        yield Finding("settings and models", "failed", str(error))

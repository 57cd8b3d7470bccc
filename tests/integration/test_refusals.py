"""What the command says when something is wrong: one message, what to do, and an exit code."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models import checkpoint
from pipelines import metrics
from pipelines.cli.main import main
from pipelines.demo.broker import EmbeddedBroker
from tests.support.ports import free_ports
from tests.support.redis_server import running_redis

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

Cli = Callable[..., tuple[int, str, str]]
NOBODY_LISTENS = "127.0.0.1:1"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Run the command in this process: exit code, stdout, stderr."""
    root = logging.getLogger()
    handlers, level = root.handlers.copy(), root.level

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["portrait", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        told = capsys.readouterr()
        return int(str(code or 0)), told.out, told.err

    monkeypatch.setenv("TZ", "UTC")  # main sets it for good
    yield run
    root.handlers[:], root.filters[:] = handlers, []
    root.setLevel(level)


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, cli: Cli) -> Path:
    assert cli("init", tmp_path / "shop")[0] == 0
    return tmp_path / "shop"


def _flags(project: Path, broker: EmbeddedBroker, *more: str) -> list[str]:
    overrides = [f"kafka.bootstrap_servers={json.dumps(list(broker.bootstrap_servers))}", *more]
    return ["-c", str(project / "portrait.yaml"), *(p for o in overrides for p in ("--set", o))]


def test_a_folder_that_holds_a_project_is_not_written_over(project: Path, cli: Cli) -> None:
    code, _, told = cli("init", project)
    assert code == 2
    assert "portrait.yaml: expected no such file, got one" in told


def test_a_wrong_setting_names_file_line_and_key(project: Path, cli: Cli) -> None:
    file = project / "portrait.yaml"
    file.write_text(
        file.read_text(encoding="utf-8").replace("start: earliest", "start: erliest"), encoding="utf-8"
    )
    code, _, told = cli("run", "-c", file)
    assert code == 2
    assert told.startswith(f"portrait: {file}:9: kafka.start: expected 'earliest', 'latest', 'committed'")
    assert "got 'erliest'" in told


@pytest.mark.parametrize("command", [("run", "--until-caught-up"), ("replay",)])
def test_no_broker_is_told_with_its_address_within_the_time_set(
    project: Path, cli: Cli, command: tuple[str, ...]
) -> None:
    settings = (
        "--set",
        f"kafka.bootstrap_servers=['{NOBODY_LISTENS}']",
        "--set",
        "kafka.connect_timeout_s=1",
    )
    code, _, told = cli(command[0], "-c", project / "portrait.yaml", *settings, *command[1:])
    assert code == 1
    assert NOBODY_LISTENS in told
    assert "Traceback" not in told


def test_missing_weights_are_refused_by_name(project: Path, broker: EmbeddedBroker, cli: Cli) -> None:
    code, _, told = cli("run", *_flags(project, broker, "models.image=/nowhere/image.safetensors"))
    assert code == 1
    assert "/nowhere/image.safetensors" in told


def test_weights_that_were_changed_are_refused(
    project: Path, broker: EmbeddedBroker, cli: Cli, tmp_path: Path
) -> None:
    for file in checkpoint.WEIGHTS_DIR.glob("voice.safetensors*"):
        shutil.copy(file, tmp_path)
    changed = bytearray((tmp_path / "voice.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "voice.safetensors").write_bytes(changed)
    code, _, told = cli("run", *_flags(project, broker, f"models.voice={tmp_path / 'voice.safetensors'}"))
    assert code == 1
    assert "voice.safetensors" in told
    assert "sha256" in told


def test_cuda_without_a_gpu_is_an_error(project: Path, broker: EmbeddedBroker, cli: Cli) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("expected a machine without a GPU")
    code, _, told = cli("run", *_flags(project, broker, "models.device=cuda"))
    assert code == 2
    assert "expected a CUDA GPU, got none" in told


def test_a_redis_that_may_lose_data_is_refused_with_the_setting_to_change(
    tmp_path: Path, broker: EmbeddedBroker, cli: Cli
) -> None:
    from features.repo.apply import write_repo
    from pipelines.operations.init import write_project

    with running_redis(tmp_path / "redis") as redis:
        redis.client().config_set("appendonly", "no")
        redis.client().config_set("maxmemory-policy", "allkeys-lru")
        write_project(tmp_path / "shop")
        shutil.rmtree(tmp_path / "shop" / "feature_repo")
        write_repo(
            tmp_path / "shop" / "feature_repo",
            history_dir=tmp_path / "shop" / "data",
            redis=redis.connection_string,
        )
        code, _, told = cli("run", *_flags(tmp_path / "shop", broker, "kafka.group_id=lossy"))
        assert code == 1
        assert "appendonly" in told
        assert "noeviction" in told
        plan_code, plan, _ = cli("plan", *_flags(tmp_path / "shop", broker), "--json")
        assert plan_code == 1
        assert [c["what"] for c in json.loads(plan)["checks"] if not c["ok"]] == ["store"]


def test_a_store_of_other_models_is_refused_by_name(project: Path, broker: EmbeddedBroker, cli: Cli) -> None:
    from features.online.open import open_store

    store = open_store(project / "feature_repo")
    store.claim_space("1" * 64, "2" * 64)
    store.close()
    code, _, told = cli("run", *_flags(project, broker, "kafka.group_id=space"))
    assert code == 1
    assert "event_space" in told
    assert "1111111111111111" in told


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"type": "portrait.review.v1"', "events.jsonl:1: expected a JSON object"),
        ('{"type": "shop.order.v1"}', "events.jsonl:1: expected type to be one of portrait.review.v1"),
    ],
)
def test_an_event_file_that_cannot_be_sent_names_its_line(
    project: Path, broker: EmbeddedBroker, cli: Cli, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(text + "\n", encoding="utf-8")
    code, _, told = cli("produce", *_flags(project, broker), file)
    assert code == 2
    assert said in told


def test_a_metrics_port_serves_what_the_readme_names_and_a_taken_one_is_refused(
    project: Path, broker: EmbeddedBroker, cli: Cli
) -> None:
    (port,) = free_ports(1)
    metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    for name in (
        "events",
        "rejects",
        "lag_records",
        "freshness_seconds",
        "batch_items",
        "batch_seconds",
        "conflicts",
    ):
        assert f"portrait_{name}" in text
    code, _, told = cli("run", *_flags(project, broker), "--metrics-port", str(port))
    assert code == 2
    assert f"--metrics-port: expected a port that is free on 127.0.0.1, got {port}" in told

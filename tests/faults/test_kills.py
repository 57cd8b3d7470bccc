"""kill −9, outages and full disks while the job runs: afterwards the ledger is clean."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from tests.support.job import Job, kill_group, make_job, real_events, wait_until
from tests.support.kafka_server import KafkaServer
from tests.support.redis_server import running_redis

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.data, pytest.mark.timeout(900)]

SMALL_ROUNDS: Final[dict[str, Any]] = {"rounds.max_records": 25, "history.flush_s": 0.5}
"""Many rounds and flushes, so that a kill falls between different steps."""


def _assert_clean(job: Job) -> None:
    found = job.audit()
    assert found.clean, (found, found.notes[:10])
    assert found.applied + found.rejected == found.identities


def _progress(job: Job) -> tuple[int, int]:
    return job.stored_profiles(), job.positions_committed()


def _went_on(job: Job, before: tuple[int, int]) -> bool:
    return _progress(job) != before


def _committed_more_than(job: Job, before: int) -> bool:
    return job.positions_committed() > before


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_at_random_points_loses_and_doubles_nothing(
    tmp_path: Path, kafka_server: KafkaServer, seed: int
) -> None:
    moments = random.Random(seed)
    with running_redis(tmp_path / "redis", appendfsync="always") as redis:
        job = make_job(tmp_path / f"kill{seed}", kafka_server, redis=redis.connection_string, **SMALL_ROUNDS)
        job.produce(real_events(25))
        for _ in range(3):
            before = _progress(job)
            with job.started() as process:
                wait_until(partial(_went_on, job, before), 120, "the run to store something")
                time.sleep(moments.uniform(0, 0.6))
                kill_group(process)
        job.run("run", "--until-caught-up")
        _assert_clean(job)


def test_a_killed_worker_of_two_ends_the_job_and_a_restart_completes_it(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    job = make_job(tmp_path / "workers", kafka_server, **SMALL_ROUNDS)
    job.produce(real_events(15))
    with job.started("--workers", "2") as parent:
        wait_until(lambda: job.stored_profiles() > 0, 120, "a worker to store something")
        children = subprocess.run(
            ["pgrep", "-P", str(parent.pid)], capture_output=True, text=True, check=True
        )
        os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
        assert parent.wait(60) != 0
    job.run("run", "--workers", "2", "--until-caught-up")
    _assert_clean(job)


def test_workers_end_on_ctrl_c_and_when_their_parent_is_killed(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    job = make_job(tmp_path / "orphans", kafka_server, **SMALL_ROUNDS)
    job.produce(real_events(5))
    with job.started("--workers", "2") as parent:
        wait_until(lambda: job.stored_profiles() > 0, 120, "a worker to store something")
        children = psutil.Process(parent.pid).children()
        for process in [psutil.Process(parent.pid), *children]:
            process.send_signal(signal.SIGINT)  # as a terminal does
        assert parent.wait(60) == 0
    with job.started("--workers", "2") as parent:
        wait_until(lambda: len(psutil.Process(parent.pid).children()) == 2, 30, "two workers")
        parent.terminate()  # while they still load their modules
        assert parent.wait(60) == 0
    with job.started("--workers", "2") as parent:
        wait_until(lambda: len(psutil.Process(parent.pid).children()) == 2, 30, "two workers")
        children = psutil.Process(parent.pid).children()
        kill_group(parent)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive


def test_sigterm_finishes_the_round_and_commits_it(tmp_path: Path, kafka_server: KafkaServer) -> None:
    job = make_job(tmp_path / "term", kafka_server, **SMALL_ROUNDS)
    job.produce(real_events(10))
    with job.started() as process:
        wait_until(lambda: job.stored_profiles() > 0, 120, "the run to store something")
        process.terminate()
        assert process.wait(60) == 0
    assert job.positions_committed() > 0
    job.run("run", "--until-caught-up")
    _assert_clean(job)


def test_an_online_store_that_dies_and_comes_back_loses_nothing(
    tmp_path: Path, kafka_server: KafkaServer
) -> None:
    folder = tmp_path / "redis"
    with running_redis(folder, appendfsync="always") as first:
        job = make_job(tmp_path / "store", kafka_server, redis=first.connection_string, **SMALL_ROUNDS)
        job.produce(real_events(15))
        with job.started("--until-caught-up") as process:
            wait_until(lambda: job.stored_profiles() > 0, 120, "the run to store something")
            first.process.kill()
            first.process.wait()
            time.sleep(3)
            with running_redis(folder, appendfsync="always", port=first.port):
                assert process.wait(180) == 0, job.log()[-2000:]
                _assert_clean(job)


def test_a_broker_that_restarts_while_it_is_read_loses_nothing(
    tmp_path: Path, own_kafka: KafkaServer
) -> None:
    job = make_job(tmp_path / "broker", own_kafka, **SMALL_ROUNDS)
    job.produce(real_events(15))
    with job.started("--until-caught-up") as process:
        wait_until(lambda: job.stored_profiles() > 0, 120, "the run to store something")
        own_kafka.kill()
        own_kafka.start()
        assert process.wait(180) == 0, job.log()[-2000:]
    _assert_clean(job)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB, or a skip where this user may not mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("expected the right to mount a tmpfs; run the tests as root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_loudly_and_nothing_counts_as_done(
    tmp_path: Path, kafka_server: KafkaServer, small_disk: Path
) -> None:
    job = make_job(tmp_path / "full", kafka_server, **SMALL_ROUNDS, **{"history.dir": str(small_disk)})
    job.produce(real_events(20))
    failed = job.run("run", "--until-caught-up", expect=None)
    assert failed.returncode == 1
    assert "portrait: history.dir: expected to write" in failed.stderr
    assert "No space left" in failed.stderr
    assert "Traceback" not in failed.stderr
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    job.run("run", "--until-caught-up")
    _assert_clean(job)

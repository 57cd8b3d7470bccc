"""A real Flink cluster for tests (``infra/flink``) on free loopback ports, and jobs as users run them."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from features.fold.packed_state import unpack
from pipelines.process import worker
from tests.support.infra_script import load_script, require_programs
from tests.support.job import Job, wait_until
from tests.support.ports import free_ports

cluster_script = load_script("flink")
_OPEN = " partitions are read"


@dataclass(frozen=True)
class FlinkJobs:
    """Jobs of one project on one cluster."""

    cluster: Any
    job: Job

    def options(self) -> tuple[str, ...]:
        """What leads ``portrait run`` to this cluster."""
        cluster = self.cluster
        return (
            "--flink-rest", cluster.rest, f"--job_endpoint={cluster.job_endpoint}",
            f"--environment_config={cluster.worker_pool}",
        )  # fmt: skip

    def start(self, *arguments: str) -> str:
        """Submit, detached; the job's id. All partitions are read when this returns."""
        told = self.job.run("run", "--runner", "flink", "--detach", *self.options(), *arguments)
        return told.stdout.split()[1].rstrip(":")

    @contextmanager
    def attached(self, *arguments: str) -> Iterator[str]:
        """Submit, and follow in the background; the job's id, once all partitions are read."""
        with self.job.started("--runner", "flink", *self.options(), *arguments) as process:
            wait_until(lambda: process.poll() is not None or _OPEN in self.job.log(), 240, "the job to read")
            if _OPEN not in self.job.log():
                raise AssertionError(self.job.log())
            yield self.job.log().partition(_OPEN)[0].rpartition("job ")[2].partition(":")[0]

    def stop(self, *arguments: str) -> str:
        return self.job.run("stop", "--flink-rest", self.cluster.rest, *arguments).stdout

    def listed(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.job.run("jobs", "--json", "--flink-rest", self.cluster.rest).stdout
        )
        return found

    def workers(self) -> list[psutil.Process]:
        """The Python workers that run now."""
        return psutil.Process(self.cluster.pid("workerpool")).children()

    def kill_a_worker(self) -> None:
        """kill -9."""
        self.workers()[0].send_signal(signal.SIGKILL)

    def applied(self) -> int:
        """Events in all stored profiles of the users that were sent so far."""
        held = worker(self.job.settings)
        users = sorted({user for user, _ in self.job.sent.identities()})
        return int(unpack(held.store.read_states(users), held.state_spaces).head["version"].sum())

    def settle(self, timeout_s: float) -> None:
        """Wait until everything that was sent is stored and in parquet, or rejected."""
        identities = len(self.job.sent.identities())

        def settled() -> bool:
            found = self.job.audit()
            return found.applied + found.rejected == identities and not (found.not_in_parquet or found.loss)

        wait_until(settled, timeout_s, "everything that was sent to arrive", every_s=2.0)


@contextmanager
def running_flink(folder: Path, task_managers: int = 2, slots: int = 2) -> Iterator[Any]:
    """A cluster that ends with the block, with everything it started."""
    require_programs(cluster_script)
    ports = cluster_script.Ports(*free_ports(6))
    cluster = cluster_script.Cluster(folder, ports, task_managers, slots)
    cluster.start()
    try:
        yield cluster
    except BaseException:
        for name in cluster.names():  # pytest shows it, and the folder may be gone when somebody asks
            sys.stderr.write(f"--- {name}:\n{cluster.log(name).read_text(errors='replace')[-2_000:]}\n")
        raise
    finally:
        cluster.stop()


def bytes_under(folders: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Every file below these folders."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path, path.read_bytes()

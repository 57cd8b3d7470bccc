"""Runs a Flink cluster, Beam's job server and Python workers on loopback: ``flink.py up | down | status``.

One JobManager, two TaskManagers, Beam's job server and a pool of Python workers. Their logs, pids,
checkpoints and savepoints lie in one folder, ``var/flink`` by default; what they are made of is fetched once
into ``.cache/flink``. Starting what runs and stopping what does not is fine. Needs Java 17 and Maven.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent))
from parts import HERE, INSTALL, ROOT, FlinkClusterError, fetch_jars, missing_programs, say
from sockets import listens, taken

__all__ = ["INSTALL", "Cluster", "FlinkClusterError", "Ports", "missing_programs"]

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 20.0

_OPENED: Final = (
    "java.net", "java.io", "java.nio", "java.lang", "java.lang.invoke", "java.lang.reflect", "java.text",
    "java.time", "java.util", "java.util.concurrent", "java.util.concurrent.atomic",
    "java.util.concurrent.locks", "sun.nio.ch",
)  # fmt: skip
_JVM: Final = (
    # All compilers: the jars of a job (230 MB) are digested half a dozen times at its start, and the quick
    # compiler alone takes 3.4 s each time where the other takes 0.4 s.
    "-XX:+UseSerialGC",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
)
_JOB_MANAGER: Final = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_TASK_MANAGER: Final = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
_JOB_SERVER: Final = "org.apache.beam.runners.flink.FlinkJobServerDriver"


@dataclass(frozen=True)
class Ports:
    """Where the parts listen, all on 127.0.0.1."""

    rest: int = 8081
    rpc: int = 6123
    jobs: int = 8099
    artifacts: int = 8098
    expansion: int = 8097
    workers: int = 50123


@dataclass(frozen=True)
class Part:
    """One process of the cluster: how it is started and when it is ready."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], bool]


class Cluster:
    """A cluster and its folder. Not a service: it lives until :meth:`stop`."""

    def __init__(
        self, folder: Path, ports: Ports | None = None, task_managers: int = 2, slots: int = 2
    ) -> None:
        self.folder = folder.resolve()
        self.ports = ports or Ports()
        self.rest = f"http://127.0.0.1:{self.ports.rest}"
        self.job_endpoint = f"127.0.0.1:{self.ports.jobs}"
        self.worker_pool = f"127.0.0.1:{self.ports.workers}"
        self._task_managers = task_managers
        self._slots = slots
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start what does not run yet, and wait until all of it answers. Raises FlinkClusterError."""
        parts = self._parts(fetch_jars())
        self._check_ports()
        for name in ("conf", "log", "checkpoints", "savepoints", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "checkpoints").chmod(0o700)
        values = {"rpc_port": self.ports.rpc, "rest_port": self.ports.rest}
        text = string.Template((HERE / "config.yaml").read_text())
        config = text.substitute(values, slots=self._slots, folder=self.folder)
        (self.folder / "conf" / "config.yaml").write_text(config)
        shutil.copy(HERE / "log4j.properties", self.folder / "conf")
        try:
            for part in parts:
                self._launch(part)
            self._wait(parts)
        except FlinkClusterError:
            self.stop()
            raise

    def start_part(self, name: str) -> None:
        """Start one part again (``jobmanager``, ``taskmanager-1``, …) and wait until it answers."""
        parts = [part for part in self._parts(fetch_jars()) if part.name == name]
        for part in parts:
            self._launch(part)
        self._wait(parts)

    def stop(self) -> None:
        """End every part and wait for it; checkpoints, savepoints and logs stay."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            running = {name: pid for name in reversed(self.names()) if (pid := self.pid(name))}
            for name in running:
                self.signal_part(name, number)
            deadline_s = time.monotonic() + STOP_TIMEOUT_S
            while any(map(self.pid, running)) and time.monotonic() < deadline_s:
                time.sleep(0.05)
        for file in self.folder.glob("*.pid"):
            file.unlink()
        shutil.rmtree(self.folder / "tmp", ignore_errors=True)

    def names(self) -> list[str]:
        """The parts, in the order of their start."""
        managers = [f"taskmanager-{n + 1}" for n in range(self._task_managers)]
        return ["jobmanager", *managers, "jobserver", "workerpool"]

    def pid(self, name: str) -> int | None:
        """Process id of a part that runs, else None; a reused number of another program is none."""
        if (child := self._children.get(name)) is not None:
            return child.pid if child.poll() is None else None
        try:
            pid = int((self.folder / f"{name}.pid").read_text())
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"PORTRAIT_FLINK_PART={self.folder}/{name}".encode() in environment else None

    def signal_part(self, name: str, number: signal.Signals) -> None:
        """Send a signal to one part; a killed worker pool takes its workers with it."""
        pid = self.pid(name)
        if pid is None:
            return
        if name == "workerpool" and number == signal.SIGKILL:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)

    def log(self, name: str) -> Path:
        return self.folder / "log" / f"{name}.log"

    def _parts(self, jars: Path) -> list[Part]:
        conf = ("--configDir", str(self.folder / "conf"))
        ports = self.ports
        server = (
            *self._java(jars, 512), _JOB_SERVER,
            f"--flink-master=127.0.0.1:{ports.rest}", f"--flink-conf-dir={self.folder / 'conf'}",
            "--job-host=127.0.0.1", f"--job-port={ports.jobs}", f"--artifact-port={ports.artifacts}",
            f"--expansion-port={ports.expansion}", f"--artifacts-dir={self.folder / 'tmp' / 'artifacts'}",
        )  # fmt: skip
        found = [Part("jobmanager", (*self._java(jars, 320), _JOB_MANAGER, *conf), self._job_manager_ready)]
        for n in range(self._task_managers):
            name = f"taskmanager-{n + 1}"
            more = ("-D", f"taskmanager.resource-id={name}")
            command = (*self._java(jars, 512), _TASK_MANAGER, *conf, *more)
            found.append(Part(name, command, partial(self._registered, name)))
        found.append(Part("jobserver", server, lambda: self._serves("jobserver", ports.jobs)))
        pool = (sys.executable, "-P", str(HERE / "worker_pool.py"), str(ports.workers))
        found.append(Part("workerpool", pool, lambda: self._serves("workerpool", ports.workers)))
        return found

    def _java(self, jars: Path, heap_mb: int) -> tuple[str, ...]:
        if shutil.which("java") is None:
            raise FlinkClusterError(f"flink: expected java on the PATH, got none; {INSTALL}")
        log4j = f"-Dlog4j.configurationFile=file:{self.folder / 'conf' / 'log4j.properties'}"
        temporary = f"-Djava.io.tmpdir={self.folder / 'tmp'}"
        return ("java", f"-Xmx{heap_mb}m", "-Xms64m", *_JVM, log4j, temporary, "-cp", f"{jars}/*")

    def _launch(self, part: Part) -> None:
        if self.pid(part.name) is not None:
            return
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        # PYTHONSAFEPATH: packages of the workers' folder must not shadow ours
        own = {"PATH": path, "PYTHONSAFEPATH": "1", "TZ": "UTC", "OMP_NUM_THREADS": "1"}
        # Workers start in half the time from compiled modules; they are kept out of everybody's folders.
        own |= {
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "flink" / "python"),
        }
        own |= {"FLINK_CONF_DIR": str(self.folder / "conf")}
        own["PORTRAIT_FLINK_PART"] = f"{self.folder}/{part.name}"
        with self.log(part.name).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=os.environ | own,
                start_new_session=True,
            )
        self._children[part.name] = child
        (self.folder / f"{part.name}.pid").write_text(f"{child.pid}\n")

    def _wait(self, parts: Sequence[Part]) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        for part in parts:
            while not part.ready():
                if self.pid(part.name) is None:
                    log = self.log(part.name)
                    tail = log.read_text(errors="replace")[-2000:]
                    raise FlinkClusterError(
                        f"flink: expected {part.name} to stay up, got its end; from {log}:\n{tail}"
                    )
                if time.monotonic() > deadline_s:
                    raise FlinkClusterError(
                        f"flink: expected {part.name} to answer in {START_TIMEOUT_S:g} s, got none; "
                        f"see {self.log(part.name)}"
                    )
                time.sleep(0.1)

    def _check_ports(self) -> None:
        owners = {
            self.ports.rest: "jobmanager", self.ports.rpc: "jobmanager", self.ports.jobs: "jobserver",
            self.ports.artifacts: "jobserver", self.ports.workers: "workerpool",
        }  # fmt: skip
        foreign = [port for port, name in owners.items() if self.pid(name) is None and taken(port)]
        if foreign:
            raise FlinkClusterError(
                f"flink: expected the ports {', '.join(map(str, foreign))} to be free, got other programs "
                "there; end them, or move ours with --port-offset"
            )

    def _job_manager_ready(self) -> bool:
        return self._ask("/overview") is not None

    def _registered(self, name: str) -> bool:
        answer = self._ask("/taskmanagers") or {}
        return any(manager["id"] == name for manager in answer.get("taskmanagers", ()))

    def _serves(self, name: str, port: int) -> bool:
        pid = self.pid(name)
        return pid is not None and listens(pid, port)

    def _ask(self, path: str) -> dict[str, list[dict[str, str]]] | None:
        try:
            with urllib.request.urlopen(self.rest + path, timeout=2) as answer:  # noqa: S310 - our own URL
                found: dict[str, list[dict[str, str]]] = json.load(answer)
                return found
        except (urllib.error.URLError, OSError, ValueError):
            return None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="flink.py", description="A Flink cluster for Beam on loopback.")
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--dir", type=Path, default=ROOT / "var" / "flink", help="folder of logs and state")
    parser.add_argument("--task-managers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=2, help="of each TaskManager")
    parser.add_argument("--port-offset", type=int, default=0, help="added to every port")
    chosen = parser.parse_args(arguments)
    ports = Ports(*(port + chosen.port_offset for port in vars(Ports()).values()))
    cluster = Cluster(chosen.dir, ports, chosen.task_managers, chosen.slots)
    try:
        if chosen.action == "up":
            cluster.start()
        elif chosen.action == "down":
            cluster.stop()
    except FlinkClusterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    pids = {name: cluster.pid(name) for name in cluster.names()}
    for name, pid in pids.items():
        say(f"flink: {name:14} {'stopped' if pid is None else f'running, pid {pid}'}")
    if all(pids.values()):
        say(f"flink: web {cluster.rest}, jobs {cluster.job_endpoint}, workers {cluster.worker_pool}")
    return 3 if chosen.action == "status" and not all(pids.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs one Apache Kafka node on loopback, from Maven Central jars: ``kafka.py up | down | status``.

Everything of a node (data, log, pid) lies in one folder, ``var/kafka`` by default; the jars are fetched once
into ``.cache/kafka``. Starting what runs and stopping what does not is fine. Needs Java 17 and Maven.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import string
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
INSTALL = "sudo apt-get install -y default-jre-headless maven"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
MAIN = "kafka.Kafka"
JVM = (
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in half the time; a loopback node needs no peak speed
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class KafkaNodeError(RuntimeError):
    """The node cannot be fetched, started or stopped; the message says what to do."""


def missing_programs() -> list[str]:
    """Those of java and mvn that are not on the PATH."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


def fetch_jars(cache: Path = ROOT / ".cache" / "kafka") -> Path:
    """The folder of the broker's jars, fetched once per ``pom.xml``. Raises KafkaNodeError."""
    pom = HERE / "pom.xml"
    jars = cache / hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        if missing := missing_programs():
            raise KafkaNodeError(
                f"kafka: expected java and mvn, got no {' and no '.join(missing)}; {INSTALL}"
            )
        sys.stderr.write("kafka: fetching the jars (about 45 MB, once)\n")
        partial = jars.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={partial}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603
        if done.returncode or not list(partial.glob("kafka_*.jar")):
            raise KafkaNodeError(f"kafka: expected Maven to fetch the jars, got:\n{done.stdout[-2000:]}")
        partial.rename(jars)
    return jars


class Node:
    """One Kafka node and its folder. Not a service: it lives until :meth:`stop` or :meth:`kill`."""

    def __init__(
        self,
        folder: Path,
        port: int,
        controller_port: int,
        extra: Mapping[str, str] | None = None,
        format_arguments: Sequence[str] = (),
    ) -> None:
        """``extra`` overrides ``server.properties``; ``format_arguments`` go to Kafka's storage tool."""
        self.folder = folder.resolve()
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._controller_port = controller_port
        self._extra = dict(extra or {})
        self._format_arguments = tuple(format_arguments)
        self._properties = self.folder / "server.properties"
        self._pid = self.folder / "kafka.pid"
        self._process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / "kafka.log"

    def start(self) -> None:
        """Start and wait until the broker answers; nothing where it already runs. Raises KafkaNodeError."""
        if self.pid() is not None:
            return
        jars = fetch_jars()
        self.folder.mkdir(parents=True, exist_ok=True)
        if _listens(self.port):
            raise KafkaNodeError(
                f"kafka: expected port {self.port} to be free, got another program there; --port N"
            )
        self._write_properties()
        self._format(jars)
        command = [*_java(jars), MAIN, str(self._properties)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        self._pid.write_text(f"{self._process.pid}\n")
        self._wait_until_ready()

    def stop(self) -> None:
        """Ask the node to end and wait for it; nothing where it does not run."""
        self._signal(signal.SIGTERM, STOP_TIMEOUT_S)
        self._signal(signal.SIGKILL, STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End the node at once (SIGKILL), as a power cut of its process would."""
        self._signal(signal.SIGKILL, STOP_TIMEOUT_S)

    def pid(self) -> int | None:
        """Process id of this folder's running node, else None; a reused number of another program is none."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        try:
            pid = int(self._pid.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if os.fsencode(self._properties) in words else None

    def _write_properties(self) -> None:
        lines = string.Template((HERE / "server.properties").read_text()).substitute(
            port=self.port, controller_port=self._controller_port, data=self.folder / "data"
        )
        own = "".join(f"{name}={value}\n" for name, value in self._extra.items())
        self._properties.write_text(f"{lines}\n{own}")  # a later line wins
        self._properties.chmod(0o600)

    def _format(self, jars: Path) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = [*_java(jars), "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        command += [f"--cluster-id={cluster}", "--config", str(self._properties), *self._format_arguments]
        if (self.folder / "data" / "meta.properties").exists():
            return
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise KafkaNodeError(
                f"kafka: expected {self.folder}/data to be formatted, got:\n{done.stderr[-2000:]}"
            )

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self.pid() is None:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise KafkaNodeError(
                    f"kafka: expected the node to stay up, got its end; from {self.log}:\n{tail}"
                )
            if _answers(self.port):
                return
            time.sleep(0.1)
        self.kill()
        raise KafkaNodeError(f"kafka: expected an answer in {START_TIMEOUT_S:g} s, got none; see {self.log}")

    def _signal(self, number: signal.Signals, timeout_s: float) -> None:
        pid = self.pid()
        if pid is None:
            self._pid.unlink(missing_ok=True)
            self._process = None
            return
        os.kill(pid, number)
        deadline_s = time.monotonic() + timeout_s
        while self.pid() is not None and time.monotonic() < deadline_s:
            time.sleep(0.05)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _java(jars: Path) -> list[str]:
    if shutil.which("java") is None:
        raise KafkaNodeError(f"kafka: expected java on the PATH, got none; {INSTALL}")
    return ["java", *JVM, "-cp", f"{jars}/*"]


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request (version 0)."""
    try:
        with socket.create_connection(("127.0.0.1", port), 2.0) as broker:
            broker.sendall(struct.pack(">ihhih5s", 15, 18, 0, 1, 5, b"probe"))
            return len(broker.recv(4)) == 4
    except OSError:
        return False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="kafka.py", description="One Kafka node on loopback.")
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument(
        "--dir", type=Path, default=ROOT / "var" / "kafka", help="folder of data, log and pid"
    )
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--controller-port", type=int, default=9093)
    chosen = parser.parse_args(arguments)
    node = Node(chosen.dir, chosen.port, chosen.controller_port)
    try:
        if chosen.action == "up":
            node.start()
        elif chosen.action == "down":
            node.stop()
    except KafkaNodeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    pid = node.pid()
    _say(f"kafka: {'stopped' if pid is None else f'running at {node.address}, pid {pid}'}; {node.folder}")
    return 3 if chosen.action == "status" and pid is None else 0


if __name__ == "__main__":
    sys.exit(main())

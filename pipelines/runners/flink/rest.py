"""What we ask of a Flink JobManager: its REST API (Flink docs, "REST API", v1), with bounded answers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import urllib3

from features.errors import PortraitError

TIMEOUT_S: Final = 5.0
SAVEPOINT_TIMEOUT_S: Final = 120.0
MAX_QUERY: Final = 3_000
"""Flink takes request lines of up to 4,096 letters."""
_OF_FLINK: Final = "org.apache.flink.util.Flink"
"""How exceptions begin in which Flink says what it was at."""
ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})


class FlinkError(PortraitError):
    """The cluster refused, failed or does not answer; the message says what and what to do."""


class Slots(NamedTuple):
    """Task slots of a cluster."""

    free: int
    total: int


class FlinkRest:
    """One JobManager. Every call raises FlinkError where it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") if "://" in url else f"http://{url.rstrip('/')}"
        self._http = urllib3.PoolManager(timeout=TIMEOUT_S, retries=False)

    def slots(self) -> Slots:
        seen = self._get("/overview")
        return Slots(seen["slots-available"], seen["slots-total"])

    def settings(self) -> dict[str, str]:
        """The JobManager's configuration, without what it holds secret."""
        return {entry["key"]: entry["value"] for entry in self._get("/jobmanager/config")}

    def hosts(self) -> set[str]:
        """Where TaskManagers run."""
        managers = self._get("/taskmanagers")["taskmanagers"]
        return {str(manager["path"]).rpartition("@")[2].partition(":")[0] for manager in managers}

    def jobs(self) -> list[dict[str, Any]]:
        """``jid``, ``name``, ``state``, ``start-time`` (ms) and more of every job it still knows."""
        found: list[dict[str, Any]] = self._get("/jobs/overview")["jobs"]
        return found

    def state(self, job: str) -> str:
        return str(self._get(f"/jobs/{job}")["state"])

    def failure(self, job: str) -> str | None:
        """Why the job failed last, as one line without a stack; None where it did not."""
        history = self._get(f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        return root_cause(history[0]["stacktrace"]) if history else None

    def failures(self, job: str) -> int:
        """How often it failed and began again."""
        history = self._get(f"/jobs/{job}/exceptions").get("exceptionHistory", {})
        return len(history.get("entries", ()))

    def checkpoints(self, job: str) -> dict[str, Any]:
        """Counts, sizes and the latest of each kind."""
        found: dict[str, Any] = self._get(f"/jobs/{job}/checkpoints")
        return found

    def readers(self, job: str) -> list[int]:
        """Reader groups of each subtask of the source, in the order of the subtasks."""
        vertices = self._get(f"/jobs/{job}")["vertices"]
        source = next(v["id"] for v in vertices if "ReadEvents" in v["name"] and "ParseEvents" in v["name"])
        subtasks = self._get(f"/jobs/{job}/vertices/{source}")["subtasks"]
        return [subtask["metrics"]["read-records"] for subtask in subtasks]

    def job_metrics(self, job: str, prefix: str) -> dict[str, float]:
        """Each of the job's own metrics whose name begins with ``prefix``, summed over steps and subtasks."""
        found: dict[str, float] = {}
        for vertex in self._get(f"/jobs/{job}")["vertices"]:
            path = f"/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics"
            ids = [m["id"] for m in self._get(path) if m["id"].rpartition(".")[2].startswith(prefix)]
            for some in _within(ids, MAX_QUERY):
                for metric in self._get(f"{path}?agg=sum&get={','.join(map(quote, some))}"):
                    name = metric["id"].rpartition(".")[2]
                    found[name] = found.get(name, 0.0) + metric["sum"]
        return found

    def cancel(self, job: str) -> None:
        """End a job now; its retained checkpoint stays."""
        self._call("PATCH", f"/jobs/{job}?mode=cancel")

    def stop_with_savepoint(self, job: str, folder: str | None = None) -> str:
        """Take a savepoint and end the job; where it lies. The job goes on where that fails."""
        asked = self._call(
            "POST", f"/jobs/{job}/savepoints", {"cancel-job": True, "target-directory": folder}
        )
        deadline_s = time.monotonic() + SAVEPOINT_TIMEOUT_S
        while time.monotonic() < deadline_s:
            told = self._get(f"/jobs/{job}/savepoints/{asked['request-id']}")
            if told["status"]["id"] == "COMPLETED":
                operation = told["operation"]
                if "location" in operation:
                    return str(operation["location"])
                cause = root_cause(operation["failure-cause"]["stack-trace"])
                raise FlinkError(
                    f"savepoint of {job}: expected it to be written, got {cause}; the job goes on: "
                    "correct state.savepoints.dir, or stop without --savepoint"
                )
            time.sleep(0.2)
        raise FlinkError(
            f"savepoint of {job}: expected it within {SAVEPOINT_TIMEOUT_S:g} s, got none; the job goes on: "
            "look for back pressure, or stop without --savepoint and restore its last checkpoint"
        )

    def _get(self, path: str) -> Any:
        return self._call("GET", path)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            answer = self._http.request(method, f"{self.url}{path}", json=body)
        except urllib3.exceptions.HTTPError as error:
            raise FlinkError(
                f"flink: expected a JobManager at {self.url}, got {type(error).__name__}; start one "
                "(make flink-up) or name its REST address with --flink-rest"
            ) from error
        if answer.status >= 400:
            raise FlinkError(
                f"flink: expected {method} {path.partition('?')[0]} to be accepted by {self.url}, got HTTP "
                f"{answer.status}; is it Flink's REST address, and does it still know this job?"
            )
        try:
            return json.loads(answer.data or b"{}")
        except ValueError as error:
            raise FlinkError(
                f"flink: expected JSON from {self.url}, got something else; name Flink's REST address"
            ) from error


def _within(words: Sequence[str], length: int) -> Iterator[list[str]]:
    """Words in lists that stay within ``length`` letters when they are quoted and joined."""
    some: list[str] = []
    for word in words:
        if some and sum(len(quote(w)) + 1 for w in (*some, word)) > length:
            yield some
            some = []
        some.append(word)
    if some:
        yield some


def root_cause(stack: str) -> str:
    """The innermost exception of a Java stack trace (or Python's inside it), as one line.

    With what Flink was at, where it says so; or the exception around it that says the same and more (an
    address).
    """
    lines = [line.strip() for line in stack.splitlines()]
    ours = [line for line in lines if line.startswith("features.") or "Error: " in line.partition("(")[0]]
    python = [line for line in ours if not line.startswith(("Caused by", "at ", "java.", "org."))]
    if python:
        return python[-1][:500]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    if not causes:
        return (lines[0] if lines else "no reason")[:500]
    inner = causes[-1].partition(": ")[2] or causes[-1]
    cause = next((line for line in causes if line.partition(": ")[2].startswith(inner)), causes[-1])
    of_flink = (line for line in causes if line.startswith(_OF_FLINK) and line != cause)
    doing = next((line.partition(": ")[2].rstrip(".") + ": " for line in of_flink), "")
    return (doing + cause)[:500]

"""The ``portrait`` command as a user runs it: a project in a folder, real Kafka topics, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.fold.fold import FoldPolicy
from features.repo.apply import write_repo
from pipelines.demo.events import joined_users_stream, write_demo_taxonomy
from pipelines.kafka.reader import RoundReader
from pipelines.kafka.topics import existing_topics
from pipelines.messages.record import Record
from pipelines.operations.init import write_project
from pipelines.operations.produce import read_messages
from pipelines.process import worker
from pipelines.settings import Settings, load_settings
from tests.faults.ledger import Audit, Outcome, Sent, audit
from tests.support.folders import DATA

COMMAND = Path(sys.executable).with_name("portrait")


def require_data() -> Path:
    """The folder of real content; without it the test is skipped, in CI it fails."""
    if not (DATA / "joined_users_events.parquet").is_file():
        message = "expected real content in ../shared/data; name its folder with PORTRAIT_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return DATA


@dataclass
class Job:
    """A project in ``folder`` with topics of its own. ``sent`` is everything that was produced."""

    folder: Path
    settings: Settings
    overrides: list[str] = field(default_factory=list)
    sent: Sent = field(default_factory=Sent)

    def command(self, name: str, *arguments: str) -> list[str]:
        """argv of a command on this project; it wins over this machine's environment."""
        flags = [part for override in self.overrides for part in ("--set", override)]
        return [str(COMMAND), name, "-c", str(self.folder / "portrait.yaml"), *flags, *arguments]

    def run(
        self, name: str, *arguments: str, timeout_s: float = 240, expect: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its exit code must be ``expect`` unless that is None."""
        done = subprocess.run(
            self.command(name, *arguments), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if expect is not None and done.returncode != expect:
            raise AssertionError(f"{name}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """``portrait run`` in the background; killed at the end if it still runs."""
        with (self.folder / "run.log").open("ab") as log:
            process = subprocess.Popen(self.command("run", *arguments), stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def log(self) -> str:
        return (self.folder / "run.log").read_text(encoding="utf-8")

    def produce(self, table: pa.Table) -> None:
        """Send an event file and enter it in the ledger."""
        file = self.folder / "events.parquet"
        pq.write_table(table, file)
        for message in read_messages(file, self.settings.kafka.topics):
            self.sent.add(message.topic, message.key, message.value, message.headers)
        self.run("produce", str(file))

    def stored_profiles(self) -> int:
        """Revisions written so far, over all users sent."""
        users = sorted({user for user, _ in self.sent.identities()})
        store = worker(self.settings).store
        return sum(record is not None for record in store.read_states(users))

    def dead_letters(self) -> list[Record]:
        """Everything in the dead-letter topics."""
        kafka = self.settings.kafka
        dead = [t + self.settings.outputs.dead_letter_suffix for t in kafka.topics.all()]
        return self.read(list(existing_topics(kafka, dead)))

    def read(self, topics: Sequence[str]) -> list[Record]:
        """Everything in these topics, by a group of its own that commits nothing."""
        if not topics:
            return []
        kafka = replace(self.settings.kafka, group_id=f"{self.settings.kafka.group_id}-ledger")
        reader = RoundReader(kafka, topics)
        try:
            reader.seek(reader.offsets_of("earliest", reader.assigned()))
            ends, found = reader.end_offsets(), []
            while not reader.reached(ends):
                found += reader.poll(1000, 1 << 26, 200)
            return found
        finally:
            reader.close()

    def outcome(self) -> Outcome:
        held = worker(self.settings)
        return Outcome(
            store=held.store,
            history_dir=self.settings.history.dir,
            dead_letters=self.dead_letters(),
            spaces=held.state_spaces,
            taxonomy=held.taxonomy,
            policy=FoldPolicy(),
        )

    def audit(self) -> Audit:
        return audit(self.sent, self.outcome())

    def positions_committed(self) -> int:
        """Sum of the group's committed offsets."""
        reader = RoundReader(self.settings.kafka, self.settings.kafka.topics.all())
        try:
            return sum(reader.committed().values())
        finally:
            reader.close()


def make_job(folder: Path, server: Any, *, redis: str | None = None, **settings: Any) -> Job:
    """A project with four topics of its own on ``server`` and SQLite, or Redis at ``redis``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_project(folder)
    if redis is not None:
        for file in (folder / "feature_repo").iterdir():
            file.unlink()
        write_repo(folder / "feature_repo", history_dir=folder / "data", redis=redis)
        yaml_file = folder / "feature_repo" / "feature_store.yaml"
        text = yaml_file.read_text(encoding="utf-8")
        yaml_file.write_text(text.replace("project: portrait", f"project: p{os.getpid()}_{folder.name}"))
    topics = {name: server.new_topic() for name in ("reviews", "images", "voices", "controls")}
    taxonomy = write_demo_taxonomy(folder / "taxonomy.yaml")
    values: Mapping[str, Any] = {
        "kafka.bootstrap_servers": list(server.bootstrap_servers),
        "kafka.group_id": folder.name,
        **{f"kafka.topics.{name}": topic for name, topic in topics.items()},
        "taxonomy": str(taxonomy),
        **settings,
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return Job(folder, load_settings(folder / "portrait.yaml", overrides), overrides)


def real_events(users: int) -> pa.Table:
    """Real content of so many users, with one message in ten sent twice and some that must be rejected."""
    table = joined_users_stream(require_data(), users)
    twice = table.take(pa.array(range(0, table.num_rows, 10)))
    return pa.concat_tables([table, twice, bad_events()])


def bad_events() -> pa.Table:
    """Messages that must end in a dead-letter topic, one kind each."""
    time_ok, user = "2026-03-01T00:00:00Z", "bad-user"
    cases: Sequence[tuple[str, str | None, bytes, dict[str, str]]] = (
        ("reviews", user, b'{"text": "\\ud800"}', {}),
        ("reviews", user, b"{", {}),
        ("reviews", user, b'{"text": "x"}', {"ce_time": "2999-01-01T00:00:00Z"}),
        ("reviews", "someone-else", b'{"text": "x"}', {}),
        ("images", user, b"\xff\xd8\xff\xe0 not a picture", {}),
        ("images", user, b"\x00\x00\x00\x18ftypheic" + b"\x00" * 64, {}),
        ("voices", user, b"RIFF\x00\x00\x00\x00WAVEfmt ", {}),
        ("voices", None, b"no cloud event", {"ce_specversion": ""}),
    )
    types = {
        "reviews": ("portrait.review.v1", "application/json"),
        "images": ("portrait.image.v1", "image/jpeg"),
    }
    types["voices"] = ("portrait.voice.v1", "audio/wav")
    rows = []
    for i, (topic, key, value, changes) in enumerate(cases):
        kind, content_type = types[topic]
        headers = {
            "ce_specversion": "1.0", "ce_id": f"bad-{i}", "ce_source": "test", "ce_type": kind,
            "ce_time": time_ok, "ce_subject": user, "content-type": content_type, **changes,
        }  # fmt: skip
        rows.append({"topic": topic, "key": key, "value": value, "headers": list(headers.items())})
    return pa.Table.from_pylist(rows, joined_schema())


def joined_schema() -> pa.Schema:
    from pipelines.demo.events import EVENT_FILE

    return EVENT_FILE


def control(kind: str, user: str, number: int) -> pa.Table:
    """An erase or a re-admission of one user."""
    headers = {
        "ce_specversion": "1.0", "ce_id": f"{kind}-{number}", "ce_source": "test",
        "ce_type": f"portrait.{kind}.v1", "ce_time": "2026-06-01T00:00:00Z", "ce_subject": user,
        "content-type": "application/json",
    }  # fmt: skip
    row = {"topic": "controls", "key": user, "value": b"{}", "headers": list(headers.items())}
    return pa.Table.from_pylist([row], joined_schema())


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, every_s: float = 0.05) -> None:
    """Look again and again; fails with what was waited for."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise AssertionError(f"expected {what} within {timeout_s:g} s")
        time.sleep(every_s)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """kill -9."""
    process.send_signal(signal.SIGKILL)
    process.wait()

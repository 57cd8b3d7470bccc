"""``portrait backfill``: the whole graph again, into a fresh store and fresh tables beside the live ones.

For whatever a store cannot be changed to in place: new encoders (another space), other half-lives, other
categories. The settings name what is wanted; the live store and tables are only read. Erased users are
imported first. A backfill that was killed, or that has fallen behind the live job, is run again and goes on
where it was. ``switch`` makes the settings file name the fresh ones; the live ones stay as they are, so the
way back is the old file.

Rejected records go to dead-letter topics of the backfill's own: those of the live job have theirs already.
The changelog is not written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml

from features.atomic_file import whole_file
from features.errors import PortraitError, UsageError
from features.online import SourcePosition
from features.online.open import CONFIG_FILE, open_store
from features.repo.apply import write_repo
from pipelines.kafka.client import KafkaUnavailableError
from pipelines.messages.record import Record
from pipelines.operations.backfill_ledger import Ledger, compare
from pipelines.operations.import_tombstones import import_marks
from pipelines.operations.produce import read_messages
from pipelines.process import worker
from pipelines.runners.local import LocalRun, RoundRunner
from pipelines.runners.prepare import make_output_topics, ready_store
from pipelines.runners.progress import Progress
from pipelines.settings import DEFAULT_FILE, Settings, SettingsError, load_settings
from pipelines.settings_edit import set_values
from pipelines.steps.write import history_writer

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_FILES: Final = "files"
"""Under which name the store mirrors how far event files have been read."""


@dataclasses.dataclass
class Backfilled:
    """What a backfill did."""

    name: str
    folder: str
    records: int = 0
    tombstones_imported: int = 0
    ledger: Ledger = dataclasses.field(default_factory=Ledger)
    switched: list[str] = dataclasses.field(default_factory=list)
    """What was done, and how to go back."""

    def as_json(self) -> str:
        return json.dumps({"clean": self.ledger.clean, **dataclasses.asdict(self)})

    def as_text(self) -> str:
        lines = [
            f"backfilled {self.records} records into {self.folder}; "
            f"{self.tombstones_imported} tombstones imported",
            self.ledger.as_text(),
        ]
        if not self.switched:
            more = (
                "and --switch to switch over" if self.ledger.clean else "after what is missing is explained"
            )
            lines.append(f"the live store is as it was: run it again to catch up, {more}")
        return "\n".join(lines + self.switched)


def backfill(
    settings: Settings,
    files: Sequence[Path] | None,
    *,
    name: str | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> tuple[Backfilled, Settings]:
    """Fill a fresh store from Kafka's earliest records, or from event files; compare it with the live one.

    Second: the settings of the fresh one. Raises UsageError, KafkaFailureError, StoreError, HistoryError.
    """
    sources = None if files is None else {file: f"file:{_digest(file)}" for file in files}
    name = name or f"backfill_{worker(settings).spaces.profile_space[:8]}"
    fresh = make_project(settings, name)
    folder = fresh.feature_repo.parent
    done = Backfilled(name, str(folder))
    live = open_store(settings.feature_repo)
    try:
        store = ready_store(fresh)
        done.tombstones_imported = import_marks(live, store, worker(fresh).state_spaces)
        progress(f"imported {done.tombstones_imported} tombstones; filling {folder}")
        done.records = (
            _from_kafka(fresh, progress) if sources is None else _from_files(fresh, sources, progress)
        )
        progress("comparing with the live store")
        done.ledger = compare(live, settings.history.dir, store, fresh)
    finally:
        live.close()
    return done, fresh


def make_project(settings: Settings, name: str) -> Settings:
    """A Feast repo and a folder of tables beside the live ones, made unless they are there; the settings.

    Raises UsageError for a name that cannot be, or is the live one's.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name: expected a to z, 0 to 9 and _, a letter first, got {name!r}; it names a Feast project"
        )
    folder = settings.feature_repo.resolve().parent / name
    live, repo = settings.feature_repo / CONFIG_FILE, folder / "feature_repo"
    try:
        text = live.read_text(encoding="utf-8")
        project = yaml.safe_load(text)["project"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        got = type(error).__name__
        raise UsageError(f"{live}: expected a feature repo, got {got}; correct it") from error
    if project == name or repo.resolve() == settings.feature_repo.resolve():
        raise UsageError(f"--name: expected another name than the live project's, got {name}; name another")
    if not (repo / CONFIG_FILE).is_file():
        shutil.rmtree(repo, ignore_errors=True)  # half of one
        write_repo(repo, history_dir=folder / "data", project=name)
        for module in settings.feature_repo.glob("*.py"):  # views of other teams
            if not (repo / module.name).exists():
                shutil.copyfile(module, repo / module.name)
        _replace(repo / CONFIG_FILE, set_values(text, {"project": name}))
    return _beside(settings, repo, folder / "data", name)


def _beside(settings: Settings, repo: Path, data: Path, name: str) -> Settings:
    kafka, outputs = settings.kafka, settings.outputs
    return dataclasses.replace(
        settings,
        feature_repo=repo,
        history=dataclasses.replace(settings.history, dir=data),
        kafka=dataclasses.replace(kafka, group_id=f"{kafka.group_id}-{name}", start="earliest"),
        outputs=dataclasses.replace(
            outputs, dead_letter_suffix=f"{outputs.dead_letter_suffix}.{name}", changelog=None
        ),
    )


def _from_kafka(settings: Settings, progress: Callable[[str], object]) -> int:
    run = LocalRun(settings)

    def say(done: Progress) -> None:
        if done.rounds % 20 == 0:
            progress(f"{done.records} records")

    run.on_round = say
    return run.run(until_caught_up=True).records


def _from_files(settings: Settings, sources: Mapping[Path, str], progress: Callable[[str], object]) -> int:
    """Run event files (what ``portrait produce`` sends) through the graph; from where the last run was.

    ``sources``: file → its topic id. A file is a source of its own, known by its content, and its change time
    is the record's timestamp.
    """
    try:
        make_output_topics(settings)
    except KafkaUnavailableError as error:
        progress(f"{error}; going on without: the first record that must be rejected ends it")
    runner, store, history = RoundRunner(settings), worker(settings).store, history_writer(settings)
    done, total = store.read_positions(_FILES), 0
    for file, topic_id in sources.items():
        source = SourcePosition(topic_id, file.name, 0)
        at = done.get(source, 0)
        records = islice(_records(file, source.topic_id, settings), at, None)
        while some := list(islice(records, settings.rounds.max_records)):
            runner.run(some)
            at += len(some)
            total += len(some)
            progress(f"{file.name}: {at} records")
            if history.due():
                history.flush()
                store.write_positions(_FILES, {source: at})
        history.flush()
        store.write_positions(_FILES, {source: at})
    return total


def _records(file: Path, topic_id: str, settings: Settings) -> Iterable[Record]:
    timestamp_ms = int(file.stat().st_mtime * 1000)
    for offset, message in enumerate(read_messages(file, settings.kafka.topics)):
        yield Record(
            message.topic, topic_id, 0, offset, timestamp_ms, message.key, message.value, message.headers
        )


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:32]
    except OSError as error:
        raise UsageError(f"{file}: expected an event file, got {error.strerror}; check the path") from error


def switch(done: Backfilled, fresh: Settings, config: Path | None, overrides: Sequence[str]) -> None:
    """Let the settings file name the fresh store, tables and group: one rename, the old file kept beside it.

    Raises SettingsError, with nothing changed, where the file is missing or something overrides its values.
    """
    file = config or Path(DEFAULT_FILE)
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--switch: expected a settings file at {file}, got {error.strerror}") from error
    base = file.resolve().parent
    wanted: dict[str, Any] = {
        "feature_repo": os.path.relpath(fresh.feature_repo, base),
        "history.dir": os.path.relpath(fresh.history.dir, base),
        "kafka.group_id": fresh.kafka.group_id,
    }
    changed = set_values(text, wanted)
    _check(changed, base, overrides, fresh)
    kept = file.with_name(f"{file.name}.before-{done.name}")
    if not kept.exists():
        _replace(kept, text)
    _replace(file, changed)
    done.switched = [
        f"switched: {file} now names {', '.join(f'{key}: {value}' for key, value in wanted.items())}",
        "next: stop portrait run, portrait apply, start portrait run: it goes on where the backfill ended",
        f"back: mv {kept} {file} and start portrait run again; the old store and tables are untouched",
    ]


def _check(text: str, base: Path, overrides: Sequence[str], fresh: Settings) -> None:
    """Refuse where flags or the environment would undo the switch."""
    trial = base / f".portrait-switch-{os.getpid()}.yaml"
    try:
        trial.write_text(text, encoding="utf-8")
        found = load_settings(trial, overrides)
    finally:
        trial.unlink(missing_ok=True)
    for key, mine, theirs in (
        ("feature_repo", fresh.feature_repo.resolve(), found.feature_repo.resolve()),
        ("history.dir", fresh.history.dir.resolve(), found.history.dir.resolve()),
        ("kafka.group_id", fresh.kafka.group_id, found.kafka.group_id),
    ):
        if mine != theirs:
            raise SettingsError(
                f"--switch: expected {key} to come from the settings file, got {theirs}, which a flag or the "
                f"environment sets; leave it out, or set it to {mine} yourself"
            )


def _replace(file: Path, text: str) -> None:
    with whole_file(file) as opened:
        opened.write(text.encode())


def refuse_unclean(done: Backfilled, accept_missing: bool) -> None:
    """Raise PortraitError where the ledger forbids a switch."""
    ledger = done.ledger
    if ledger.divergence or ledger.not_erased or (ledger.missing and not accept_missing):
        raise PortraitError(
            f"--switch: expected a clean ledger, got: {ledger.as_text()}; nothing was switched. Run it again "
            "to catch up; missing events alone can be accepted with --accept-missing"
        )

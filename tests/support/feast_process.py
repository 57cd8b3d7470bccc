"""What processes of tests do with Feast, which takes seconds to load: once here, then they are forked."""

from __future__ import annotations

from features.online import feast_import  # noqa: F401

# isort: split

import multiprocessing
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from feast import FeatureStore as FeatureStore
from feast import FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from tests.support.profiles import NOW_US

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
FEATURES = ["user_profile:revision", "user_profile:version"]


@cache
def forkserver() -> Any:
    """Processes that start in a moment: Feast is imported by their parent, which no thread runs in."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.feast_process"])
    return context


def feast_command(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of the ``feast`` command; it changes folder and modules of its process."""
    from click.testing import CliRunner
    from feast.cli.cli import cli

    done = CliRunner().invoke(cli, list(arguments))
    return done.exit_code, done.output + (repr(done.exception) if done.exception else "")


def write(store: FeatureStore, view: FeatureView, rows: Sequence[tuple[str, int]]) -> None:
    """(user, revision) as Feast's own writers hand them over; greater revisions are of later events."""
    data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]] = [
        (
            EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)]),
            {"revision": Value(int64_val=revision), "version": Value(int64_val=revision)},
            NOW + timedelta(seconds=revision),
            NOW,
        )
        for user, revision in rows
    ]
    store._get_provider().online_store.online_write_batch(store.config, view, data, None)


def read(store: FeatureStore, users: Sequence[str]) -> list[tuple[int, int]]:
    """Revision and version of each user, 0 for none."""
    served = store.get_online_features(FEATURES, [{"user_id": user} for user in users]).to_dict()
    return [(r or 0, v or 0) for r, v in zip(served["revision"], served["version"], strict=True)]


def race(repo: str, writer: int, writers: int, rounds: int, shared: Sequence[str]) -> list[str]:
    """Write own users and, in any order, every ``writers``-th revision of the shared ones; read in between.

    Gives what was wrong: a row of two revisions, or one that went back.
    """
    store = FeatureStore(repo_path=repo)
    view = store.get_feature_view("user_profile")
    revisions = [round_ * writers + writer + 1 for round_ in range(rounds)]
    random.Random(writer).shuffle(revisions)
    wrong, before = [], [0] * len(shared)
    for revision in revisions:
        write(store, view, [(user, revision) for user in shared] + [(f"own{writer}-{revision}", revision)])
        after = read(store, shared)
        for user, old, (new, same) in zip(shared, before, after, strict=True):
            if new != same:
                wrong.append(f"{user}: revision {new} beside version {same}")
            if new < max(old, revision):
                wrong.append(f"{user}: {new} after {max(old, revision)}")
        before = [new for new, _ in after]
    return wrong


def write_for_ever(repo: str, users: Sequence[str], first: int, acknowledged: Connection) -> None:
    """Write all users, each time with a greater revision, and say which were written."""
    store = FeatureStore(repo_path=repo)
    view = store.get_feature_view("user_profile")
    revision = first
    while True:
        write(store, view, [(user, revision) for user in users])
        acknowledged.send(revision)
        revision += 1

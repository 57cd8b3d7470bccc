"""Any text may be a user id: commands find each, and print it so that no terminal obeys it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from features.errors import UsageError
from features.online.open import open_store
from features.repo.apply import apply_repo, write_repo
from features.repo.read import read_profiles
from features.schema import visible
from pipelines.cli.main import cli
from pipelines.console.profile import profile_page, users_table
from tests.support.profiles import write_of
from tests.support.user_ids import HOSTILE, NO_IDS
from tests.unit.pipelines.console.test_profile import row

PLACES = {user: place for place, user in enumerate(HOSTILE, start=1)}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everybody in a store, with the place of the user as the revision."""
    folder = tmp_path_factory.mktemp("shop")
    write_repo(folder / "feature_repo", history_dir=folder / "data")
    apply_repo(folder / "feature_repo")
    store = open_store(folder / "feature_repo")
    assert all(store.compare_and_set([write_of(user, 0, place) for user, place in PLACES.items()]))
    store.close()
    return folder


def run(repo: Path, command: str, *arguments: str) -> Result:
    given = ["--set", f"feature_repo={repo / 'feature_repo'}", "--set", f"history.dir={repo / 'data'}"]
    return CliRunner().invoke(cli, [command, *given, *arguments])


def test_lookup_finds_everybody(repo: Path) -> None:
    done = run(repo, "lookup", "--json", "--", *HOSTILE)
    assert done.exit_code == 0
    assert [(p["user_id"], p["revision"]) for p in json.loads(done.stdout)] == list(PLACES.items())
    lines = run(repo, "lookup", "--", *HOSTILE).stdout.splitlines()
    assert [line.partition("  fresh  ")[0] for line in lines] == [visible(user) for user in HOSTILE]
    for printed in (done.stdout, *lines):
        assert printed.strip("\n").isprintable()


def test_feast_serves_everybody(repo: Path) -> None:
    rows = read_profiles(repo / "feature_repo", HOSTILE)
    assert [(r["user_id"], r["revision"]) for r in rows if r] == list(PLACES.items())
    user = "\u202e"
    assert json.loads(run(repo, "show", "--json", "--", user).stdout)["user_id"] == user


@pytest.mark.parametrize("user", ["\u202egnp", "[red]x[/]", "-x"])
def test_somebody_who_is_not_there_is_named_as_text(repo: Path, user: str) -> None:
    unknown = f"nobody{user}" if user != "-x" else "-nobody"
    assert run(repo, "show", "--", unknown).stdout == f"{visible(unknown)}: no profile\n"
    assert run(repo, "lookup", "--", unknown).stdout == f"{visible(unknown)}  unknown\n"
    assert run(repo, "similar", "--", unknown).stdout == f"{visible(unknown)}: unknown\n"
    assert json.loads(run(repo, "similar", "--json", "--", unknown).stdout)["user_id"] == unknown


@pytest.mark.parametrize("command", ["show", "lookup", "similar"])
def test_bytes_that_are_no_text_are_refused(repo: Path, command: str) -> None:
    error = run(repo, command, "a\udcff").exception
    assert isinstance(error, UsageError)
    assert "user 1: expected UTF-8, got other bytes" in str(error)


def printed(shown: object) -> str:
    console = Console(width=400, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


@pytest.mark.parametrize("user", HOSTILE)
def test_tables_and_pages_print_an_id_and_obey_nothing_in_it(user: str) -> None:
    event = {
        "supports": ["books"], "event_id": user, "source": user, "event_time": None, "modality": "text",
        "sentiment": None, "event_key": "0" * 16,
    }  # fmt: skip
    for shown in (
        printed(users_table([row(user_id=user)])),
        printed(profile_page(row(user_id=user), [event])),
    ):
        assert visible(user) in shown
        assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize("text", [*HOSTILE, *NO_IDS])
def test_visible_text_shows_all_of_it_and_json_stays_the_same(text: str) -> None:
    assert visible(text).isprintable()
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text

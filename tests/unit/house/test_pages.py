"""What the pages tell people to type runs, and what they name is there: commands, queries, paths, tables."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import duckdb
import pytest

from features.audience.language import compile_expression
from features.audience.vocabulary import EXAMPLES
from features.online.open import open_store
from features.repo.apply import write_repo
from features.schema import PROFILE_FIELDS
from features.tables.rows import event_batch
from features.tables.views import query
from features.tables.writer import write_table
from features.taxonomy import load_taxonomy
from pipelines.cli.main import cli
from pipelines.messages.parse import ParseRules, parse
from pipelines.messages.record import Reason, Record, Rejected
from pipelines.settings import Settings, load_settings
from tests.support.folders import ROOT
from tests.support.profiles import write_of
from tests.support.settings_table import MEANINGS, RENEW, all_settings, meaning_of, with_table
from tests.unit.features.profile_table import NOW, tags_of, write_profiles
from tests.unit.features.tables.test_rows import simple_event
from tests.unit.house.test_layering import ROOMS

TAXONOMY = load_taxonomy()
READMES: Final = ("README.md", "README.zh.md")
PAGES: Final = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in (*READMES, "pipelines/README.md", "features/README.md", "models/README.md", "tests/README.md",
                 "infra/README.md", "infra/flink/README.md")
    if (ROOT / name).is_file()
}  # fmt: skip
MOST_LINES: Final = 150
"""Of a README at the top: it leads to the other pages."""


class Code(NamedTuple):
    """A block between fences, an indented block, or a piece of inline code."""

    page: str
    language: str
    """As the fence names it; ``indented`` or ``inline`` without one."""
    text: str


def _code(page: str, text: str) -> Iterator[Code]:
    fence = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
    yield from (Code(page, language, block) for language, block in fence.findall(text))
    rest = fence.sub("", text)
    yield from (Code(page, "indented", block) for block in re.findall(r"^ {4}(\S.*)$", rest, re.M))
    yield from (Code(page, "inline", " ".join(c.split())) for c in re.findall(r"`([^`]+)`", rest))


CODE = [code for page, text in PAGES.items() for code in _code(page, text)]
TYPED_CODE = [code for code in CODE if code.language not in ("python", "sql", "json", "yaml")]
EVERYWHERE = "\n".join(PAGES.values())


def found_in_code(pattern: str) -> list[tuple[str, str]]:
    """(page, what the pattern's group found), each once."""
    return list(dict.fromkeys((c.page, m) for c in TYPED_CODE for m in re.findall(pattern, c.text, re.M)))


# --- commands ---------------------------------------------------------------------------------------------

WORD = re.compile(r"'[^']*'|\"[^\"]*\"|\S+")
ENDS = ("|", "&&", "#", ">")
OPTIONS_OF_BEAM = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "pipelines/runners").rglob("*.py"))
COMMANDS = found_in_code(r"(?:^|[\s/(])portrait[ \t]+([a-z][^\n]*)")


@pytest.mark.parametrize(("page", "typed"), COMMANDS)
def test_every_command_and_option_exists(page: str, typed: str) -> None:
    name, *words = takewhile(lambda word: word not in ENDS, WORD.findall(typed))
    command = cli.commands[name.rstrip(".,:;")]
    options = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    for word in words:
        if re.match(r"--?[a-z]", word):
            option = word.partition("=")[0].rstrip(".,:;)")
            of_beam = name == "run" and f'"{option.removeprefix("--")}"' in OPTIONS_OF_BEAM
            assert option in options | {"-h", "--help"} or of_beam, typed
        if word.endswith(";"):
            break


def commands_of(page: str) -> list[str]:
    """What a page tells people to type, without comments, in order: ``sh`` blocks, and lines after ``$ ``."""
    lines = [
        line.removeprefix("$ ")
        for code in CODE
        if code.page == page and code.language in ("sh", "")
        for line in code.text.replace("\\\n", " ").splitlines()
        if code.language == "sh" or line.startswith("$ ")
    ]
    commands, begun = [], ""
    for line in lines:
        try:
            words = shlex.split(begun + line, comments=True)
        except ValueError:  # a quoted text goes on in the next line
            begun += f"{line}\n"
            continue
        commands += [shlex.join(words)] if words else []
        begun = ""
    return commands


@pytest.mark.parametrize("typed", dict.fromkeys(line for page in PAGES for line in commands_of(page)))
def test_every_command_of_a_block_is_complete(typed: str) -> None:
    """Its arguments are taken as they stand: nothing that is required is left out, no choice is unknown."""
    for part in typed.split(" '&&' "):
        words = shlex.split(part)
        if words[0].rpartition("/")[2] == "portrait" and "help" not in part:
            name, *arguments = words[1:]
            with cli.commands[name].make_context(name, arguments, parent=click.Context(cli)):
                pass


@pytest.mark.parametrize(("page", "target"), found_in_code(r"(?:^|[\s;])make ([a-z][a-z-]*)"))
def test_every_make_target_exists(page: str, target: str) -> None:
    assert target in re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)


@pytest.mark.parametrize(("page", "module"), found_in_code(r"python3? -m ([\w.]+)"))
def test_every_module_that_is_run_exists(page: str, module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_every_condition_compiles() -> None:
    typed = re.findall(r"portrait (?:audience|group) '([^'…]+)'", EVERYWHERE)
    for text in (*dict.fromkeys(typed), *EXAMPLES):
        assert compile_expression(text, TAXONOMY, with_similarity=True).condition


def test_the_two_readmes_are_short_and_tell_people_to_type_the_same() -> None:
    assert commands_of(READMES[0]) == commands_of(READMES[1]) != []
    for page in READMES:
        assert len(PAGES[page].splitlines()) <= MOST_LINES, page


# --- queries ----------------------------------------------------------------------------------------------

BLOCKS = list(dict.fromkeys((code.page, code.text) for code in CODE if code.language == "sql"))
PRINTED = list(
    dict.fromkeys(re.findall(r"^ *(SELECT [^`]+?FROM read_parquet[^`]+?ORDER BY \w+)$", EVERYWHERE, re.M))
)
TYPED = list(dict.fromkeys(re.findall(r"portrait sql '([^'…]+)'", EVERYWHERE)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose ``data`` has both tables."""
    folder = tmp_path_factory.mktemp("shop")
    write_profiles(folder / "data", {"ann": tags_of({"books": 1.0})})
    write_table(folder / "data", "events", [event_batch([simple_event(0)], "ab12", TAXONOMY)], NOW)
    return folder


def test_there_are_commands_and_queries_to_try() -> None:
    assert len(COMMANDS) >= 50
    assert len(PYTHON) >= 1
    assert len(BLOCKS) >= 1
    assert len(PRINTED) >= 1
    assert len(TYPED) >= 1


@pytest.mark.parametrize(("page", "text"), [*BLOCKS, *(("", text) for text in PRINTED)])
def test_every_query_runs_where_the_page_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch, page: str, text: str
) -> None:
    if "read_parquet" not in text:
        assert query(folder / "data", text).num_rows >= 0
        return
    monkeypatch.chdir(folder)
    with duckdb.connect() as db:
        rows = db.sql(text.replace("var/demo/data", "data")).to_arrow_table()
    if page in ("", *READMES):
        assert rows["user_id"].to_pylist() == (["user0"] if "data/events" in text else ["ann"])


@pytest.mark.parametrize("text", TYPED)
def test_every_query_over_views_runs(folder: Path, text: str) -> None:
    assert query(folder / "data", text).num_rows >= 1


# --- other blocks -----------------------------------------------------------------------------------------

PYTHON = [code.text for code in CODE if code.language == "python"]


@pytest.mark.parametrize("text", dict.fromkeys(PYTHON))
def test_every_python_block_compiles_and_lookups_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Blocks that use Feast itself are not run: it takes longer to load than all of these tests."""
    compiled = compile(text, "<page>", "exec")
    if "features.lookup" not in text or "FeatureStore" in text:
        return
    repo = tmp_path / "feature_repo"
    write_repo(repo, history_dir=tmp_path / "data")
    (tmp_path / "shop").symlink_to(tmp_path)
    store = open_store(repo)
    store.compare_and_set([write_of(user, 0) for user in re.findall(r'"(shopper\d+|ann|bob)"', text)])
    store.close()
    monkeypatch.chdir(tmp_path)
    exec(compiled, {})  # noqa: S102 - our own pages


def test_every_feature_that_a_page_asks_for_is_served() -> None:
    served = {f"{field.view}:{field.name}" for field in PROFILE_FIELDS}
    assert set(re.findall(r'"(user_\w+:\w+)"', "\n".join(PYTHON))) <= served


@pytest.mark.parametrize("text", dict.fromkeys(c.text for c in CODE if c.language == "json"))
def test_every_event_that_is_shown_is_accepted(text: str) -> None:
    event: dict[str, Any] = json.loads(text)
    if "specversion" in event:
        headers = (("content-type", b"application/cloudevents+json"),)
        sent_ms = int(NOW.timestamp() * 1000)
        record = Record("reviews", "id", 0, 0, sent_ms, event["subject"].encode(), text.encode(), headers)
        assert not isinstance(parse(record, ParseRules.of(Settings())), Rejected)


@pytest.mark.parametrize("text", dict.fromkeys(c.text for c in CODE if c.language == "yaml"))
def test_settings_that_are_shown_can_be_loaded(tmp_path: Path, text: str) -> None:
    if re.match(rf"({'|'.join(SECTIONS)}):", text):
        (tmp_path / "portrait.yaml").write_text(text, encoding="utf-8")
        load_settings(tmp_path / "portrait.yaml", environment={})


# --- links, paths and names -------------------------------------------------------------------------------

SECTIONS = {setting.key for setting in all_settings() if "." not in setting.key}
OF_A_PROJECT = ("data", "var", "shop", "jobs", "feature_repo", "report", ".cache")
"""Folders that people have, not the repository."""
PLACEHOLDER = re.compile(r"\b(DIR|FILE|NAME|OUT)\b")


def _anchors(page: Path) -> set[str]:
    """Headings as GitHub names them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if not target.startswith(("http://", "https://")):
            name, mark, anchor = target.partition("#")
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), target
            assert not mark or anchor in _anchors(path), target


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    near = (ROOT, (ROOT / page).parent)
    for code in CODE:
        if code[:2] == (page, "inline") and re.fullmatch(
            r"[\w.-]+/([\w./-]+\.(py|md|yaml|sql)|([\w.-]+/)*)", code.text
        ):
            here = any((place / code.text).exists() for place in near)
            theirs = code.text.split("/")[0] in OF_A_PROJECT or PLACEHOLDER.search(code.text)
            assert here or theirs, code.text


def rows_of(page: str, *header: str) -> list[list[str]]:
    """Cells of the table of a page whose first columns are ``header``."""
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in PAGES[page].splitlines()]
    starts = [i for i, row in enumerate(rows) if tuple(row[: len(header)]) == header]
    assert len(starts) == 1, f"{page}: expected one table with the columns {header}, got {len(starts)}"
    return list(takewhile(bool, rows[starts[0] + 2 :]))


def test_every_step_of_the_path_is_in_its_file() -> None:
    for steps, file, *_ in rows_of("pipelines/README.md", "step", "file", "takes", "gives"):
        text = (ROOT / file.strip("`")).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", steps):
            assert re.search(rf"\b(def|class) {name}\b", text), f"{name} in {file}"


def test_the_rooms_stand_in_the_order_that_imports_obey() -> None:
    rooms = [Path(row[0].strip("`")).stem for row in rows_of("pipelines/README.md", "room", "holds")]
    order = ROOMS["pipelines"].split()
    assert rooms == sorted(rooms, key=order.index)
    assert {path.parent.name for path in (ROOT / "pipelines").glob("*/__init__.py")} | {"graph"} == set(rooms)


def test_the_reject_codes_are_those_of_the_code_in_its_order() -> None:
    rows = rows_of("pipelines/README.md", "code", "stage", "cause", "cure")
    assert [row[0].strip("`") for row in rows] == [reason.value for reason in Reason]
    assert all(all(row) for row in rows)


def test_the_settings_are_those_of_the_code() -> None:
    page = PAGES["pipelines/README.md"]
    assert page == with_table(page), f"the table of settings is old; run {RENEW}"


def test_every_setting_has_one_meaning() -> None:
    keys = {setting.key: meaning_of(setting) for setting in all_settings()}
    assert MEANINGS.keys() <= keys.keys()
    assert not [key for key, said in keys.items() if not said and key not in MEANINGS], "say what they are"
    assert not [key for key in MEANINGS if keys[key]], "the files say it now; remove it from MEANINGS"


def test_every_setting_that_a_page_names_exists() -> None:
    keys = {setting.key for setting in all_settings()}
    for code in CODE:
        name = code.text.partition("=")[0].partition(":")[0]
        if code.language == "inline" and re.fullmatch(rf"({'|'.join(SECTIONS)})(\.[a-z_]+)+", name):
            is_file = name.rpartition(".")[2] in ("py", "yaml")
            assert name in keys or is_file or importlib.util.find_spec(name) is not None, (code.page, name)


def test_the_page_on_tests_names_every_rule_of_the_house_and_every_bench() -> None:
    page = PAGES["tests/README.md"]
    for path in (*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests/bench").glob("bench_*.py")):
        assert path.stem in page, f"name {path.name} in tests/README.md"

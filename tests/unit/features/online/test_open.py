"""From feature_store.yaml to a store, and what is said about a file that will not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from features.online.open import StoreConfigError, open_store
from features.online.redis_connection import parse_connection_string
from features.online.redis_profiles import RedisProfiles
from features.online.sqlite_profiles import SqliteProfiles
from tests.support.folders import ROOT

SQLITE = "online_store: {type: features.online.sqlite.PortraitSqliteOnlineStore, path: data/online.db}"
REDIS = "online_store: {type: features.online.redis.PortraitRedisOnlineStore, connection_string: '%s'}"


def repo_with(folder: Path, *lines: str) -> Path:
    (folder / "feature_store.yaml").write_text("\n".join(("project: shop", *lines)))
    return folder


def test_a_sqlite_store_lies_relative_to_its_repo(tmp_path: Path) -> None:
    store = open_store(repo_with(tmp_path, SQLITE))
    assert isinstance(store, SqliteProfiles)
    store.claim_space("a", "b")
    store.close()
    assert (tmp_path / "data" / "online.db").is_file()


def test_a_redis_store_is_opened_without_a_server(tmp_path: Path) -> None:
    store = open_store(repo_with(tmp_path, REDIS % "localhost:1"))
    assert isinstance(store, RedisProfiles)
    store.close()


def test_variables_of_the_environment_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTRAIT_TEST_FILE", "elsewhere.db")
    store = open_store(repo_with(tmp_path, SQLITE.replace("data/online.db", "${PORTRAIT_TEST_FILE}")))
    store.claim_space("a", "b")
    store.close()
    assert (tmp_path / "elsewhere.db").is_file()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "online_store.type: expected .* got None"),
        (["online_store: {type: redis}"], "online_store.type: expected .* got 'redis'"),
        (["online_store: sqlite"], "online_store.type: expected .* got 'sqlite'"),
        ([SQLITE, "entity_key_serialization_version: 2"], "entity_key_serialization_version: expected 3"),
        ([SQLITE, "registry: {enable_online_feature_view_versioning: true}"], "expected false, got true"),
        ([SQLITE.replace("data/online.db", "':memory:'")], "online_store.path: expected the path of a file"),
        ([REDIS % "localhost"], "connection_string: expected host:port"),
        ([REDIS % "ssl=true"], "connection_string: expected at least one host:port"),
        (
            [REDIS % "localhost:1,password=${PORTRAIT_UNSET}"],
            r"expected \['PORTRAIT_UNSET'\] in the environment",
        ),
        ([REDIS.replace("}", ", redis_type: glide}") % "localhost:1"], "redis_type: expected .* got 'glide'"),
        ([SQLITE, "  {"], "expected YAML, got a syntax error in line"),
    ],
)
def test_a_file_that_will_not_do_is_refused_with_its_key(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(StoreConfigError, match=message):
        open_store(repo_with(tmp_path, *lines))


def test_a_missing_file_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StoreConfigError, match="run portrait init"):
        open_store(tmp_path)


def test_a_wrong_parameter_is_named_without_its_value(tmp_path: Path) -> None:
    repo = repo_with(tmp_path, REDIS % "localhost:1,pasword=secret,db=0")
    with pytest.raises(StoreConfigError, match="'pasword'") as refusal:
        open_store(repo)
    assert "secret" not in str(refusal.value)


def test_a_connection_string_is_nodes_and_parameters() -> None:
    nodes, parameters = parse_connection_string("a:1,b:2,ssl=true,password=x=y,db=3")
    assert nodes == [("a", 1), ("b", 2)]
    assert parameters == {"ssl": True, "password": "x=y", "db": 3}


def test_opening_a_store_does_not_import_feast() -> None:
    program = (
        "import sys\n"
        "import features.online.open, features.online.redis_profiles, features.online.sqlite_profiles\n"
        "import features.online.encode\n"
        "sys.exit('feast' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0

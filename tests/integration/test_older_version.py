"""What version 0.1.0 wrote (``tests/compat/v0_1_0``) is read as it was, and folded on."""

from __future__ import annotations

import base64
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import features
from features.online.open import open_store
from pipelines.cli.main import cli
from pipelines.demo.broker import EmbeddedBroker
from pipelines.process import worker
from pipelines.settings import load_settings
from tests.support.redis_server import RedisServer, running_redis

# ibis, through which Feast reads parquet, calls DuckDB by its old names.
pytestmark = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")

WRITTEN: Final = Path(__file__).resolve().parents[1] / "compat" / "v0_1_0"
EXPECTED: Final[dict[str, Any]] = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
LOOKUP: Final[dict[str, dict[str, Any]]] = {row["user_id"]: row for row in EXPECTED["lookup"]}
USERS: Final = list(LOOKUP)
BUSY, BACK, GONE, NEW = "shopper01", "shopper11", "shopper03", "shopper99"
VECTORS: Final = ("embedding", "text_embedding", "image_embedding", "voice_embedding")
KINDS: Final = ("sqlite", pytest.param("redis", marks=pytest.mark.integration))


@dataclass(frozen=True)
class Shop:
    """A copy of the project of one kind of store."""

    kind: str
    folder: Path
    brokers: tuple[str, ...] = ()

    @property
    def repo(self) -> Path:
        return self.folder / "feature_repo"

    def words(self, name: str, *arguments: str) -> list[str]:
        """A command on this project and its arguments."""
        config = str(self.folder / "portrait.yaml")
        brokers = f"kafka.bootstrap_servers={json.dumps(self.brokers)}"
        return [name, "-c", config, *(("--set", brokers) if self.brokers else ()), *arguments]

    def say(self, name: str, *arguments: str, expect: int = 0) -> str:
        """What a command prints; its exit code must be ``expect``."""
        done = CliRunner().invoke(cli, self.words(name, *arguments))
        assert done.exit_code == expect, f"{name}: {done.output} {done.exception!r}"
        return done.stdout

    def ask(self, name: str, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.say(name, *arguments, "--json", expect=expect))

    def run(self) -> None:
        """``portrait run`` until it has caught up; the handlers of signals that it sets are put back."""
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.say("run", "--until-caught-up")
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def lookup(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """Profiles by user, as the command prints them; two users are not served."""
        return {row["user_id"]: row for row in self.ask("lookup", *USERS, *arguments, expect=1)}

    def sql(self, query: str) -> Any:
        return self.ask("sql", query)

    def check(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("check", "--all")
        del found["seconds"]
        return found


@contextmanager
def _copy(kind: str, folder: Path) -> Iterator[Shop]:
    """The project as it was written; for Redis with a server that holds what the one of then held."""
    shop = Shop(kind, folder / "shop")
    shutil.copytree(WRITTEN / kind, shop.folder)
    (shop.repo / "portrait_features.py.txt").rename(shop.repo / "portrait_features.py")
    if kind == "sqlite":
        yield shop
        return
    shutil.copytree(WRITTEN / "sqlite" / "data", shop.folder / "data")
    with running_redis(folder / "redis") as server:
        _restore(server)
        config = shop.repo / "feature_store.yaml"
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace("127.0.0.1:6379", server.connection_string), encoding="utf-8")
        yield shop


def _restore(server: RedisServer) -> None:
    raw = base64.b64decode
    with server.client() as client:
        for key, held in json.loads((WRITTEN / "redis.json").read_text(encoding="utf-8")).items():
            if isinstance(held, str):
                client.set(raw(key), raw(held))
            else:
                client.hset(raw(key), mapping={raw(name): raw(value) for name, value in held.items()})


@pytest.fixture(scope="module", params=KINDS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """For tests that write nothing."""
    with _copy(request.param, tmp_path_factory.mktemp(request.param)) as shop:
        yield shop


@pytest.fixture(params=KINDS)
def own_shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """For tests that write, with a broker."""
    with _copy(request.param, tmp_path) as shop, EmbeddedBroker() as broker:
        yield replace(shop, brokers=broker.bootstrap_servers)


def test_the_settings_file_that_init_wrote_loads() -> None:
    settings = load_settings(WRITTEN / "sqlite" / "portrait.yaml")
    assert settings.kafka.topics.all() == ("reviews", "images", "voices", "controls")
    assert settings.history.dir == WRITTEN / "sqlite" / "data"
    assert settings.fold.half_lives_s == (864_000, 3_456_000)
    assert (settings.outputs.dead_letter_suffix, settings.rounds.max_records) == (".dead", 2000)


def test_the_shipped_models_make_vectors_of_the_same_spaces(shop: Shop) -> None:
    spaces = (EXPECTED["event_space"], EXPECTED["profile_space"])
    assert worker(load_settings(shop.folder / "portrait.yaml")).spaces == spaces
    store = open_store(shop.repo)
    assert store.read_space() == spaces
    store.close()


def test_a_run_would_go_on_at_the_positions_of_then(shop: Shop) -> None:
    store = open_store(shop.repo)
    found = sorted([*source, offset] for source, offset in store.read_positions("sources").items())
    store.close()
    assert found == EXPECTED["positions"]


def test_lookup_tells_what_it_told(shop: Shop) -> None:
    assert {user: row | {"created": None} for user, row in shop.lookup().items()} == LOOKUP
    dated = shop.lookup("--age-of", "created")
    assert {user: row["created"] for user, row in dated.items()} == EXPECTED["created"][shop.kind]
    profiles = features.lookup(shop.repo, USERS, timedelta(days=100_000))
    assert [profile.status for profile in profiles] == [row["status"] for row in EXPECTED["lookup"]]


def test_show_tells_what_it_told(shop: Shop) -> None:
    for user, told in EXPECTED["show"].items():
        served = told.get("found", True)
        vectors = {name: LOOKUP[user][name] for name in VECTORS} if served else {}
        assert shop.ask("show", user, expect=0 if served else 1) == told | vectors
    assert shop.ask("show", BUSY, "--evidence")["evidence"] == EXPECTED["evidence"]


def test_feast_serves_the_same_by_the_registry_and_the_class_path_of_then(shop: Shop) -> None:
    from feast import FeatureStore

    names = {"user_profile": ("embedding", "interests", "sentiment"), "user_modalities": ("text_count",)}
    asked = [f"{view}:{name}" for view, own in names.items() for name in own]
    store = FeatureStore(repo_path=str(shop.repo))
    served = store.get_online_features(asked, [{"user_id": user} for user in USERS]).to_dict()
    for name in (name for own in names.values() for name in own):
        assert served[name] == [LOOKUP[user][name] for user in USERS]


@pytest.mark.parametrize("query", EXPECTED["sql"])
def test_the_views_show_the_same_rows(shop: Shop, query: str) -> None:
    assert shop.sql(query) == EXPECTED["sql"][query]


def test_the_vectors_of_the_table_are_those_served(shop: Shop) -> None:
    rows = shop.sql(f"SELECT user_id, {', '.join(VECTORS)} FROM profiles_latest WHERE user_id <> '{GONE}'")  # noqa: S608
    assert len(rows) == 6
    assert all(row[name] == LOOKUP[row["user_id"]][name] for row in rows for name in VECTORS)


def test_audiences_are_the_same(shop: Shop) -> None:
    for condition, told in EXPECTED["audience"].items():
        assert shop.ask("audience", condition) == told


def test_the_index_of_similar_users_answers_the_same(shop: Shop) -> None:
    found, told = shop.ask("similar", BUSY, "--top", "3"), EXPECTED["similar"]
    assert [near["user_id"] for near in found["similar"]] == [near["user_id"] for near in told["similar"]]
    for near, near_then in zip(found["similar"], told["similar"], strict=True):
        assert near == near_then | {"similarity": pytest.approx(near_then["similarity"], abs=2e-4)}


def test_a_check_finds_no_difference(shop: Shop) -> None:
    assert shop.check() == EXPECTED["check"]


def test_applying_again_changes_nothing_that_is_served(own_shop: Shop) -> None:
    own_shop.say("apply")
    told = EXPECTED["show"][BUSY] | {name: LOOKUP[BUSY][name] for name in VECTORS}
    assert own_shop.ask("show", BUSY) == told


def test_the_offsets_of_then_change_nothing_again(own_shop: Shop) -> None:
    told = own_shop.ask("rebuild", "--without-controls")
    assert (told["users"], told["events"]) == (EXPECTED["check"]["users"], EXPECTED["check"]["events"])
    assert (told["rebuilt"], told["applied"], told["healed"], told["left_alone"]) == (0, 0, 0, [])
    dated = own_shop.lookup("--age-of", "created")
    created = EXPECTED["created"][own_shop.kind]
    assert dated == {user: row | {"created": created[user]} for user, row in LOOKUP.items()}


def _reviews(file: Path, users: Sequence[str]) -> Path:
    """A new review of each, as JSON lines."""
    events = [
        {
            "specversion": "1.0", "id": f"later-{number}", "source": "later", "type": "portrait.review.v1",
            "time": "2026-06-29T12:00:00Z", "subject": user, "data": {"text": "这本书很好看 a good book"},
        }
        for number, user in enumerate(users)
    ]  # fmt: skip
    file.write_text("\n".join(json.dumps(event, ensure_ascii=False) for event in events), encoding="utf-8")
    return file


def test_new_events_fold_onto_the_states_of_then(own_shop: Shop, tmp_path: Path) -> None:
    before = own_shop.lookup()
    own_shop.say("produce", str(WRITTEN / "sent.parquet"))  # known by their ids, at other offsets
    own_shop.say("produce", str(_reviews(tmp_path / "later.jsonl", [BUSY, BUSY, BACK, GONE, NEW])))
    own_shop.run()
    after = own_shop.lookup()
    changed = {BUSY: 2, BACK: 1}
    for user, more in changed.items():
        old, new = before[user], after[user]
        assert (new["version"], new["text_count"]) == (old["version"] + more, old["text_count"] + more)
        assert (new["profile_space"], new["event_space"]) == (old["profile_space"], old["event_space"])
        assert (new["revision"], new["incarnation"]) == (old["revision"] + 1, old["incarnation"])
        assert new["embedding"] != old["embedding"]
    for user in (user for user in USERS if user not in changed):
        assert _of_events(after[user]) == _of_events(before[user])
        assert after[user]["embedding"] == pytest.approx(before[user]["embedding"], abs=1e-6)
    (new_user,) = own_shop.ask("lookup", NEW)
    assert (new_user["status"], new_user["version"]) == ("fresh", 1)
    assert own_shop.check() == EXPECTED["check"] | {"users": 8, "events": EXPECTED["check"]["events"] + 4}
    _assert_columns_of_then(own_shop)


def _of_events(row: dict[str, Any]) -> dict[str, Any]:
    """Without the number and time of writes, and the vector that each write fuses anew."""
    return {name: value for name, value in row.items() if name not in ("revision", "created", "embedding")}


def _assert_columns_of_then(shop: Shop) -> None:
    """Every file of the tables has them, and may have more."""
    for table, columns in EXPECTED["columns"].items():
        files = list((shop.folder / "data" / table).rglob("*.parquet"))
        assert len(files) > len(list((WRITTEN / "sqlite" / "data" / table).rglob("*.parquet")))
        for file in files:
            found = {column.name: str(column.type) for column in pq.read_schema(file)}
            assert columns.items() <= found.items()


def test_dead_letters_go_back_to_their_topics(own_shop: Shop) -> None:
    own_shop.say("produce", str(WRITTEN / "dead_letters.parquet"))
    reasons = dict.fromkeys(("bad_json", "bad_time", "corrupt_media", "not_cloudevent"), 1)
    assert own_shop.ask("replay") == {"sent": 4, "by_reason": reasons, "skipped": 0}


def test_compacted_tables_show_the_same_rows(own_shop: Shop) -> None:
    assert not own_shop.ask("compact", "--today", "--grace", "0")["failed"]
    assert len(list((own_shop.folder / "data").rglob("*.parquet"))) == 2
    for query, rows in EXPECTED["sql"].items():
        assert own_shop.sql(query) == rows
    assert own_shop.check() == EXPECTED["check"]


def test_an_erase_ends_what_was_begun_then(own_shop: Shop) -> None:
    receipt = own_shop.ask("erase", GONE, "--wait", "--timeout", "60", "--grace", "0")
    assert (receipt["requested"], receipt["done"]) == (0, True)
    removed = {store["store"]: store["removed"] for store in receipt["stores"]}
    assert (removed["events parquet"], removed["profiles parquet"]) == (13, 2)
    for table in ("events", "profiles"):
        (left,) = own_shop.sql(f"SELECT count(*) AS rows FROM {table} WHERE user_id = '{GONE}'")  # noqa: S608
        assert left == {"rows": 0}
    assert own_shop.lookup()[GONE]["status"] == "erased"
    without_her = {"users": 6, "events": 66, "erased": 0, "erased_with_rows": 0}
    assert own_shop.check() == EXPECTED["check"] | without_her
    assert own_shop.ask("similar", "--refresh")["users"] == 6

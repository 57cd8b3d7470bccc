"""Everything that a user of Feast touches, over our stores and beside a pipeline that writes to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from features.online import ProfileStore, SourcePosition, StatelessUsersError
from features.online.open import open_store
from features.repo.apply import apply_repo, write_repo
from features.schema import EMBEDDING_DIM, PROFILE_FIELDS
from features.tables.rows import profile_batch
from features.tables.writer import write_table
from tests.support.online_repo import STORES
from tests.support.profiles import NOW_US, columns_of, record_of, write_of
from tests.support.redis_server import redis_cluster_server, redis_server

__all__ = ["redis_cluster_server", "redis_server"]

pytestmark = [
    pytest.mark.integration,
    # ibis, through which Feast reads parquet, calls DuckDB by its old names.
    pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning"),
]

NOW = datetime.fromtimestamp(NOW_US / 1e6, UTC)
NAMES = ("revision", "interests", "embedding")


class Shop:
    """A feature repo, its store as the pipeline opens it, and as Feast does."""

    def __init__(self, folder: Path, kind: str, request: pytest.FixtureRequest, project: str) -> None:
        self.repo, self.history = folder / project / "feature_repo", folder / project / "data"
        server = None if kind == "sqlite" else request.getfixturevalue(f"{kind}_server").connection_string
        self.file, self.definitions = write_repo(
            self.repo, history_dir=self.history, project=project, redis=server
        )
        if kind == "redis_cluster":
            text = self.file.read_text()
            self.file.write_text(text.replace(f"{server}\n", f"{server}\n  redis_type: redis_cluster\n"))
        apply_repo(self.repo)
        self.store: ProfileStore = open_store(self.repo)
        self.feast = self.open_feast()

    def open_feast(self) -> Any:
        from feast import FeatureStore

        return FeatureStore(repo_path=str(self.repo))

    def read(self, users: Sequence[str], names: Sequence[str] = NAMES) -> dict[str, list[Any]]:
        features = [f"{view_of(name)}:{name}" for name in names]
        rows = [{"user_id": user} for user in users]
        return dict(self.feast.get_online_features(features, rows).to_dict())

    def write_history(self, revisions: Mapping[str, int], **columns: Any) -> None:
        """One parquet file of ``profiles``: user → revision, times as in the online store."""
        made = columns_of(list(revisions.values())) | columns
        times = [NOW_US + revision * 1_000_000 for revision in revisions.values()]
        made |= {"event_timestamp": times, "created": times}
        batch: pa.RecordBatch = profile_batch(list(revisions), made)
        write_table(self.history, "profiles", [batch], NOW)

    def materialize(self) -> None:
        self.feast.materialize(
            NOW - timedelta(days=1), NOW + timedelta(days=1), disable_event_timestamp=False
        )

    def online_store(self) -> Any:
        return self.feast._get_provider().online_store


def view_of(name: str) -> str:
    return next(field.view for field in PROFILE_FIELDS if field.name == name)


@pytest.fixture(params=STORES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, request.param, request, f"p{uuid4().hex[:8]}")
    yield shop
    shop.store.close()


def test_feast_reads_what_compare_and_set_wrote(shop: Shop) -> None:
    shop.store.compare_and_set([write_of("ann", 0, 3), write_of("bob", 0, 4)])
    served = shop.read(["bob", "ann"])
    assert served["revision"] == [4, 3]
    assert served["interests"] == [["tag4", "书"], ["tag3", "书"]]
    assert served["embedding"] == [[4.0] * EMBEDDING_DIM, [3.0] * EMBEDDING_DIM]


def test_feature_services_serve_the_whole_profile_and_the_card_without_vectors(shop: Shop) -> None:
    shop.store.compare_and_set([write_of("ann", 0, 3)])
    rows = [{"user_id": "ann"}]
    whole = shop.feast.get_online_features(shop.feast.get_feature_service("profile"), rows).to_dict()
    card = shop.feast.get_online_features(shop.feast.get_feature_service("profile_card"), rows).to_dict()
    assert set(whole) == {"user_id", *(field.name for field in PROFILE_FIELDS)}
    assert set(whole) - set(card) == {field.name for field in PROFILE_FIELDS if field.type == "vector"}
    assert all(whole[name] == value for name, value in card.items())
    assert whole["text_last_event"] == [datetime.fromtimestamp(NOW_US // 1_000_000 + 3, UTC)]


def test_missing_and_erased_users_are_not_found(shop: Shop) -> None:
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    shop.store.compare_and_set([write_of("ann", 0), write_of("bob", 0)])
    shop.store.compare_and_set([write_of("bob", 1, erased=True)])
    rows = [{"user_id": user} for user in ("ann", "bob", "carol")]
    response = shop.feast.get_online_features(["user_profile:revision"], rows)
    assert response.to_dict()["revision"] == [1, None, None]
    (revision,) = [
        result
        for name, result in zip(
            response.proto.metadata.feature_names.val, response.proto.results, strict=True
        )
        if name == "revision"
    ]
    assert list(revision.statuses) == [FieldStatus.PRESENT, FieldStatus.NOT_FOUND, FieldStatus.NOT_FOUND]
    assert revision.event_timestamps[0].seconds == NOW_US // 1_000_000 + 1


def test_applying_again_keeps_states_and_views(shop: Shop) -> None:
    shop.store.compare_and_set([write_of("ann", 0)])
    apply_repo(shop.repo)
    assert shop.store.read_states(["ann"]) == [record_of(1)]
    assert shop.read(["ann"])["revision"] == [1]


def test_dropping_a_view_keeps_states_and_the_other_view(shop: Shop) -> None:
    shop.store.compare_and_set([write_of("ann", 0)])
    shop.definitions.write_text(
        "from features.repo.definitions import profile_objects\n"
        "user, profiles, _, user_modalities, _, _ = profile_objects('s3://none')\n"
        "del _\n"
    )
    apply_repo(shop.repo)
    shop.feast = shop.open_feast()
    assert shop.store.read_states(["ann"]) == [record_of(1)]
    assert shop.read(["ann"], ["text_count"])["text_count"] == [1]


def test_teardown_removes_this_project_and_no_other(shop: Shop, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["shop"]
    source = SourcePosition("id", "reviews", 0)
    other = Shop(shop.repo.parents[1], kind, request, f"other{shop.feast.project}")
    for store in (shop.store, other.store):
        store.compare_and_set([write_of("ann", 0)])
        store.write_positions("group", {source: 5})
        store.claim_space("a", "b")
    shop.feast.teardown()
    fresh = open_store(shop.repo)
    assert fresh.read_states(["ann"]) == [None]
    assert fresh.read_positions("group") == {}
    assert fresh.read_space() is None
    assert other.store.read_states(["ann"]) == [record_of(1)]
    assert other.store.read_positions("group") == {source: 5}
    fresh.close()
    other.store.close()


def test_profiles_materialized_into_an_empty_store_are_served_but_not_folded_over(shop: Shop) -> None:
    shop.write_history({"ann": 1, "bob": 2})
    shop.write_history({"ann": 5}, sentiment=[None], image_last_event=[0])
    shop.materialize()
    served = shop.read(["ann", "bob"], [*NAMES, "sentiment", "image_last_event", "text_count"])
    assert served["revision"] == [5, 2]
    assert served["sentiment"] == [None, 0.25]
    assert served["image_last_event"][0] is None
    assert served["embedding"][0] == [5.0] * EMBEDDING_DIM
    with pytest.raises(StatelessUsersError, match="2 of 3 users"):
        shop.store.read_states(["ann", "bob", "carol"])
    assert shop.store.compare_and_set([write_of("ann", 0)]) == [False]


def test_materialize_leaves_users_alone_whose_state_the_pipeline_keeps(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.store.compare_and_set([write_of("ann", 0, 3), write_of("bob", 0, erased=True)])
    shop.write_history({"ann": 9, "bob": 9, "carol": 9})
    with caplog.at_level(logging.WARNING):
        shop.materialize()
    assert shop.read(["ann", "bob", "carol"])["revision"] == [3, None, 9]
    assert shop.store.read_states(["ann"]) == [record_of(3)]
    assert shop.online_store().users_left_alone == 4  # two users in two views
    assert sum("left out" in message for message in caplog.messages) == 1


def test_a_view_of_another_team_is_written_for_users_with_a_state(shop: Shop) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    with shop.definitions.open("a") as file:
        file.write(
            "\nfrom feast import FeatureView, Field\nfrom feast.types import Int64\n"
            "orders = FeatureView(name='orders', entities=[user], source=profiles,"
            " schema=[Field(name='n_orders', dtype=Int64)])\n"
        )
    apply_repo(shop.repo)
    shop.feast = shop.open_feast()
    shop.store.compare_and_set([write_of("ann", 0)])
    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val="ann")])
    view = shop.feast.get_feature_view("orders")
    row = (key, {"n_orders": Value(int64_val=7)}, NOW, None)
    shop.online_store().online_write_batch(shop.feast.config, view, [row], None)
    rows = [{"user_id": "ann"}]
    served = shop.feast.get_online_features(["orders:n_orders", "user_profile:revision"], rows).to_dict()
    assert (served["n_orders"], served["revision"]) == ([7], [1])
    shop.store.compare_and_set([write_of("ann", 1, erased=True)])
    served = shop.feast.get_online_features(["orders:n_orders", "user_profile:revision"], rows).to_dict()
    assert (served["n_orders"], served["revision"]) == ([7], [None])


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_of_rows_written_through_feast_the_newest_wins(shop: Shop, order: tuple[int, ...]) -> None:
    write_through_feast(shop, [("ann", revision, revision) for revision in order])
    for revision in order:
        write_through_feast(shop, [("bob", revision, revision)])
    assert shop.read(["ann", "bob"])["revision"] == [3, 3]


def test_event_times_are_utc_whatever_the_time_zone_says(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.store.compare_and_set([write_of("ann", 0, 5)])
    write_through_feast(shop, [("bob", 5, 5)])
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        write_through_feast(shop, [("carol", 5, 5)])
        rows = [{"user_id": user} for user in ("ann", "bob", "carol")]
        served = shop.feast.get_online_features(["user_profile:revision"], rows)
    finally:
        monkeypatch.undo()
        time.tzset()
    seconds = [stamp.seconds for stamp in served.proto.results[1].event_timestamps]
    assert seconds == [NOW_US // 1_000_000 + 5] * 3


def test_a_corrected_row_of_the_same_time_replaces(shop: Shop) -> None:
    write_through_feast(shop, [("ann", 1, 5)])
    write_through_feast(shop, [("ann", 2, 5)])
    assert shop.read(["ann"])["revision"] == [2]


def test_threads_that_write_through_one_feast_store_lose_nothing(shop: Shop) -> None:
    users = [[f"user{thread}-{i}" for i in range(100)] for thread in range(8)]

    def write(mine: list[str]) -> None:
        for user in mine:
            write_through_feast(shop, [(user, 7, 1)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, users))
    assert shop.read([user for mine in users for user in mine], ["revision"])["revision"] == [7] * 800


def write_through_feast(shop: Shop, rows: list[tuple[str, int, int]]) -> None:
    """(user, revision, second of the event) as Feast's own writers hand them over."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    view = shop.feast.get_feature_view("user_profile")
    data = [
        (
            EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user)]),
            {"revision": Value(int64_val=revision)},
            NOW + timedelta(seconds=second),
            NOW,
        )
        for user, revision, second in rows
    ]
    shop.online_store().online_write_batch(shop.feast.config, view, data, None)


def test_a_point_in_time_join_takes_the_latest_profile_before_each_instant(shop: Shop) -> None:
    import pandas as pd

    shop.write_history({"ann": 1, "bob": 2})
    shop.write_history({"ann": 9})
    wanted = pd.DataFrame(
        {
            "user_id": ["ann", "ann", "bob", "bob"],
            "event_timestamp": [NOW + timedelta(seconds=s) for s in (5, 10, 1, 5)],
        }
    )
    features = ["user_profile:revision", "user_profile:embedding", "user_modalities:text_count"]
    joined = shop.feast.get_historical_features(wanted, features).to_df()
    joined = joined.sort_values(["user_id", "event_timestamp"]).reset_index(drop=True)
    assert joined["revision"].tolist()[:2] == [1, 9]
    assert joined["text_count"].tolist()[:2] == [1, 9]
    assert list(joined["embedding"][1]) == [9.0] * EMBEDDING_DIM
    assert joined["revision"].isna().tolist() == [False, False, True, False]
    assert joined["revision"][3] == 2

"""The bytes that we write without Feast are the bytes that Feast would write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.online import feast_keys
from features.online.encode import encode_views, timestamp
from features.schema import PROFILE_FIELDS, VIEWS
from tests.support.folders import ROOT
from tests.support.profiles import NOW_US, columns_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def feast() -> None:
    """Import it first, and not while tests are collected: it takes seconds."""
    from features.online import feast_import  # noqa: F401


def value_of(kind: str, value: Any) -> bytes:
    """Feast's own serialization, field by field of its protobuf."""
    from feast.protos.feast.types import Value_pb2

    make: dict[str, Callable[[], dict[str, Any]]] = {
        "vector": lambda: {"float_list_val": Value_pb2.FloatList(val=np.asarray(value).tolist())},
        "float": lambda: {"float_val": value},
        "int": lambda: {"int64_val": value},
        "string": lambda: {"string_val": value},
        "json": lambda: {"string_val": value},
        "strings": lambda: {"string_list_val": Value_pb2.StringList(val=value)},
        "time": lambda: {"unix_timestamp_val": value // 1_000_000},
    }
    serialized: bytes = Value_pb2.Value(**make[kind]()).SerializeToString()
    return serialized


def test_values_are_those_of_feast() -> None:
    revisions = [1, 2, 127, 128, 300, 2**31, 2**40]
    columns = columns_of(revisions)
    for i, views in enumerate(encode_views(columns)):
        for field in PROFILE_FIELDS:
            assert views[field.view][field.name] == value_of(field.type, columns[field.name][i]), field.name


def test_negative_numbers_and_empty_texts_are_those_of_feast() -> None:
    edge: dict[str, list[Any]] = {
        "version": [-1, -(2**63)],
        "sentiment": [-0.25, 0.0],
        "tags": ["", "x" * 300],
        "interests": [[], [""]],
    }
    kinds = {field.name: field for field in PROFILE_FIELDS}
    for i, views in enumerate(encode_views(columns_of([1, 2]) | edge)):
        for name, values in edge.items():
            assert views[kinds[name].view][name] == value_of(kinds[name].type, values[i]), name


def test_null_is_a_value_of_which_nothing_is_set() -> None:
    from feast.protos.feast.types.Value_pb2 import Value

    assert (
        Value().SerializeToString()
        == encode_views(columns_of([1]) | {"sentiment": [None]})[0]["user_profile"]["sentiment"]
    )


@pytest.mark.parametrize("user_id", ["a", "ann@example.com", "x" * 128, "书"])
def test_entity_keys_are_those_of_feast(user_id: str) -> None:
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    key = EntityKey(join_keys=["user_id"], entity_values=[Value(string_val=user_id)])
    assert feast_keys.entity_key(user_id) + b"shop" == _redis_key("shop", key, feast_keys.ENTITY_KEY_VERSION)


def test_hash_fields_are_those_of_feast() -> None:
    from feast.infra.online_stores.helpers import _mmh3

    for field in PROFILE_FIELDS:
        assert feast_keys.redis_field(field.view, field.name) == _mmh3(f"{field.view}:{field.name}")
    assert feast_keys.redis_time_field("user_profile") == b"_ts:user_profile"
    assert len({feast_keys.redis_field(f.view, f.name) for f in PROFILE_FIELDS}) == len(PROFILE_FIELDS)


@pytest.mark.parametrize("time_us", [0, 1, 1_000_000, NOW_US])
def test_timestamps_are_those_of_feast(time_us: int) -> None:
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us))
    assert timestamp(time_us) == stamp.SerializeToString()


def test_views_and_types_are_those_of_the_schema(tmp_path: Path) -> None:
    from features.repo.definitions import profile_objects

    objects = profile_objects(tmp_path / "repo" / ".." / "data")
    views = {view.name: view for view in (objects.user_profile, objects.user_modalities)}
    assert tuple(views) == VIEWS
    for field in PROFILE_FIELDS:
        (declared,) = [feature for feature in views[field.view].features if feature.name == field.name]
        assert declared.description == field.doc
    assert objects.profiles.path == f"{tmp_path}/data/profiles/**/*.parquet"
    assert profile_objects("s3://bucket/data/").profiles.path == "s3://bucket/data/profiles/**/*.parquet"


def test_importing_feast_leaves_metrics_environment_and_temporary_folder_alone(tmp_path: Path) -> None:
    program = (
        "import os, warnings; filters = list(warnings.filters)\n"
        "import features.online.redis, features.online.sqlite\n"
        "import prometheus_client.values as values, feast.metrics\n"
        "assert values.ValueClass is values.MutexValue, values.ValueClass\n"
        "assert not [name for name in os.environ if name.startswith('PROMETHEUS')], os.environ\n"
        "assert warnings.filters == filters, warnings.filters\n"
        "import prometheus_client; prometheus_client.Counter('c', 'd').inc()\n"
        "assert b'c_total 1.0' in prometheus_client.generate_latest()\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("feast*"))


def test_a_program_that_imported_feast_itself_keeps_its_metrics(tmp_path: Path) -> None:
    program = (
        "import os, feast\n"
        "import features.online.redis\n"
        "import prometheus_client.values as values\n"
        "assert values.ValueClass is not values.MutexValue\n"
        "assert os.environ['PROMETHEUS_MULTIPROCESS_DIR'].startswith(os.environ['TMPDIR'])\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PROMETHEUS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

"""What the Redis store says and does when the server is down, full, forgetful or not allowed to tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from features.online import ProfileStore, StoreError
from features.online.redis_connection import connect
from features.online.redis_profiles import RedisProfiles
from tests.support.profiles import record_of, write_of
from tests.support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own: these tests break it."""
    with running_redis(tmp_path / "redis") as server:
        yield server


def open_profiles(
    server: RedisServer, parameters: str = "", key_ttl_seconds: int | None = None
) -> ProfileStore:
    client, where = connect(server.connection_string + parameters)
    return RedisProfiles("shop", client, where, key_ttl_seconds)


def test_a_server_that_is_gone_is_a_store_error_with_its_address(server: RedisServer) -> None:
    store = open_profiles(server, ",password=hunter2")
    server.process.kill()
    server.process.wait()
    with pytest.raises(
        StoreError, match=f"redis at 127.0.0.1:{server.port}: expected to read states"
    ) as down:
        store.read_states(["ann"])
    assert "hunter2" not in str(down.value)


def test_a_wrong_password_is_a_store_error_that_does_not_tell_it(server: RedisServer) -> None:
    with server.client() as client:
        client.config_set("requirepass", "right")
    store = open_profiles(server, ",password=hunter2")
    with pytest.raises(StoreError, match="AuthenticationError") as refused:
        store.compare_and_set([write_of("ann", 0)])
    assert "hunter2" not in str(refused.value)


def test_a_server_that_forgot_the_script_is_taught_again(server: RedisServer) -> None:
    store = open_profiles(server)
    store.compare_and_set([write_of("ann", 0)])
    with server.client() as client:
        client.script_flush()
    assert store.compare_and_set([write_of("ann", 1), write_of("bob", 0)]) == [True, True]
    assert store.read_states(["ann"]) == [record_of(2)]


def test_a_full_server_refuses_whole_writes(server: RedisServer) -> None:
    store = open_profiles(server)
    store.compare_and_set([write_of("ann", 0)])
    with server.client() as client:
        client.config_set("maxmemory", 1)
    with pytest.raises(StoreError, match="OutOfMemoryError"):
        store.compare_and_set([write_of("ann", 1)])
    assert store.read_states(["ann"]) == [record_of(1)]


def test_an_error_does_not_quote_the_user_or_the_record(server: RedisServer) -> None:
    store = open_profiles(server)
    with server.client() as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["-evalsha", "-hmget"])
    for call in (
        lambda: store.compare_and_set([write_of("ann-the-user", 0)]),
        lambda: store.read_states(["ann-the-user"]),
    ):
        with pytest.raises(StoreError, match="NoPermissionError") as refused:
            call()
        assert "ann-the-user" not in str(refused.value)
        assert "record" not in str(refused.value)


def test_what_was_acknowledged_survives_kill_9_of_the_server(tmp_path: Path) -> None:
    with running_redis(tmp_path / "redis", appendfsync="always") as server:
        assert open_profiles(server).compare_and_set([write_of("ann", 0)]) == [True]
        server.process.kill()
        server.process.wait()
    with running_redis(tmp_path / "redis", appendfsync="always") as server:
        assert open_profiles(server).read_states(["ann"]) == [record_of(1)]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("appendonly", "no", "expected appendonly yes, got no; run CONFIG SET appendonly yes"),
        ("appendfsync", "no", "expected appendfsync everysec or always, got no"),
        ("maxmemory-policy", "allkeys-lru", "expected maxmemory-policy noeviction, got allkeys-lru"),
    ],
)
def test_a_setting_that_loses_writes_is_a_problem(
    server: RedisServer, name: str, value: str, problem: str
) -> None:
    with server.client() as client:
        client.config_set(name, value)
    (found,) = open_profiles(server).durability_problems()
    assert problem in found


def test_an_expiry_is_a_problem(server: RedisServer) -> None:
    (found,) = open_profiles(server, key_ttl_seconds=60).durability_problems()
    assert "got key_ttl_seconds: 60; remove online_store.key_ttl_seconds" in found


def test_a_server_that_does_not_tell_its_settings_is_a_problem(server: RedisServer) -> None:
    with server.client() as client:
        client.acl_setuser("default", enabled=True, nopass=True, commands=["-config"])
    found = open_profiles(server).durability_problems()
    assert len(found) == 3
    assert "expected appendonly yes, got no answer (CONFIG GET is not allowed)" in found[0]
    assert "set accept_store_risks: true" in found[0]

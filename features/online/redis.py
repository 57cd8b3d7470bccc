"""Feast's Redis store, safe beside a running pipeline. In ``feature_store.yaml``::

    online_store:
      type: features.online.redis.PortraitRedisOnlineStore
      connection_string: localhost:6379

It reads and writes what Feast's own store does, with these differences:

- writes are atomic and newest wins, also between processes; a row of the same time replaces;
- rows for a user whose state the pipeline keeps are left out, and counted: they could only undo it;
- users without features are NOT_FOUND (Feast's: PRESENT, with nulls);
- ``feast apply`` and ``teardown`` touch exactly their project, and ``apply`` never a state.
"""

from __future__ import annotations

from features.online import feast_import  # noqa: F401

# isort: split

import asyncio
import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Literal

from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.helpers import _redis_key, _redis_key_prefix
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, _versioned_fv_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware

from features.online.encode import timestamp
from features.online.feast_keys import redis_field, redis_time_field
from features.online.redis_profiles import (
    MAX_BATCH_USERS,
    Command,
    make_script,
    positions_key,
    run_scripts,
    space_key,
)
from features.schema import VIEWS

_log = logging.getLogger(__name__)

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]

_TYPE: Final = "features.online.redis.PortraitRedisOnlineStore"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HAS_STATE: Final = 2
_NEWEST_WINS: Final = make_script("""
local function parts(timestamp)
  local field, i = {0, 0}, 1
  while i <= #timestamp do
    local tag, number, weight, byte = timestamp:byte(i), 0, 1, nil
    repeat
      i = i + 1
      byte = timestamp:byte(i)
      number = number + (byte % 128) * weight
      weight = weight * 128
    until byte < 128
    if number >= 2 ^ 63 then number = number - 2 ^ 64 end
    field[math.floor(tag / 8)] = number
    i = i + 1
  end
  return field[1], field[2]
end
if ARGV[1] == '1' and redis.call('HEXISTS', KEYS[1], 'portrait:revision') == 1 then return 2 end
local held = redis.call('HGET', KEYS[1], ARGV[2])
if held then
  local old_s, old_ns = parts(held)
  local new_s, new_ns = parts(ARGV[3])
  if new_s < old_s or (new_s == old_s and new_ns < old_ns) then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
""")
"""KEYS: the user. ARGV: '1' to leave users with a state alone, then fields and values; the first
pair is the event timestamp (``google.protobuf.Timestamp``)."""


class PortraitRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Settings of Feast's Redis store. ``key_ttl_seconds`` must stay unset: states must not expire."""

    type: Literal["features.online.redis.PortraitRedisOnlineStore"] = _TYPE  # type: ignore[assignment]


class PortraitRedisOnlineStore(RedisOnlineStore):
    """What Feast calls; the pipeline uses :class:`~features.online.redis_profiles.RedisProfiles`."""

    users_left_alone = 0
    """Rows not written because their users have a state."""

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        client = self._get_client(config.online_store)
        view = _versioned_fv_name(table, config)
        guard = b"1" if view in VIEWS else b"0"
        rows = iter(data)
        while batch := list(islice(rows, MAX_BATCH_USERS)):
            commands = [
                Command(_NEWEST_WINS, _key(config, row[0]), [guard, *_fields(view, row[1], row[2])])
                for row in batch
            ]
            self._count(run_scripts(client, commands).count(_HAS_STATE))
            if progress:
                progress(len(batch))

    async def online_write_batch_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def delete_table(self, config: RepoConfig, table: FeatureView) -> None:
        """Remove a view from all users; Feast's own would remove the state of users left without views."""
        client = self._get_client(config.online_store)
        view = _versioned_fv_name(table, config)
        fields = [redis_field(view, feature.name) for feature in table.features]
        fields.append(redis_time_field(view))
        keys = _user_keys(client, config.project, table.join_keys)
        while batch := list(islice(keys, MAX_BATCH_USERS)):
            with client.pipeline(transaction=False) as pipe:
                for key in batch:
                    pipe.hdel(key, *fields)
                pipe.execute()

    def delete_entity_values(self, config: RepoConfig, join_keys: list[str]) -> None:
        """Remove all users of this project, and of no other whose name ends alike."""
        client = self._get_client(config.online_store)
        keys = _user_keys(client, config.project, join_keys)
        while batch := list(islice(keys, MAX_BATCH_USERS)):
            with client.pipeline(transaction=False) as pipe:
                for key in batch:
                    pipe.unlink(key)
                pipe.execute()

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Remove users, states, positions and spaces: positions without their states would skip events."""
        super().teardown(config, tables, entities)
        client = self._get_client(config.online_store)
        for key in client.scan_iter(match=positions_key(config.project, "*")):
            client.delete(key)
        client.delete(space_key(config.project))

    def _get_features_for_entity(
        self, values: Sequence[Any], feature_view: str, requested_features: list[str]
    ) -> ReadRow:
        held: ReadRow = super()._get_features_for_entity(values, feature_view, requested_features)
        time = values[requested_features.index(f"_ts:{feature_view}")]
        return (None, None) if time is None else held

    def _count(self, left_alone: int) -> None:
        if left_alone and not self.users_left_alone:
            _log.warning("rows of users whose state the pipeline keeps are left out (first: %d)", left_alone)
        self.users_left_alone += left_alone


def _key(config: RepoConfig, key: EntityKey) -> bytes:
    made: bytes = _redis_key(config.project, key, config.entity_key_serialization_version)
    return made


def _fields(view: str, values: dict[str, Value], time: datetime) -> list[bytes]:
    time_us = (make_tzaware(time) - _EPOCH) // timedelta(microseconds=1)
    fields = [redis_time_field(view), timestamp(time_us)]
    for name, value in values.items():
        fields += (redis_field(view, name), value.SerializeToString())
    return fields


def _user_keys(client: Any, project: str, join_keys: list[str]) -> Iterator[bytes]:
    """Keys of exactly this project and these join keys. (A pattern alone also finds longer names.)"""
    head: bytes = _redis_key_prefix(join_keys)
    for key in client.scan_iter(match=b"*" + project.encode(), count=1000):
        if not key.startswith(head):
            continue
        end = len(head)
        for _ in join_keys:
            if end + 8 > len(key):
                break
            end += 8 + struct.unpack_from("<I", key, end + 4)[0]
        if key[end:] == project.encode():
            yield key

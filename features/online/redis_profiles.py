"""States and views of users in Redis: one hash per user, changed by one script.

The hash is Feast's own: its key is the serialized entity key and the project, its fields are Feast's
(``features.online.feast_keys``). Beside them lie two plain fields, ``portrait:state`` (the packed record)
and ``portrait:revision`` (decimal). Every script names a single key, so all of this runs on Redis
Cluster. Nothing here imports Feast.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha1
from itertools import islice
from typing import Any, Final, NamedTuple

from redis import RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from features.online import ProfileWrite, ServedUser, SourcePosition, StatelessUsersError
from features.online.encode import int64, timestamp
from features.online.feast_keys import VIEW_TIME_FIELDS, entity_key, redis_field, redis_time_field, user_of
from features.online.redis_connection import redis_errors
from features.schema import PROFILE_FIELDS

STATE: Final = b"portrait:state"
_INCARNATION_0: Final = int64(0)

MAX_BATCH_USERS: Final = 500
MAX_BATCH_BYTES: Final = 4_000_000
"""Of one pipeline, so that neither side buffers without bound."""

_REQUIRED_CONFIG: Final = (
    ("appendonly", ("yes",)),
    ("appendfsync", ("everysec", "always")),
    ("maxmemory-policy", ("noeviction",)),
)
ACKNOWLEDGE: Final = "accept_store_risks: true"
"""The line of portrait.yaml that accepts what a managed server does not let us check."""

_COMPARE: Final = """
local held = redis.call('HMGET', KEYS[1], 'portrait:revision', '_ts:user_profile', '_ts:user_modalities')
local absent = not (held[1] or held[2] or held[3])
if held[1] ~= ARGV[1] and not (absent and ARGV[1] == '0') then return 0 end
"""
"""A user with views but no revision was loaded by ``feast materialize``, and is not absent."""

_STATE_PAIRS: Final = "'portrait:revision', ARGV[2], 'portrait:state', ARGV[3]"


class Script(NamedTuple):
    """A Lua script on one key, and the hash that a server knows it by."""

    text: str
    sha: str


class Command(NamedTuple):
    """One run of a script."""

    script: Script
    key: bytes
    arguments: list[bytes]


class RedisProfiles:
    """A :class:`~features.online.ProfileStore` on Redis, Redis Cluster or a Sentinel's master."""

    def __init__(self, project: str, client: Any, where: str, key_ttl_seconds: int | None = None) -> None:
        self._project = project
        self._client = client
        self._where = where
        self._key_ttl_seconds = key_ttl_seconds

    def read_states(self, user_ids: Sequence[str]) -> list[bytes | None]:
        with redis_errors(self._where, "read states"):
            rows = self._read(user_ids, (STATE, *VIEW_TIME_FIELDS))
        stateless = sum(state is None and any(times) for state, *times in rows)
        if stateless:
            raise StatelessUsersError(
                f"{self._where}: expected a state beside the views of every user, got {stateless} of "
                f"{len(user_ids)} users with views alone (feast materialize); run portrait rebuild"
            )
        return [row[0] for row in rows]

    def read_views(self, user_ids: Sequence[str], *, records: bool = False) -> list[ServedUser]:
        fields = _served_fields()
        with redis_errors(self._where, "read views"):
            if records:
                return [_with_record(held) for held in self._read(user_ids, (*fields, STATE))]
            rows = self._read(user_ids, fields)
            users = [ServedUser(held, None) for held in rows]
            without = [i for i, held in enumerate(rows) if held.count(None) == len(held)]
            asked = [user_ids[i] for i in without]  # again with their views: they may appear in between
            for i, held in zip(without, self._read(asked, (*fields, STATE)), strict=True):
                users[i] = _with_record(held)
        return users

    def _read(self, user_ids: Sequence[str], fields: tuple[bytes, ...]) -> list[list[bytes | None]]:
        rows: list[list[bytes | None]] = []
        for start in range(0, len(user_ids), MAX_BATCH_USERS):
            with self._client.pipeline(transaction=False) as pipe:
                for user_id in user_ids[start : start + MAX_BATCH_USERS]:
                    pipe.execute_command("HMGET", self._key(user_id), *fields)
                rows += _checked(pipe.execute(raise_on_error=False))
        return rows

    def compare_and_set(self, writes: Sequence[ProfileWrite]) -> list[bool]:
        stored: list[bool] = []
        for commands in _batches([self._command(write) for write in writes]):
            with redis_errors(self._where, "compare and set"):
                stored.extend(reply == 1 for reply in run_scripts(self._client, commands))
        return stored

    def erased_users(self) -> Iterator[tuple[str, bytes]]:
        incarnation_field = redis_field("user_profile", "incarnation")
        users = self._users()
        seen: set[str] = set()
        while batch := list(islice(users, MAX_BATCH_USERS)):
            with redis_errors(self._where, "find erased users"):
                marks = self._read(batch, (incarnation_field,))
                few = [user for user, (mark,) in zip(batch, marks, strict=True) if mark != _INCARNATION_0]
                rows = self._read(few, (STATE, incarnation_field))  # states of all would be gigabytes
            for user_id, (state, incarnation) in zip(few, rows, strict=True):
                if state is not None and incarnation != _INCARNATION_0 and user_id not in seen:
                    seen.add(user_id)
                    yield user_id, state

    def _users(self) -> Iterator[str]:
        """Users of this project; SCAN may name one twice."""
        project = self._project.encode()
        with redis_errors(self._where, "list users"):
            for key in self._client.scan_iter(match=b"*" + project, count=1000):
                user_id, rest = user_of(key) or ("", b"")
                if user_id and rest == project:
                    yield user_id

    def remove(self, user_ids: Sequence[str]) -> None:
        fields = (STATE, b"portrait:revision", *_served_fields(), *VIEW_TIME_FIELDS)
        with redis_errors(self._where, "remove users"):
            for start in range(0, len(user_ids), MAX_BATCH_USERS):
                with self._client.pipeline(transaction=False) as pipe:
                    for user_id in user_ids[start : start + MAX_BATCH_USERS]:
                        pipe.hdel(self._key(user_id), *fields)
                    _checked(pipe.execute(raise_on_error=False))

    def read_positions(self, namespace: str) -> dict[SourcePosition, int]:
        with redis_errors(self._where, "read positions"):
            held = self._client.hgetall(self._positions_key(namespace))
        return {SourcePosition(*json.loads(field)): int(offset) for field, offset in held.items()}

    def write_positions(self, namespace: str, positions: Mapping[SourcePosition, int]) -> None:
        if not positions:
            return
        fields = {json.dumps(position): offset for position, offset in positions.items()}
        with redis_errors(self._where, "write positions"):
            self._client.hset(self._positions_key(namespace), mapping=fields)

    def read_space(self) -> tuple[str, str] | None:
        with redis_errors(self._where, "read the space"):
            held = self._client.get(self._space_key())
        if held is None:
            return None
        event_space, profile_space = json.loads(held)
        return event_space, profile_space

    def claim_space(self, event_space: str, profile_space: str) -> tuple[str, str]:
        with redis_errors(self._where, "claim the space"):
            self._client.set(self._space_key(), json.dumps([event_space, profile_space]), nx=True)
        return self.read_space() or (event_space, profile_space)

    def durability_problems(self) -> list[str]:
        problems = []
        if self._key_ttl_seconds is not None:
            problems.append(
                f"{self._where}: expected no expiry, got key_ttl_seconds: {self._key_ttl_seconds}; "
                "remove online_store.key_ttl_seconds from feature_store.yaml"
            )
        for name, accepted in _REQUIRED_CONFIG:
            values = self._config_values(name)
            if not values:
                problems.append(
                    f"{self._where}: expected {name} {' or '.join(accepted)}, got no answer (CONFIG GET is "
                    f"not allowed); check it with the provider, then set {ACKNOWLEDGE} to accept it unchecked"
                )
            problems.extend(
                f"{self._where}: expected {name} {' or '.join(accepted)}, got {value}; "
                f"run CONFIG SET {name} {accepted[0]} and set it in redis.conf"
                for value in sorted(values - set(accepted))
            )
        return problems

    def close(self) -> None:
        self._client.close()

    def _key(self, user_id: str) -> bytes:
        return entity_key(user_id) + self._project.encode()

    def _positions_key(self, namespace: str) -> str:
        return positions_key(self._project, namespace)

    def _space_key(self) -> str:
        return space_key(self._project)

    def _command(self, write: ProfileWrite) -> Command:
        arguments = [b"%d" % write.expected_revision, b"%d" % write.revision, write.record]
        key = self._key(write.user_id)
        if write.views is None:
            return Command(_drop_views(), key, arguments)
        for features in write.views.values():
            arguments += features.values()
        arguments += [timestamp(write.event_timestamp_us)] * len(write.views)
        return Command(_set_views(tuple(write.views), *map(tuple, write.views.values())), key, arguments)

    def _config_values(self, name: str) -> set[str]:
        """The values in force, one a node; empty where the server does not tell."""
        client: Any = self._client
        nodes = [client]
        if isinstance(client, RedisCluster):
            nodes = [client.get_redis_connection(node) for node in client.get_primaries()]  # type: ignore[no-untyped-call]
        values: set[str] = set()
        for node in nodes:
            with redis_errors(self._where, f"read the setting {name}"):
                try:
                    values.update(str(v) for v in node.config_get(name).values())
                except ResponseError:
                    return set()
        return values


@lru_cache(maxsize=1)
def _served_fields() -> tuple[bytes, ...]:
    return tuple(redis_field(field.view, field.name) for field in PROFILE_FIELDS)


def _with_record(held: list[bytes | None]) -> ServedUser:
    """The values, and the state after them."""
    values = held[:-1]
    return ServedUser(None if values.count(None) == len(values) else values, held[-1])


def positions_key(project: str, namespace: str) -> str:
    """A hash: JSON of a source position → next offset."""
    return f"portrait:positions:{project}:{namespace}"


def space_key(project: str) -> str:
    """A string: JSON of the two spaces."""
    return f"portrait:space:{project}"


def make_script(text: str) -> Script:
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def run_scripts(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Run all commands in one pipeline; the replies in order.

    Sends hashes (EVALSHA); what a node does not know yet is sent again in full (EVAL).
    Raises the first error among the replies.
    """
    with client.pipeline(transaction=False) as pipe:
        for script, key, arguments in commands:
            pipe.execute_command("EVALSHA", script.sha, 1, key, *arguments)
        replies = pipe.execute(raise_on_error=False)
    unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        with client.pipeline(transaction=False) as pipe:
            for script, key, arguments in (commands[i] for i in unknown):
                pipe.execute_command("EVAL", script.text, 1, key, *arguments)
            for i, reply in zip(unknown, pipe.execute(raise_on_error=False), strict=True):
                replies[i] = reply
    return _checked(replies)


@lru_cache(maxsize=64)
def _set_views(views: tuple[str, ...], *features: tuple[str, ...]) -> Script:
    """Set state and views in one HSET: two commands would reach the AOF as a transaction, a sixth slower.

    The names of the fields stand in the script: passing them with every user costs a fifth more.
    """
    fields = [redis_field(view, name) for view, names in zip(views, features, strict=True) for name in names]
    fields += map(redis_time_field, views)
    pairs = ", ".join(f"{_lua_string(field)}, ARGV[{number}]" for number, field in enumerate(fields, start=4))
    return make_script(f"{_COMPARE}redis.call('HSET', KEYS[1], {_STATE_PAIRS}, {pairs})\nreturn 1")


@lru_cache(maxsize=1)
def _drop_views() -> Script:
    """Set the state and remove our views; views of others stay."""
    fields = [*(redis_field(f.view, f.name) for f in PROFILE_FIELDS), *VIEW_TIME_FIELDS]
    return make_script(
        f"{_COMPARE}redis.call('HDEL', KEYS[1], {', '.join(map(_lua_string, fields))})\n"
        f"redis.call('HSET', KEYS[1], {_STATE_PAIRS})\nreturn 1"
    )


def _lua_string(raw: bytes) -> str:
    return "'" + "".join(f"\\{byte:03d}" for byte in raw) + "'"


def _batches(commands: Sequence[Command]) -> Iterator[Sequence[Command]]:
    """Cut by users and bytes; a single command may be larger than the limit."""
    start = size = 0
    for end, command in enumerate(commands):
        more = sum(map(len, command.arguments))
        if end > start and (end - start == MAX_BATCH_USERS or size + more > MAX_BATCH_BYTES):
            yield commands[start:end]
            start, size = end, 0
        size += more
    if commands:
        yield commands[start:]


def _checked(replies: list[Any]) -> list[Any]:
    """Raises the first error among the replies. (redis-py would quote the whole command in it.)"""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies

"""``feature_store.yaml`` → the :class:`~features.online.ProfileStore` that it names.

Reads the file as Feast does (environment variables expanded, paths relative to the repo), but neither
imports Feast nor opens the registry: workers start in milliseconds and need no right to write to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from features.errors import UsageError
from features.online import ProfileStore
from features.online.feast_keys import ENTITY_KEY_VERSION

REDIS_TYPE: Final = "features.online.redis.PortraitRedisOnlineStore"
SQLITE_TYPE: Final = "features.online.sqlite.PortraitSqliteOnlineStore"
CONFIG_FILE: Final = "feature_store.yaml"


class StoreConfigError(UsageError):
    """A ``feature_store.yaml`` that cannot be used; the message names the file and the key."""


def open_store(repo_path: str | Path) -> ProfileStore:
    """The store of a Feast repo. Connects at the first call (Redis Cluster: here).

    Raises StoreConfigError for a file that is missing or does not name one of our stores, StoreError
    if Redis Cluster cannot be reached.
    """
    file = Path(repo_path) / CONFIG_FILE
    config = _read(file)
    project = config.get("project")
    if not isinstance(project, str) or not project:
        raise StoreConfigError(f"{file}: project: expected a name, got {project!r}; set it")
    if config.get("entity_key_serialization_version", ENTITY_KEY_VERSION) != ENTITY_KEY_VERSION:
        raise StoreConfigError(
            f"{file}: entity_key_serialization_version: expected {ENTITY_KEY_VERSION}; set it"
        )
    registry = config.get("registry")
    if isinstance(registry, dict) and registry.get("enable_online_feature_view_versioning"):
        raise StoreConfigError(
            f"{file}: registry.enable_online_feature_view_versioning: expected false, got true; remove it"
        )
    online = config.get("online_store")
    kind = online.get("type") if isinstance(online, dict) else online
    if not isinstance(online, dict) or kind not in (REDIS_TYPE, SQLITE_TYPE):
        raise StoreConfigError(
            f"{file}: online_store.type: expected {REDIS_TYPE} or {SQLITE_TYPE}, got {kind!r}; set one"
        )
    return _redis(file, project, online) if kind == REDIS_TYPE else _sqlite(file, project, online)


def _read(file: Path) -> dict[str, Any]:
    try:
        text = os.path.expandvars(file.read_text(encoding="utf-8"))
        config = yaml.safe_load(text)
    except OSError as error:
        raise StoreConfigError(f"{file}: expected a file, got {error.strerror}; run portrait init") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f" in line {where.line + 1}"
        raise StoreConfigError(f"{file}: expected YAML, got a syntax error{line}; correct it") from None
    if not isinstance(config, dict):
        raise StoreConfigError(f"{file}: expected a mapping, got {type(config).__name__}; run portrait init")
    return config


def _redis(file: Path, project: str, online: Mapping[str, Any]) -> ProfileStore:
    try:
        from features.online.redis_connection import RedisType, connect
        from features.online.redis_profiles import RedisProfiles
    except ImportError as error:
        raise StoreConfigError(
            f"{file}: online_store.type: expected the Redis client, got {error}; "
            "pip install portrait-profiles[redis]"
        ) from error
    redis_type = online.get("redis_type", "redis")
    if redis_type not in get_args(RedisType):
        raise StoreConfigError(
            f"{file}: online_store.redis_type: expected one of {get_args(RedisType)}, got {redis_type!r}"
        )
    text = str(online.get("connection_string", "localhost:6379"))
    if unset := re.findall(r"\$\{(\w+)\}", text):
        raise StoreConfigError(
            f"{file}: online_store.connection_string: expected {unset} in the environment, got none; set it"
        )
    try:
        client, where = connect(text, redis_type, online.get("sentinel_master", "mymaster"))
    except ValueError as error:
        raise StoreConfigError(f"{file}: online_store.{error}; correct it") from None
    except TypeError as error:  # names the parameter, never its value
        raise StoreConfigError(
            f"{file}: online_store.connection_string: expected redis-py's parameters, got {error}; correct it"
        ) from None
    return RedisProfiles(project, client, where, online.get("key_ttl_seconds"))


def _sqlite(file: Path, project: str, online: Mapping[str, Any]) -> ProfileStore:
    from features.online.sqlite_profiles import SqliteProfiles

    path = online.get("path", "data/online.db")
    if not isinstance(path, str) or not path or path.startswith((":memory:", "file:")):
        raise StoreConfigError(
            f"{file}: online_store.path: expected the path of a file, got {path!r}; set it"
        )
    return SqliteProfiles(project, file.parent / path)

"""Settings: frozen values from one YAML file, then the environment, then flags; unknown keys fail.

``PORTRAIT_KAFKA__GROUP_ID=x`` and ``--set kafka.group_id=x`` both override ``kafka: {group_id: …}``.
This module alone reads the environment. Secrets are named, never written: ``env:NAME`` or ``file:PATH``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from features.errors import UsageError
from features.schema import DAY_S, HALF_LIVES_S, PRIOR_EVENTS

ENV_PREFIX: Final = "PORTRAIT_"
DEFAULT_FILE: Final = "portrait.yaml"
_STRICT: Final = ConfigDict(extra="forbid", frozen=True)

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Days = Annotated[float, Field(gt=0, le=36_500)]


class SettingsError(UsageError):
    """Settings that cannot be used: ``<file>:<line>: <key>: expected <x>, got <y>; <what to do>``."""


def _check_secret(reference: str) -> str:
    if not reference.startswith(("env:", "file:")):
        raise ValueError("expected a reference env:NAME or file:PATH, never the secret itself")
    return reference


SecretRef = Annotated[str, AfterValidator(_check_secret)]
"""Where a secret is found; :func:`secret` reads it at the last moment."""


def secret(reference: str) -> str:
    """The secret behind ``env:NAME`` or ``file:PATH``. Raises SettingsError naming the reference only."""
    kind, _, where = reference.partition(":")
    if kind == "env":
        value = os.environ.get(where)
        if value is None:
            raise SettingsError(f"{reference}: expected the variable to be set, got none; export {where}")
        return value
    try:
        return Path(where).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise SettingsError(f"{reference}: expected a readable file, got {error.strerror}") from error


@dataclass(config=_STRICT)
class Security:
    """How to reach the brokers; the names are kafka-python's."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    ssl_password: SecretRef | None = None
    ssl_check_hostname: bool = True
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    sasl_username: SecretRef | None = None
    sasl_password: SecretRef | None = None


@dataclass(config=_STRICT)
class Topics:
    """Topic names by what they carry."""

    reviews: str = "reviews"
    images: str = "images"
    voices: str = "voices"
    controls: str = "controls"

    def all(self) -> tuple[str, ...]:
        """Every source topic, contents first."""
        return (self.reviews, self.images, self.voices, self.controls)


@dataclass(config=_STRICT)
class Kafka:
    """Where records come from and where a run without stored positions begins."""

    bootstrap_servers: tuple[str, ...] = ("localhost:9092",)
    topics: Topics = field(default_factory=Topics)
    group_id: str = "portrait"
    start: Literal["earliest", "latest", "committed", "timestamp"] = "earliest"
    """Start of a partition that no position is stored for; ``committed`` refuses such a partition."""
    start_timestamp_ms: int | None = None
    on_out_of_range: Literal["error", "earliest", "latest"] = "error"
    security: Security = field(default_factory=Security)
    max_record_bytes: Count = 8_388_608
    dead_letter_retention_days: Days = 30.0
    """How long a dead-letter topic that a run creates keeps its records; existing ones stay as they are."""
    connect_timeout_s: Seconds = 10.0
    discover_every_s: Seconds = 5.0


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name, or of an offset such as +08:00. Raises ValueError."""
    try:
        offset = datetime.strptime(name, "%z").tzinfo if name.startswith(("+", "-")) else None
        return offset or ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # no such file, a folder of zones, a path that leads out
        raise ValueError(
            'expected an IANA name such as Asia/Shanghai, or an offset in quotes such as "+08:00"'
        ) from None


def _check_zone(name: Any) -> Any:
    if name is not None:
        zone_of(name if isinstance(name, str) else "")  # YAML reads +10:00 without quotes as the number 600
    return name


def _lower_first(scale: tuple[float, float]) -> tuple[float, float]:
    if not -math.inf < scale[0] < scale[1] < math.inf:
        raise ValueError("expected a lowest rating, then a higher one, such as [0, 10]")
    return scale


@dataclass(config=_STRICT)
class TopicMapping:
    """Reads a topic of plain JSON (no CloudEvents): where in the object each thing is (``a.b.c``)."""

    type: Literal["portrait.review.v1", "portrait.image.v1", "portrait.voice.v1"]
    user: str
    content: str
    id: str | None = None  # none: the source position is the id
    time: str | None = None  # none: the record's timestamp
    time_unit: Literal["iso8601", "s", "ms", "us"] = "iso8601"
    time_zone: Annotated[str | None, BeforeValidator(_check_zone)] = None
    """Of times without one: an IANA name (Asia/Shanghai) or an offset ("+08:00"); none: `bad_time`."""
    encoding: Literal["text", "base64", "ref"] = "text"
    rating: str | None = None
    rating_scale: Annotated[tuple[float, float], AfterValidator(_lower_first)] = (1.0, 5.0)
    """What ratings run from and to; they become 1 to 5."""
    lang: str | None = None
    source: str | None = None  # literal source; none: kafka:<topic>


@dataclass(config=_STRICT)
class Media:
    """What claim checks may point to; nothing is allowed until it is listed."""

    roots: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    max_bytes: Count = 20_971_520
    timeout_s: Seconds = 10.0


@dataclass(config=_STRICT)
class Models:
    """Encoders, fusion and how they run. A path of None is the shipped weight file."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    text: Path | None = None
    image: Path | None = None
    voice: Path | None = None
    fusion: Path | None = None
    fusion_kind: Literal["learned", "concat", "average", "attention"] = "learned"
    batch_items: Count = 64
    batch_bytes: Count = 67_108_864
    threads: Count = 1
    emotion: bool = False
    """Report emotion from voice, a sensitive inference; needs weights trained with ``--emotion``."""


def _shorter_first(days: tuple[float, float]) -> tuple[float, float]:
    if not 1 / 24 <= days[0] < days[1]:
        raise ValueError("expected a half-life of at least an hour (0.042), then a longer one, in days")
    return days


@dataclass(config=_STRICT)
class Fold:
    """How fast profiles forget and become sure, the anti-replay window, and the compare-and-set loop."""

    half_lives_days: Annotated[tuple[Days, Days], AfterValidator(_shorter_first)] = (
        HALF_LIVES_S[0] / DAY_S,
        HALF_LIVES_S[1] / DAY_S,
    )
    prior_events: Annotated[float, Field(gt=0)] = PRIOR_EVENTS
    window_offsets: Count = 1_000_000
    window_entries: Count = 4_096
    shards: Count = 4
    attempts: Count = 8

    @property
    def half_lives_s(self) -> tuple[int, int]:
        """The same in whole seconds, as states hold them."""
        short, long = (round(days * DAY_S) for days in self.half_lives_days)
        return short, long


@dataclass(config=_STRICT)
class History:
    """The parquet tables."""

    dir: Path = Path("data")
    flush_s: Seconds = 5.0
    flush_bytes: Count = 33_554_432


@dataclass(config=_STRICT)
class Outputs:
    """Topics that a run writes."""

    dead_letter_suffix: Annotated[str, Field(min_length=1)] = ".dead"
    changelog: str | None = None
    dead_letter_spool: Path | None = Path("dead_letters")
    """Folder of dead letters that are larger than their topic takes; None: such letters are cut."""


@dataclass(config=_STRICT)
class Rounds:
    """Local rounds: how much is taken at once, how long to wait for more."""

    max_records: Count = 2_000
    max_bytes: Count = 67_108_864
    poll_ms: Count = 100
    retries: Count = 5
    reject_alarm_share: Annotated[float, Field(gt=0, le=1)] = 0.5


@dataclass(config=_STRICT)
class Endless:
    """Endless jobs (Flink, Dataflow): how long what is read waits for company."""

    hold_s: Seconds = 0.25
    """A reader reads on for so long before it hands over."""
    pane_s: Seconds = 0.25
    """Longest wait of an encoded event for others of its shard."""
    pane_events: Count = 5_000
    """So many events of a shard do not wait any longer."""
    history_s: Seconds = 60.0
    """Longest wait of parquet rows for others of their file."""
    history_files: Count = 1
    """Files of each table per ``history_s``: more of them are written by more workers at once."""


@dataclass(config=_STRICT)
class Settings:
    """All of ``portrait.yaml``."""

    kafka: Kafka = field(default_factory=Kafka)
    mapping: Mapping[str, TopicMapping] = field(default_factory=dict)
    media: Media = field(default_factory=Media)
    models: Models = field(default_factory=Models)
    taxonomy: Path | None = None
    fold: Fold = field(default_factory=Fold)
    feature_repo: Path = Path("feature_repo")
    accept_store_risks: bool = False
    """Run although the store may lose acknowledged writes (caches, trials)."""
    history: History = field(default_factory=History)
    outputs: Outputs = field(default_factory=Outputs)
    rounds: Rounds = field(default_factory=Rounds)
    endless: Endless = field(default_factory=Endless)


_ADAPTER: Final = TypeAdapter(Settings)
_PATHS: Final = ("media.roots", "models.text", "models.image", "models.voice", "models.fusion", "taxonomy",
                 "feature_repo", "history.dir", "outputs.dead_letter_spool", "kafka.security.ssl_cafile",
                 "kafka.security.ssl_certfile", "kafka.security.ssl_keyfile")  # fmt: skip


def load_settings(
    file: str | Path | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Read ``file`` (default: portrait.yaml of the current folder; absent: defaults), environment, overrides.

    Relative paths of the file are relative to its folder, those of overrides to the current one.
    Raises SettingsError.
    """
    path = Path(file or DEFAULT_FILE)
    text = ""
    if file is not None or path.exists():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"{path}: expected a readable settings file, got {type(error).__name__}; "
                "write one with `portrait init DIR` or name another with -c"
            ) from error
    try:
        data = yaml.safe_load(text) or {}
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SettingsError(
            f"{path}{line}: expected YAML, got a syntax error: {getattr(error, 'problem', error)}"
        ) from error
    if not isinstance(data, dict):
        raise SettingsError(f"{path}:1: expected a mapping of settings, got {type(data).__name__}")
    _anchor_paths(data, path.resolve().parent)
    for key, value, where in _overrides(overrides, os.environ if environment is None else environment):
        _put(data, key, value, where)
    try:
        return _ADAPTER.validate_python(data)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(path, node, e) for e in error.errors())) from error


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    for dotted in _PATHS:
        *parents, last = dotted.split(".")
        inner: Any = data
        for name in parents:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get(last), str):
            inner[last] = str(folder / inner[last])
        elif isinstance(inner, dict) and isinstance(inner.get(last), list):
            inner[last] = [str(folder / p) if isinstance(p, str) else p for p in inner[last]]


def _overrides(flags: Iterable[str], environment: Mapping[str, str]) -> Iterable[tuple[str, Any, str]]:
    for name, text in sorted(environment.items()):
        if name.startswith(ENV_PREFIX) and "__" in name:
            yield name.removeprefix(ENV_PREFIX).lower().replace("__", "."), yaml.safe_load(text), name
    for flag in flags:
        key, equals, text = flag.partition("=")
        if not equals or not key:
            raise SettingsError(
                f"--set {flag}: expected key=value, got no '='; for example --set kafka.group_id=x"
            )
        yield key, yaml.safe_load(text), f"--set {key}"


def _put(data: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    inner = data
    for name in parents:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise SettingsError(
                f"{where}: expected a key of a mapping, got {key!r}, whose part {name!r} is a value"
            )
    inner[last] = value


def _explain(path: Path, node: yaml.Node | None, error: Any) -> str:
    """One validation error as file:line: key: expected, got."""
    line, keys = 1, [str(part) for part in error["loc"]]
    for part in keys:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == part:
                    line, node = key_node.start_mark.line + 1, value_node
    key = ".".join(keys)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return (
            f"{path}:{line}: {key}: expected a known setting, got this key; `portrait init` writes them all"
        )
    expected = error["msg"].removeprefix("Value error, expected ").removeprefix("Input should be ")
    given = "a value (not shown)" if "security" in keys else repr(error.get("input"))[:80]
    return f"{path}:{line}: {key}: expected {expected}, got {given}; correct it or leave it out"

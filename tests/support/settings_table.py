"""The settings as a table of ``pipelines/README.md``, made of the code.

``python -m tests.support.settings_table`` rewrites the part of the page between its two marks. A setting's
name and default come from ``pipelines/settings.py``, its meaning from the comment in
``pipelines/portrait.yaml``, else from the comment in the code, else from :data:`MEANINGS`.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args, get_origin, get_type_hints

import yaml

from pipelines import settings
from tests.support.folders import ROOT

PAGE: Final = ROOT / "pipelines" / "README.md"
TEMPLATE: Final = ROOT / "pipelines" / "portrait.yaml"
RENEW: Final = "python -m tests.support.settings_table"
BEGIN: Final = "<!-- settings:begin -->"
END: Final = "<!-- settings:end -->"

MEANINGS: Final[Mapping[str, str]] = {
    "kafka": "where records come from",
    "kafka.bootstrap_servers": "addresses of brokers, `host:port`; one that answers is enough",
    "kafka.topics": "what each source topic is called",
    "kafka.topics.reviews": "topic of reviews",
    "kafka.topics.images": "topic of photos",
    "kafka.topics.voices": "topic of voice clips",
    "kafka.topics.controls": "topic of erase and readmit events",
    "kafka.group_id": "consumer group that positions are committed to; part of a Flink job's name",
    "kafka.start_timestamp_ms": "where `start: timestamp` begins, in ms since 1970",
    "kafka.max_record_bytes": "a larger value is rejected as `too_large`",
    "kafka.connect_timeout_s": "how long the first contact with the brokers may take",
    "kafka.discover_every_s": "how often a reader looks for new partitions and recreated topics",
    "kafka.security": "how to reach the brokers",
    "kafka.security.ssl_cafile": "certificates of the authorities that we trust; none: those of the system",
    "kafka.security.ssl_certfile": "our certificate, where the brokers ask for one",
    "kafka.security.ssl_keyfile": "its key",
    "kafka.security.ssl_check_hostname": "whether the broker's certificate must name its host",
    "mapping.<topic>.type": "what the topic carries",
    "mapping.<topic>.user": "path of the user id",
    "mapping.<topic>.content": "path of the text, the base64 or the claim check",
    "mapping.<topic>.time_unit": "what is at `time`: RFC 3339 text, or a number since 1970 (as a text too)",
    "mapping.<topic>.encoding": "what is at `content`: a text, media in base64, or a claim check (an object)",
    "mapping.<topic>.rating": "path of the rating",
    "mapping.<topic>.lang": "path of the language tag",
    "media.max_bytes": "a claim check of more is rejected as `ref_too_large`",
    "media.timeout_s": "how long one download may take",
    "models": "encoders, fusion and how they run",
    "models.image": "as `models.text`",
    "models.voice": "as `models.text`",
    "models.fusion": "as `models.text`",
    "models.batch_items": "most events of an inference batch",
    "models.batch_bytes": "most bytes of an inference batch, before and after decoding",
    "models.threads": "processor threads of an encoder",
    "fold": "how fast profiles forget, how far back replays are known, how a store call is repeated",
    "fold.shards": "groups of users that are folded side by side",
    "history.dir": "folder of both tables",
    "history.flush_s": "local rounds: longest wait of rows before they are written",
    "history.flush_bytes": "most bytes of rows in memory before they are written, and of one file's rows",
    "outputs": "topics that a run writes",
    "outputs.dead_letter_suffix": "a source topic's dead-letter topic is its name with this added",
    "rounds.max_records": "most records of a round",
    "rounds.max_bytes": "most bytes of a round; one larger record comes alone",
    "rounds.poll_ms": "how long a poll waits for a first record",
    "rounds.retries": "how often a failed round is run again before the run ends",
}
"""What neither file says. A comment there wins, and the entry here has to go (the house's tests say so)."""


class Setting(NamedTuple):
    """A row of the table: a setting, or a section of them."""

    key: str
    default: str
    """As the YAML file writes it; empty for a section."""
    choices: tuple[str, ...]
    is_section: bool


def all_settings() -> list[Setting]:
    """Every setting and section of ``portrait.yaml``, in the order of the code."""
    return list(_settings_of(settings.Settings, settings.Settings(), ""))


def _settings_of(cls: Any, value: Any, prefix: str) -> Iterator[Setting]:
    hints = get_type_hints(cls)
    for field in fields(cls):
        key, kind = prefix + field.name, hints[field.name]
        inner = next((arg for arg in get_args(kind) if is_dataclass(arg)), None)
        if is_dataclass(kind):
            yield Setting(key, "", (), True)
            yield from _settings_of(kind, getattr(value, field.name), f"{key}.")
        elif inner is not None:
            yield Setting(key, "`{}`", (), True)
            yield from _settings_of(inner, None, f"{key}.<topic>.")
        else:
            default = field.default if value is None else getattr(value, field.name)
            written = "required" if default is MISSING else f"`{_as_yaml(default)}`"
            yield Setting(key, written, _choices(kind), False)


def _choices(kind: Any) -> tuple[str, ...]:
    literals = [kind, *get_args(kind)]
    return next((get_args(k) for k in literals if get_origin(k) is Literal), ())


def _as_yaml(value: Any) -> str:
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_as_yaml, value))}]"
    return json.dumps(value)


@cache
def comments_of_template() -> Mapping[str, str]:
    """Key → comment: at the end of its line, else in the lines right above it."""
    text = TEMPLATE.read_text(encoding="utf-8")
    lines, found = text.splitlines(), dict[str, str]()
    used: set[int] = set()
    for key, number in _keys_of(yaml.compose(text, Loader=yaml.SafeLoader), ""):
        if number in used:  # a key inside a one-line mapping: the comment is that of the first key
            continue
        used.add(number)
        _, mark, after = lines[number].partition(" # ")
        above: list[str] = []
        while not mark and number and lines[number - 1].lstrip().startswith("#"):
            number -= 1
            above.insert(0, lines[number].strip()[1:].removeprefix(" "))
        comment = after or " ".join(line for line in above if not line.startswith(" "))  # no example
        if comment := comment.strip().removesuffix(" Example:").rstrip("."):
            found[key] = comment
    return found


def _keys_of(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield prefix + key.value, key.start_mark.line
            yield from _keys_of(value, f"{prefix}{key.value}.")


@cache
def comments_of_code() -> Mapping[str, str]:
    """``Class.field`` → the text below the field, or the comment at the end of its line."""
    source = inspect.getsource(settings)
    lines, found = source.splitlines(), dict[str, str]()
    for cls in (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)):
        for node, after in zip(cls.body, [*cls.body[1:], None], strict=True):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            name = f"{cls.name}.{node.target.id}"
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                found[name] = " ".join(str(after.value.value).split()).rstrip(".").replace("``", "`")
            elif comment := lines[(node.end_lineno or 1) - 1].partition("  # ")[2]:
                found[name] = comment
    return found


def meaning_of(setting: Setting) -> str | None:
    """What the two files say about a setting; None where they say nothing."""
    *parents, name = setting.key.split(".")
    cls: Any = settings.Settings
    for parent in parents:
        if parent != "<topic>":
            kind = get_type_hints(cls)[parent]
            cls = next((arg for arg in get_args(kind) if is_dataclass(arg)), kind)
    return comments_of_template().get(setting.key) or comments_of_code().get(f"{cls.__name__}.{name}")


def settings_table() -> str:
    """The table in Markdown, without the marks."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for setting in all_settings():
        name = f"**`{setting.key}`**" if setting.is_section else f"`{setting.key}`"
        rows.append(f"| {name} | {setting.default} | {_meaning(setting)} |")
    return "\n".join(rows)


def _meaning(setting: Setting) -> str:
    """A cell: what is said about a setting, and its choices where that leaves some of them out."""
    text = meaning_of(setting) or MEANINGS.get(setting.key, "")
    if text[:1].isupper() and not text[1:2].isupper():
        text = text[0].lower() + text[1:]
    text = re.sub(r"(`[^`]*`)|([<|])", lambda found: found[1] or f"\\{found[2]}", text)
    said = f"{text} {setting.default}"
    if all(re.search(rf"\b{re.escape(choice)}\b", said) for choice in setting.choices):
        return text
    return f"{text}: {', '.join(f'`{choice}`' for choice in setting.choices)}"


def with_table(page: str) -> str:
    """The page with the table between its marks. Raises ValueError for a page without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected the marks {BEGIN} and {END}, got a page without them; add them")
    return f"{before}{BEGIN}\n{settings_table()}\n{END}{after}"


def main() -> None:
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

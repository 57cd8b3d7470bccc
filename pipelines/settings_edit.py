"""Change single values of a settings file and leave its comments and order alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def set_values(text: str, values: Mapping[str, Any]) -> str:
    """The YAML ``text`` with each dotted key set; values are written as JSON, which YAML reads.

    >>> print(set_values("history:  # tables\\n  flush_s: 5", {"history.dir": "x"}))
    history:  # tables
      dir: "x"
      flush_s: 5
    """
    for key, value in values.items():
        text = _set(text, key.split("."), value)
    return text


def _set(text: str, keys: Sequence[str], value: Any) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return f"{text}{_entry(keys, value)}\n"
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode):  # a key without a value, or another one: it is replaced
            return _replaced(text, node, _nested(keys[depth:], value))
        inner = next((v for k, v in node.value if k.value == key), None)
        if inner is None:
            return _inserted(text, node, keys[depth:], value)
        node = inner
    return _replaced(text, node, json.dumps(value, ensure_ascii=False))


def _nested(keys: Sequence[str], value: Any) -> str:
    for key in reversed(keys):
        value = {key: value}
    return json.dumps(value, ensure_ascii=False)


def _entry(keys: Sequence[str], value: Any) -> str:
    inner = _nested(keys[1:], value) if keys[1:] else json.dumps(value, ensure_ascii=False)
    return f"{keys[0]}: {inner}"


def _replaced(text: str, node: yaml.Node, literal: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    space = " " if start == end and text[start - 1 : start] == ":" else ""
    return text[:start] + space + literal + text[end:]


def _inserted(text: str, mapping: yaml.MappingNode, keys: Sequence[str], value: Any) -> str:
    start = mapping.start_mark.index
    if mapping.flow_style:
        more = ", " if mapping.value else ""
        return text[: start + 1] + _entry(keys, value) + more + text[start + 1 :]
    return f"{text[:start]}{_entry(keys, value)}\n{' ' * mapping.start_mark.column}{text[start:]}"

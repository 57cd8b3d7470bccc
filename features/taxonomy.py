"""The categories that profiles speak of: two levels with zh and en names, and how labels map to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml

from features.errors import UsageError
from features.schema import MAX_TAGS

DEFAULT_PATH: Final = Path(__file__).with_name("taxonomy.yaml")


class TaxonomyError(UsageError):
    """A taxonomy file that cannot be used; the message names the file and the key."""


@dataclass(frozen=True, slots=True)
class Category:
    """One tag. ``parent`` is None on the first level."""

    id: str
    zh: str
    en: str
    parent: str | None = None


@dataclass(frozen=True)
class Taxonomy:
    """Ordered categories (a category's place is its slot in a state) and the label maps.

    ``maps`` is head → label → category id; ``words`` is spoken word → category id, empty unless given.
    Appending categories keeps states readable; reordering or removing them makes another space.
    """

    categories: tuple[Category, ...]
    maps: Mapping[str, Mapping[str, str]]
    words: Mapping[str, str]

    @cached_property
    def slots(self) -> dict[str, int]:
        """Category id → slot."""
        return {c.id: i for i, c in enumerate(self.categories)}

    @cached_property
    def parents(self) -> npt.NDArray[np.int64]:
        """int64 [categories]: slot of each one's parent, -1 on the first level."""
        return np.array([self.slots[c.parent] if c.parent else -1 for c in self.categories], np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """Hex sha256 of order and ids: what the slots of a state mean."""
        return hashlib.sha256(json.dumps([[c.id, c.parent] for c in self.categories]).encode()).hexdigest()

    @cached_property
    def first_level(self) -> tuple[str, ...]:
        """Ids of the first level, in order: what the ``category`` head and the shared space tell apart."""
        return tuple(c.id for c in self.categories if c.parent is None)

    def category_of(self, head: str, label: str) -> Category | None:
        """The category that a head's label stands for, by its map, or by its own id; None: no tag."""
        wanted = self.maps.get(head, {}).get(label, label if head == "category" else "")
        slot = self.slots.get(wanted)
        return None if slot is None else self.categories[slot]


def load_taxonomy(path: str | Path | None = None) -> Taxonomy:
    """Read a taxonomy file (YAML, or JSON in the flat form ``{"taxonomy": [ids], …}``).

    Raises TaxonomyError with the file, the key, what was expected and what was found.
    """
    file = Path(path) if path else DEFAULT_PATH
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaxonomyError(
            f"{file}: expected a taxonomy file, got {error.strerror}; check taxonomy.path"
        ) from error
    except yaml.YAMLError as error:
        raise TaxonomyError(f"{file}: expected YAML or JSON, got a syntax error; {error}") from error
    if not isinstance(data, dict):
        raise TaxonomyError(f"{file}: expected a mapping, got {type(data).__name__}; see {DEFAULT_PATH.name}")
    taxonomy = _from_flat(file, data) if "taxonomy" in data else _from_levels(file, data)
    _check(file, taxonomy)
    return taxonomy


def _from_levels(file: Path, data: dict[str, Any]) -> Taxonomy:
    top: list[Category] = []
    below: list[Category] = []
    items = data.get("categories")
    if not isinstance(items, list):
        raise TaxonomyError(f"{file}: categories: expected a list, got {type(items).__name__}")
    for item in items:
        try:
            top.append(Category(str(item["id"]), str(item["zh"]), str(item["en"])))
            below += [
                Category(str(child["id"]), str(child["zh"]), str(child["en"]), str(item["id"]))
                for child in item.get("children") or []
            ]
        except (KeyError, TypeError) as error:
            raise TaxonomyError(
                f"{file}: categories: expected items with id, zh and en, got {item!r}"
            ) from error
    return Taxonomy((*top, *below), data.get("maps") or {}, data.get("words") or {})


# fmt: off
VOICE_WORDS: Final = (
    "数字", "语音", "语言", "识别", "中国", "总工", "北京", "背景", "上海", "商行", "复旦", "饭店",
    "Speech", "Speaker", "Signal", "Process", "Print", "Open", "Close", "Project",
)
# fmt: on
"""The spoken words of DSPSpeech-20 in the order of their ids, which the flat form's ``voice_word`` counts."""


_FLAT_MAPS: Final = {
    "zh": "zh_cat",
    "womens_clothing": "en_cat",
    "fashion_sub": "sub",
    "fashion_master": "master",
    "user_photos": "clothing_label",
    "grocery_group": "grocery_group",
}


def _from_flat(file: Path, data: dict[str, Any]) -> Taxonomy:
    """One level, names taken from the default where it has the id; maps renamed to their heads.

    ``voice_word`` (prose: word i stands for category i, those past the last one for i minus their
    number) gives the word map where there is no ``words``.
    """
    known = {c.id: c for c in load_taxonomy().categories}
    ids = data["taxonomy"]
    if not isinstance(ids, list):
        raise TaxonomyError(f"{file}: taxonomy: expected a list of ids, got {type(ids).__name__}")
    categories = tuple(
        Category(i, known[i].zh, known[i].en) if i in known else Category(i, i, i) for i in map(str, ids)
    )
    maps = {head: data[key] for key, head in _FLAT_MAPS.items() if key in data}
    words = data.get("words") or {}
    if not words and "voice_word" in data and categories:
        words = {word: categories[i % len(categories)].id for i, word in enumerate(VOICE_WORDS)}
    return Taxonomy(categories, maps, words)


def _check(file: Path, taxonomy: Taxonomy) -> None:
    ids = [c.id for c in taxonomy.categories]
    if not 1 <= len(ids) <= MAX_TAGS:
        raise TaxonomyError(f"{file}: categories: expected 1 to {MAX_TAGS} over both levels, got {len(ids)}")
    if twice := {i for i in ids if ids.count(i) > 1}:
        raise TaxonomyError(f"{file}: categories: expected unique ids, got {sorted(twice)} twice")
    if not isinstance(taxonomy.maps, dict):
        raise TaxonomyError(f"{file}: maps: expected head: {{label: id}}, got {type(taxonomy.maps).__name__}")
    for where, mapping in (*taxonomy.maps.items(), ("words", taxonomy.words)):
        if not isinstance(mapping, dict):
            raise TaxonomyError(f"{file}: {where}: expected label: id, got {type(mapping).__name__}")
        if unknown := sorted({str(v) for v in mapping.values()} - set(ids)):
            raise TaxonomyError(f"{file}: {where}: expected ids of categories, got {unknown}")

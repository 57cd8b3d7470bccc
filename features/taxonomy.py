"""The categories that profiles speak of: two levels with Chinese and English names, and how labels map to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from features.schema import MAX_TAGS

DEFAULT_PATH: Final = Path(__file__).with_name("taxonomy.yaml")


class TaxonomyError(ValueError):
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
    def fingerprint(self) -> str:
        """Hex sha256 of order and ids: what the slots of a state mean."""
        return hashlib.sha256(json.dumps([[c.id, c.parent] for c in self.categories]).encode()).hexdigest()

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
        raise TaxonomyError(f"{file}: expected a taxonomy file, got {error.strerror}; check taxonomy.path") from error
    except yaml.YAMLError as error:
        raise TaxonomyError(f"{file}: expected YAML or JSON, got a syntax error; {error}") from error
    if not isinstance(data, dict):
        raise TaxonomyError(f"{file}: expected a mapping, got {type(data).__name__}; see {DEFAULT_PATH.name}")
    taxonomy = _from_flat(data) if "taxonomy" in data else _from_levels(file, data)
    _check(file, taxonomy)
    return taxonomy


def _from_levels(file: Path, data: dict[str, Any]) -> Taxonomy:
    top: list[Category] = []
    below: list[Category] = []
    for item in data.get("categories") or []:
        try:
            top.append(Category(str(item["id"]), str(item["zh"]), str(item["en"])))
            for child in item.get("children") or []:
                below.append(Category(str(child["id"]), str(child["zh"]), str(child["en"]), str(item["id"])))
        except (KeyError, TypeError) as error:
            raise TaxonomyError(f"{file}: categories: expected items with id, zh and en, got {item!r}") from error
    return Taxonomy((*top, *below), data.get("maps") or {}, data.get("words") or {})


_FLAT_MAPS: Final = {
    "zh": "zh_cat",
    "womens_clothing": "en_cat",
    "fashion_sub": "sub",
    "fashion_master": "master",
    "user_photos": "clothing_label",
    "grocery_group": "grocery_group",
}


def _from_flat(data: dict[str, Any]) -> Taxonomy:
    """One level, names taken from the default where it has the id; maps renamed to their heads."""
    known = {c.id: c for c in load_taxonomy().categories}
    categories = tuple(known.get(i) or Category(i, i, i) for i in map(str, data["taxonomy"]))
    maps = {head: data[key] for key, head in _FLAT_MAPS.items() if isinstance(data.get(key), dict)}
    words = data.get("words") if isinstance(data.get("words"), dict) else {}
    return Taxonomy(categories, maps, words or {})


def _check(file: Path, taxonomy: Taxonomy) -> None:
    ids = [c.id for c in taxonomy.categories]
    if not 1 <= len(ids) <= MAX_TAGS:
        raise TaxonomyError(f"{file}: categories: expected 1 to {MAX_TAGS} over both levels, got {len(ids)}")
    if twice := {i for i in ids if ids.count(i) > 1}:
        raise TaxonomyError(f"{file}: categories: expected unique ids, got {sorted(twice)} twice")
    for where, mapping in (*taxonomy.maps.items(), ("words", taxonomy.words)):
        if unknown := sorted(set(mapping.values()) - set(ids)):
            raise TaxonomyError(f"{file}: {where}: expected ids of categories, got {unknown}")

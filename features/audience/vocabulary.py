"""The words of the audience language, what they mean in SQL, and the page that explains them.

This is the one place that documents the language: ``portrait audience --help`` prints
:func:`language_text`, which is made of the tables below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

from features.profile.tags import ASPECTS_ZH
from features.schema import ASPECTS, LANGUAGES, MODALITIES
from features.taxonomy import Taxonomy

Kind = Literal["number", "age", "yes"]
"""What a value is; an age is counted in days."""
Takes = Literal["category", "aspect", "modality", "language"]

KINDS: Final[Mapping[Kind, str]] = {
    "number": "a number",
    "age": "an age such as 14d",
    "yes": "yes or no",
}


class Word(NamedTuple):
    """A name of the language. Its SQL reads ``profiles_latest`` and the parsed ``read_tags`` and
    ``read_aspects``; arguments stand in it as ``{0}`` and ``{1}``."""

    takes: tuple[Takes, ...]
    sql: str
    kind: Kind
    doc: str


_TAG: Final = "list_extract(list_filter(read_tags, lambda t: t.id = {0}), 1)"
_ASPECT: Final = "list_extract(list_filter(read_aspects, lambda a: a.id = {0}), 1)"
_DAYS_SINCE: Final = "epoch($now - {}) / 86400"

FIELDS: Final[Mapping[str, Word]] = {
    "sentiment": Word((), "sentiment", "number", "-1 to 1, long memory; unknown where none was judged"),
    "sentiment_recent": Word((), "sentiment_recent", "number", "-1 to 1, short memory"),
    "confidence": Word((), "confidence", "number", "0 to 1: how much recent evidence there is"),
    "last_seen": Word((), _DAYS_SINCE.format("event_timestamp"), "age", "since the newest event"),
    "first_seen": Word((), _DAYS_SINCE.format("first_event"), "age", "since the oldest event"),
    "events": Word((), "version", "number", "events applied"),
    "reviews": Word((), "text_count", "number", "reviews among them"),
    "photos": Word((), "image_count", "number", "photos among them"),
    "voices": Word((), "voice_count", "number", "voice clips among them"),
    "similarity": Word((), "similarity", "number", "-1 to 1: to the users of --like; only with it"),
}

FUNCTIONS: Final[Mapping[str, Word]] = {
    "interest": Word(
        ("category",), f"coalesce({_TAG}.weight, 0)", "number", "0 to 1: its weight among those of its level"
    ),
    "confidence": Word(
        ("category",), f"coalesce({_TAG}.confidence, 0)", "number", "0 to 1: how much evidence it has"
    ),
    "share": Word(
        ("category", "modality"),
        f"CASE {{1}} WHEN 'text' THEN {_TAG}.share.text WHEN 'image' THEN {_TAG}.share.image "
        f"WHEN 'voice' THEN {_TAG}.share.voice END",
        "number",
        "0 to 1: how much of its weight comes from there; unknown without the tag",
    ),
    "last_seen": Word(
        ("category",), _DAYS_SINCE.format(f"{_TAG}.last_seen"), "age", "since its newest event"
    ),
    "top": Word(("category",), "top_category = {0}", "yes", "it is the strongest of the first level"),
    "aspect": Word(("aspect",), f"{_ASPECT}.sentiment", "number", "-1 to 1; unknown where not mentioned"),
    "mentions": Word(("aspect",), f"coalesce({_ASPECT}.weight, 0)", "number", "0 to 1: of all mentions"),
    "has": Word(
        ("modality",),
        "CASE {0} WHEN 'text' THEN text_count WHEN 'image' THEN image_count ELSE voice_count END > 0",
        "yes",
        "such events were seen",
    ),
    "language": Word(("language",), "list_contains(languages, {0})", "yes", "it was read or heard"),
}

KNOWN: Final = "known"
"""A function of any value: whether there is one."""


def choices(takes: Takes, taxonomy: Taxonomy) -> list[tuple[str, str]]:
    """Everything that may be written for an argument, each with the id that it stands for."""
    return _CHOICES[takes](taxonomy)


_CHOICES: Final[Mapping[Takes, Callable[[Taxonomy], list[tuple[str, str]]]]] = {
    "category": lambda taxonomy: [(n, c.id) for c in taxonomy.categories for n in (c.id, c.zh, c.en)],
    "aspect": lambda _: [(n, a) for a, zh in zip(ASPECTS, ASPECTS_ZH, strict=True) for n in (a, zh)],
    "modality": lambda _: [(m, m) for m in MODALITIES[:3]],
    "language": lambda _: [(lang, lang) for lang in LANGUAGES[:-1]],
}


def near(wanted: str, names: Sequence[str]) -> str:
    """``; did you mean 'a' or 'b'?``, or nothing.

    >>> near("digitl", ["digital", "books"])
    "; did you mean 'digital'?"
    """
    known = {name.casefold(): name for name in reversed(names)}  # ids come first, and stay
    found = get_close_matches(wanted.casefold(), known, n=3, cutoff=0.5)
    found += [low for low in known if wanted and wanted.casefold() in low and low not in found]
    told = " or ".join(repr(known[low]) for low in found[:3])
    return f"; did you mean {told}?" if told else ""


def language_text() -> str:
    """The language on one page."""
    lines = [
        "A condition compares values (< <= > >= = !=); and, or, not and brackets join conditions.",
        "Numbers are 0.4 or -1, ages 90s, 30m, 12h, 14d, 2w, texts \"digital\" or 'digital'.",
        "A comparison with something unknown does not hold, so that not of it does.",
        "",
        "values:",
        *(f"  {name:<22}{word.doc}" for name, word in FIELDS.items()),
        *(_call(name, word) for name, word in FUNCTIONS.items() if word.kind != "yes"),
        "conditions:",
        *(_call(name, word) for name, word in FUNCTIONS.items() if word.kind == "yes"),
        f"  {KNOWN + '(VALUE)':<22}there is such a value",
        "",
        "CATEGORY is an id of the taxonomy or its Chinese or English label; ASPECT is",
        ", ".join(ASPECTS) + ";",
        f"MODALITY is {', '.join(MODALITIES[:3])}; LANGUAGE is {', '.join(LANGUAGES[:-1])}.",
        "",
        "examples:",
        *(f"  {example}" for example in EXAMPLES),
    ]
    return "\n".join(lines)


EXAMPLES: Final = (
    'interest("digital") > 0.4 and sentiment > 0 and last_seen < 14d',
    'top("图书") and not aspect("delivery") < 0 and (language("zh") or photos >= 3)',
    'sentiment_recent < sentiment and last_seen("books") < 4w and known(sentiment)',
)


def _call(name: str, word: Word) -> str:
    written = f"{name}({', '.join(word.takes).upper()})"
    return f"  {written:<22}{'' if len(written) < 22 else chr(10) + ' ' * 24}{word.doc}"

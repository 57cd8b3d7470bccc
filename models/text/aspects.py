"""What a review speaks of, and whether it praises or blames it: a fixed lexicon over spaCy's tokens.

Blank pipelines only (tokenizer and vocabulary, no trained model). Rules, per clause: an aspect takes the
sign of the sum of the opinions in its clause; an opinion turns round after a negation, if at most
NEGATION_REACH words that are no stop words lie between them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import spacy
import yaml
from spacy.matcher import PhraseMatcher

from features.schema import ASPECTS

LEXICON_PATH: Final = Path(__file__).with_name("lexicon.yaml")
MAX_ASPECT_CHARS: Final = 4_000
"""Aspects are looked for in the beginning of longer texts."""
NEGATION_REACH: Final = 2

MAX_UNBROKEN: Final = 200
"""spaCy's tokenizer is quadratic in the length of what no space divides: longer runs are divided first."""
_UNBROKEN: Final = re.compile(rf"\S{{{MAX_UNBROKEN}}}")
_CLAUSE_END: Final = frozenset("，。！？；、,.!?;:：…~～\n|()（）")
_CLAUSE_WORDS: Final = {"en": frozenset({"but", "however", "although", "though"}), "zh": frozenset()}

_POSITIVE: Final = len(ASPECTS)
_NEGATIVE: Final = _POSITIVE + 1
_NEGATION: Final = _POSITIVE + 2


class _Pipeline(NamedTuple):
    nlp: Any  # spacy.Language
    matcher: Any  # PhraseMatcher; a key's place in ``kinds`` is what it means
    kinds: dict[int, int]  # match key → index in ASPECTS, or _POSITIVE, _NEGATIVE, _NEGATION
    stop_words: frozenset[str]


@cache
def _pipeline(lang: str) -> _Pipeline:
    lexicon = yaml.safe_load(LEXICON_PATH.read_text(encoding="utf-8"))
    nlp = spacy.blank(lang)
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    groups = [*(lexicon["aspects"][a] for a in ASPECTS)]
    groups += [lexicon[k] for k in ("positive", "negative", "negations")]
    for kind, words in enumerate(groups):
        matcher.add(str(kind), [nlp.make_doc(word) for word in words[lang]])
    kinds = {nlp.vocab.strings[str(kind)]: kind for kind in range(len(groups))}
    stop_words = frozenset(nlp.Defaults.stop_words) - frozenset(lexicon["negations"][lang])
    return _Pipeline(nlp, matcher, kinds, stop_words)


def aspects_of(text: str, lang: str) -> dict[str, int]:
    """Aspect → -1, 0 (mentioned without a judgement) or 1, of a normalised text in ``zh`` or ``en``.

    >>> aspects_of("质量很好，就是物流太慢", "zh")
    {'quality': 1, 'delivery': -1}
    >>> aspects_of("The fabric is not soft but the price is great", "en")
    {'price': 1, 'material': -1}
    """
    if lang not in _CLAUSE_WORDS:
        return {}
    pipeline = _pipeline(lang)
    doc = pipeline.nlp.make_doc(divide_runs(text[:MAX_ASPECT_CHARS]))
    aspects: list[tuple[int, int, int]] = []
    judgements: list[tuple[int, int, int]] = []
    for key, start, end in pipeline.matcher(doc):
        kind = pipeline.kinds[key]
        (aspects if kind < _POSITIVE else judgements).append((start, end, kind))
    if not aspects:
        return {}
    words = [token.lower_ for token in doc]
    clause = _clauses(words, lang)
    judgements = [j for j in judgements if not any(_inside(j, a) for a in aspects)]
    opinion = _opinions(_longest(judgements), words, clause, pipeline.stop_words)
    sums: dict[int, int] = {}
    for start, _, kind in aspects:
        sums[kind] = sums.get(kind, 0) + _sign(opinion.get(clause[start], 0))
    return {ASPECTS[kind]: _sign(total) for kind, total in sorted(sums.items())}


def divide_runs(text: str) -> str:
    """A space after every MAX_UNBROKEN characters that have none.

    >>> max(map(len, divide_runs("!" * 1000).split()))
    200
    """
    return _UNBROKEN.sub(r"\g<0> ", text)


def _clauses(words: list[str], lang: str) -> list[int]:
    """Number of the clause that each token lies in."""
    clause, numbers, joints = 0, [], _CLAUSE_WORDS[lang]
    for word in words:
        clause += word in _CLAUSE_END or word in joints
        numbers.append(clause)
    return numbers


def _inside(part: tuple[int, int, int], whole: tuple[int, int, int]) -> bool:
    """Whether a match is a piece of a longer one: the 快 (fast) of 快递 (courier) judges nothing."""
    return whole[0] <= part[0] and part[1] <= whole[1] and part[1] - part[0] < whole[1] - whole[0]


def _longest(matches: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Matches that do not overlap, the first and longest before others: 不错 is one word, not 不."""
    kept: list[tuple[int, int, int]] = []
    for match in sorted(matches, key=lambda m: (m[0], -m[1])):
        if not kept or match[0] >= kept[-1][1]:
            kept.append(match)
    return kept


def _opinions(
    judgements: list[tuple[int, int, int]], words: list[str], clause: list[int], stop_words: frozenset[str]
) -> dict[int, int]:
    """Clause → sum of its opinions, each turned round by a negation shortly before it."""
    sums: dict[int, int] = {}
    negated_from: int | None = None
    for start, end, kind in judgements:
        if kind == _NEGATION:
            negated_from = end
            continue
        polarity = 1 if kind == _POSITIVE else -1
        if negated_from is not None and clause[negated_from - 1] == clause[start]:
            between = sum(w not in stop_words for w in words[negated_from:start])
            polarity = -polarity if between <= NEGATION_REACH else polarity
        negated_from = None
        sums[clause[start]] = sums.get(clause[start], 0) + polarity
    return sums


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)

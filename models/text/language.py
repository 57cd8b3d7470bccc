"""Which language a text is in: what its sender says, else its script, else a detector."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

ZH, EN, OTHER_LANGUAGE = "zh", "en", "other"

_HAN: Final = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]+")
_KANA_HANGUL: Final = re.compile("[\u3040-\u30ff\u1100-\u11ff\uac00-\ud7af]+")
_LATIN: Final = re.compile("[A-Za-z\u00c0-\u024f]+")
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_WORD: Final = re.compile(r"[a-z']+")
# fmt: off
_EN_WORDS: Final = frozenset((
    "the", "and", "is", "it", "this", "for", "of", "to", "with", "was", "my", "very", "not", "but",
    "are", "have", "i", "love", "great", "good", "nice", "bad", "these", "they", "you", "so", "that", "as",
    "had", "which", "from", "would", "really", "just", "than", "when", "be", "its", "it's", "i'm", "don't",
))
# fmt: on
"""Frequent in English reviews and, three in ten words, in no other language."""

_HEAD_CHARS: Final = 400
"""What is looked at: the language of a review shows in its beginning."""
_HAN_SHARE: Final = 0.25
"""Of the letters, from which on a text is Chinese: a character says as much as several Latin letters."""
_SURE: Final = 0.9
_ENOUGH_LETTERS: Final = 20
"""Below this a detector guesses; short Latin text is taken for English (titles, "Nice!")."""


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # type: ignore[no-untyped-call]


def language_of(text: str, given: str | None = None) -> str:
    """``zh``, ``en`` or ``other`` of a normalised text.

    ``given`` is a BCP 47 tag (``zh-CN``, ``en_GB``, ``fr``); an empty or ``und`` one counts as none.
    """
    if given and (base := re.split("[-_]", given.strip().lower())[0]) not in ("", "und"):
        return {"zh": ZH, "chi": ZH, "zho": ZH, "cmn": ZH, "en": EN, "eng": EN}.get(base, OTHER_LANGUAGE)
    head = text[:_HEAD_CHARS]
    letters = _count(_LETTERS, head)
    if not letters or _count(_KANA_HANGUL, head) > 0.1 * letters:
        return OTHER_LANGUAGE
    if _count(_HAN, head) >= _HAN_SHARE * letters:
        return ZH
    latin = _count(_LATIN, head)
    return _latin_language(head, latin) if latin > 0.5 * letters else OTHER_LANGUAGE


def is_mostly_han(text: str) -> bool:
    """Whether a text is written in Chinese characters, whatever its sender says."""
    head = text[:_HEAD_CHARS]
    return _count(_HAN, head) >= _HAN_SHARE * max(1, _count(_LETTERS, head))


def _count(runs: re.Pattern[str], text: str) -> int:
    return sum(map(len, runs.findall(text)))


def _latin_language(text: str, letters: int) -> str:
    words = _WORD.findall(text.lower())
    if letters < _ENOUGH_LETTERS or sum(w in _EN_WORDS for w in words) >= 0.3 * len(words):
        return EN
    language, probability = _detector().classify(text)
    return OTHER_LANGUAGE if language != "en" and probability >= _SURE else EN

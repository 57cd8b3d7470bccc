"""From a review to numbers, without a vocabulary: clean text, then hashed n-grams.

A *unit* is what carries meaning in its script: one Chinese character, one word of letters and digits
elsewhere, one punctuation mark. Features are the hashes of 1 to 3 units in a row, and of 4 characters
in a row inside words. Hashing is arithmetic on uint64 in numpy: the same on every machine, and
vectorised over all texts of a batch at once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

PREPROCESSING: Final = "text-2"
"""Version of this file's outputs and of the lexicon-free part of encoder.py; in every fingerprint."""

MAX_CHARS: Final = 20_000
MAX_RUN: Final = 200
"""Longest run of one repeated character that is kept: longer ones carry nothing and cost tokenizers dear."""

BUCKET_BITS: Final = 20
BUCKETS: Final = 1 << BUCKET_BITS
COARSE_SHIFT: Final = 3
"""Eight buckets in a row are one of the coarse ones."""
COARSE_BUCKETS: Final = BUCKETS >> COARSE_SHIFT

_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]+"
)
_CONTROL: Final = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\s]+")
_RUN: Final = re.compile(rf"(.)\1{{{MAX_RUN},}}", re.DOTALL)


def normalise(text: str) -> str:
    """NFKC, no control, zero-width, bidi or lone surrogate characters, single spaces, at most MAX_CHARS.

    Cut before and after NFKC, which makes some characters 18 long. Runs of one character end at MAX_RUN.

    >>> normalise("  ＧＯＯＤ\\u200b\\x00 \\n手機  ")
    'GOOD 手機'
    """
    text = _INVISIBLE.sub("", text[: 2 * MAX_CHARS])
    text = unicodedata.normalize("NFKC", text)[: 2 * MAX_CHARS]
    text = _CONTROL.sub(" ", _INVISIBLE.sub("", text))
    if len(text) > MAX_RUN:
        text = _RUN.sub(lambda run: run.group(1) * MAX_RUN, text)
    return text[:MAX_CHARS].strip()


class Grams(NamedTuple):
    """Hashed n-grams of n texts, ragged: text i owns ``offsets[i]:offsets[i + 1]``, sorted by bucket."""

    buckets: npt.NDArray[np.int64]  # [m], 0..BUCKETS-1, distinct within a text
    counts: npt.NDArray[np.float32]  # [m], how often the text has it
    offsets: npt.NDArray[np.int64]  # [n + 1]


_U64 = npt.NDArray[np.uint64]
_BASE: Final = np.uint64(0x9E3779B97F4A7C15)  # odd; 2**64 / golden ratio
_POWERS: Final = np.cumprod(np.full(MAX_CHARS + 1, _BASE), dtype=np.uint64)
_SALTS: Final = _POWERS[1:6]
"""One for characters, one for each kind of n-gram: equal content of two kinds is not one feature."""


def _mix(x: _U64) -> _U64:
    """The finaliser of MurmurHash3: every bit of the input moves every bit of the output."""
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    x = (x ^ (x >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return x ^ (x >> np.uint64(33))


_SPACE: Final = 0
_WORD: Final = 1
_SINGLE: Final = 2


def _char_classes() -> npt.NDArray[np.uint8]:
    """Class of each code point below 0x30000: letters and digits form words, ideographs stand alone."""
    classes = np.full(0x30000, _SINGLE, np.uint8)
    words = ((0x30, 0x3A), (0x41, 0x5B), (0x61, 0x7B), (0xAA, 0x2000), (0x2C00, 0x2E80), (0x3041, 0x3130))
    for low, high in words:
        classes[low:high] = _WORD
    classes[0xA000:0xFB50] = _WORD  # Yi, Hangul, extended Latin; compatibility ideographs are taken out below
    classes[0xF900:0xFB00] = _SINGLE
    classes[[0xD7, 0xF7]] = _SINGLE
    classes[0x27] = _WORD  # don't
    classes[[0x20, 0x0A]] = _SPACE
    return classes


_CLASSES: Final = _char_classes()


class _Scan(NamedTuple):
    """Characters of all texts in a row, a line break after each."""

    value: _U64  # [m] hash of each character, 0 at spaces
    word: npt.NDArray[np.bool_]  # [m] letters and digits
    starts: npt.NDArray[np.int64]  # [units] where each unit begins
    doc: npt.NDArray[np.int64]  # [m] text of each character


def _scan(texts: Sequence[str]) -> _Scan:
    chars = np.frombuffer("\n".join((*texts, "")).lower().encode("utf-32-le"), np.uint32)
    breaks = chars == ord("\n")
    if int(breaks.sum()) != len(texts):
        raise ValueError("hash_ngrams: expected normalised texts, got one with a line break; normalise it")
    classes = _CLASSES[np.minimum(chars, len(_CLASSES) - 1)]
    word = classes == _WORD
    starts = np.flatnonzero((classes == _SINGLE) | (word & ~np.concatenate(([False], word[:-1]))))
    value = _mix(chars.astype(np.uint64) + _SALTS[0])
    value[classes == _SPACE] = 0
    return _Scan(value, word, starts, np.cumsum(breaks) - breaks)


def hash_ngrams(texts: Sequence[str]) -> Grams:
    """N-grams of normalised texts; case is ignored. A text without a unit has none.

    Raises ValueError for a text with a line break, which :func:`normalise` removes.
    """
    scan = _scan(texts)
    if not len(scan.starts):
        return Grams(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(len(texts) + 1, np.int64))
    hashes, begins = _inside_words(scan.value, scan.word)
    all_hashes, all_docs = [hashes], [scan.doc[begins]]
    doc = scan.doc[scan.starts]
    for hashes, fits in _runs_of_units(_unit_hashes(scan.value, scan.starts), doc):
        all_hashes.append(hashes[fits])
        all_docs.append(doc[: len(hashes)][fits])
    return _count(np.concatenate(all_hashes), np.concatenate(all_docs), len(texts))


def _runs_of_units(units: _U64, doc: npt.NDArray[np.int64]) -> Iterator[tuple[_U64, npt.NDArray[np.bool_]]]:
    """Runs of 1, 2 and 3 units: the hash of the run from each unit on, and whether one text has it all."""
    rolling = np.zeros_like(units)
    for width in (1, 2, 3):
        last = units[width - 1 :]
        rolling = rolling[: len(last)] * _BASE + last
        yield _mix(rolling + _SALTS[width]), doc[: len(last)] == doc[width - 1 :]


UNIT_SLOTS: Final = 5
"""What a unit is read by: itself, itself with one and with two more, how it begins, how it ends."""
_AFFIX: Final = 4


class Units(NamedTuple):
    """Texts as sequences, ragged: text i owns ``lengths[:i].sum()`` on, at least one row."""

    ids: npt.NDArray[np.int64]  # [m, UNIT_SLOTS], 1..buckets-1; 0 = nothing there
    lengths: npt.NDArray[np.int64]  # [n]


def hash_units(texts: Sequence[str], buckets: int, limit: int) -> Units:
    """The first ``limit`` units of normalised texts, each by the hashes of UNIT_SLOTS things about it.

    Raises ValueError as :func:`hash_ngrams` does.
    """
    scan = _scan(texts)
    doc = scan.doc[scan.starts]
    ids = np.zeros((len(doc), UNIT_SLOTS), np.int64)
    if len(doc):
        for slot, (hashes, fits) in enumerate(_runs_of_units(_unit_hashes(scan.value, scan.starts), doc)):
            ids[: len(hashes), slot] = np.where(fits, 1 + hashes % np.uint64(buckets - 1), 0)
        for slot, hashes in ((3, _affixes(scan, 1)), (4, _affixes(scan, -1))):
            ids[:, slot] = np.where(scan.word[scan.starts], 1 + hashes % np.uint64(buckets - 1), 0)
    counts = np.bincount(doc, minlength=len(texts))
    place = np.arange(len(doc)) - np.repeat(np.cumsum(counts) - counts, counts)
    lengths = np.minimum(counts, limit)
    kept = ids[place < limit]
    if (lengths == 0).any():  # a row of nothing, so that every text is a sequence
        kept = np.insert(kept, np.cumsum(lengths)[lengths == 0], 0, axis=0)
    return Units(kept, np.maximum(lengths, 1))


def _affixes(scan: _Scan, step: int) -> _U64:
    """[units] hash of the first (``step`` 1) or last (-1) characters of words, up to _AFFIX of them."""
    ends = np.flatnonzero(scan.word & ~np.concatenate((scan.word[1:], [False])))
    first = scan.starts
    last = ends[np.minimum(np.searchsorted(ends, first), max(len(ends) - 1, 0))] if len(ends) else first
    at, stop = (first, last) if step > 0 else (last, first)
    rolling = np.zeros(len(first), np.uint64)
    for i in range(_AFFIX):
        here = at + step * i
        inside = (stop - here) * step >= 0
        value = scan.value[np.clip(here, 0, len(scan.value) - 1)]
        rolling = np.where(inside, rolling * _BASE + value, rolling)
    return _mix(rolling + _SALTS[4] + np.uint64(step > 0))


def _unit_hashes(value: _U64, starts: npt.NDArray[np.int64]) -> _U64:
    """Polynomial hash of the characters of each unit; ``value`` is 0 at spaces, which end units."""
    lengths = np.diff(starts, append=len(value))
    place = np.arange(starts[0], len(value)) - np.repeat(starts, lengths)
    powers = _POWERS[np.minimum(place, len(_POWERS) - 1)]
    return np.add.reduceat(value[starts[0] :] * powers, starts - starts[0])


def _inside_words(value: _U64, word: npt.NDArray[np.bool_]) -> tuple[_U64, npt.NDArray[np.int64]]:
    """Hashes of 4 characters in a row inside words, and where each begins."""
    width = 4
    fits = len(value) - width + 1
    if fits <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    begins = np.flatnonzero(np.logical_and.reduce([word[i : fits + i] for i in range(width)]))
    rolling = np.zeros(len(begins), np.uint64)
    for i in range(width):
        rolling = rolling * _BASE + value[begins + i]
    return _mix(rolling + _SALTS[4]), begins


def _count(hashes: _U64, docs: npt.NDArray[np.int64], n: int) -> Grams:
    keys = (docs << BUCKET_BITS) | (hashes >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    keys.sort()
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    counts = np.diff(first, append=len(keys)).astype(np.float32)
    kept = keys[first]
    offsets = np.searchsorted(kept, np.arange(n + 1, dtype=np.int64) << BUCKET_BITS)
    return Grams(kept & (BUCKETS - 1), counts, offsets)


def gram_weights(grams: Grams) -> npt.NDArray[np.float32]:
    """[m] float32: dampened counts, each text's of length one (the tables hold inverse frequency)."""
    weights = 1 + np.log(grams.counts)
    lengths = np.diff(grams.offsets)
    starts = grams.offsets[:-1][lengths > 0]
    norms = np.sqrt(np.add.reduceat(weights * weights, starts)) if len(starts) else weights
    scaled: npt.NDArray[np.float32] = weights / np.repeat(norms, lengths[lengths > 0])
    return scaled

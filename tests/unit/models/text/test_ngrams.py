"""Reviews before the model: what is cleaned away, which language it is, and what n-grams it has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.language import is_mostly_han, language_of
from models.text.ngrams import BUCKETS, MAX_CHARS, MAX_RUN, gram_weights, hash_ngrams, normalise

TEXT = st.text(max_size=60).map(normalise)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  ＧＯＯＤ \n\t 手機 ", "GOOD 手機"),
        ("a\x00b\x1bc\x7f", "a b c"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\u202eabc\u202c\u2066x\u2069", "abcx"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("\u200b\u2060 \x00", ""),
        ("e\u0301", "é"),
        ("line\u2028break", "line break"),
    ],
)
def test_text_is_cleaned(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


def test_text_that_grows_under_normalisation_is_cut() -> None:
    assert len(normalise("\ufdfa" * MAX_CHARS)) <= MAX_CHARS
    assert len(normalise("ab" * MAX_CHARS)) == MAX_CHARS


def test_a_run_of_one_character_is_shortened() -> None:
    assert normalise("x" + "!" * 16_000 + "y") == "x" + "!" * MAX_RUN + "y"


@given(st.text(max_size=200))
def test_cleaning_twice_changes_nothing_more(raw: str) -> None:
    once = normalise(raw)
    assert normalise(once) == once
    once.encode("utf-8")  # nothing that a coder or store would refuse


@pytest.mark.parametrize(
    ("text", "given_lang", "expected"),
    [
        ("这件衣服很好看", None, "zh"),
        ("I love this dress, it fits well", None, "en"),
        ("ok", None, "en"),
        ("Nike Men Running Shoes", None, "en"),
        ("C'est une très belle robe, je suis contente de mon achat", None, "other"),
        ("Das Kleid ist sehr schön und die Qualität ist gut", None, "other"),
        ("このドレスはとても素敵です", None, "other"),
        ("드레스가 정말 예뻐요", None, "other"),
        ("Отличное платье, мне нравится", None, "other"),
        ("12345 !!!", None, "other"),
        ("whatever it is", "zh-CN", "zh"),
        ("随便", "en_GB", "en"),
        ("good", "fr", "other"),
        ("这本书很好", "und", "zh"),
        ("这本书很好", "", "zh"),
    ],
)
def test_the_language_is_what_is_said_or_what_it_looks_like(
    text: str, given_lang: str | None, expected: str
) -> None:
    assert language_of(text, given_lang) == expected


def test_the_script_is_judged_apart_from_the_language() -> None:
    assert is_mostly_han("手机 iPhone 很好")
    assert not is_mostly_han("iPhone case 手")
    assert not is_mostly_han("")


GOLDEN = [86353, 107626, 233013, 317340, 882591, 1006621, 1009039]
"""Buckets of the text below: weights are worthless under any other hash."""


def test_hashes_are_the_same_everywhere() -> None:
    grams = hash_ngrams(["Good 手机"])
    assert grams.buckets.tolist() == GOLDEN
    assert grams.counts.tolist() == [1.0] * len(GOLDEN)


@given(st.lists(TEXT, max_size=6))
def test_a_batch_hashes_each_text_as_it_would_alone(texts: list[str]) -> None:
    together = hash_ngrams(texts)
    for i, text in enumerate(texts):
        alone, mine = hash_ngrams([text]), slice(together.offsets[i], together.offsets[i + 1])
        np.testing.assert_array_equal(together.buckets[mine], alone.buckets)
        np.testing.assert_array_equal(together.counts[mine], alone.counts)


@given(st.lists(TEXT, max_size=6))
def test_grams_are_in_range_distinct_and_weighted_to_length_one(texts: list[str]) -> None:
    grams = hash_ngrams(texts)
    weights = gram_weights(grams)
    for low, high in zip(grams.offsets[:-1], grams.offsets[1:], strict=True):
        buckets = grams.buckets[low:high]
        assert np.all(np.diff(buckets) > 0)
        assert np.all((buckets >= 0) & (buckets < BUCKETS))
        if high > low:
            assert float(np.sum(weights[low:high] ** 2)) == pytest.approx(1, abs=1e-4)


def test_case_and_word_order_are_told_apart_as_they_should_be() -> None:
    def buckets(text: str) -> set[int]:
        return set(hash_ngrams([text]).buckets.tolist())

    assert buckets("GOOD fit") == buckets("good FIT")
    assert buckets("not good") != buckets("good not")
    assert buckets("not") | buckets("good") <= buckets("not good")
    assert buckets("") == buckets(" ") == set()


def test_a_text_with_a_line_break_was_not_cleaned() -> None:
    with pytest.raises(ValueError, match="expected normalised texts"):
        hash_ngrams(["a\nb"])

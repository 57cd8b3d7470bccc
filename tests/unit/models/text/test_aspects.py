"""Aspects of reviews: what is spoken of, praised or blamed."""

from __future__ import annotations

import pytest
import yaml

from features.schema import ASPECTS
from models.text.aspects import LEXICON_PATH, MAX_UNBROKEN, aspects_of, divide_runs


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        ("质量很好，就是物流太慢", "zh", {"quality": 1, "delivery": -1}),
        ("价格不贵，质量不错", "zh", {"price": 1, "quality": 1}),
        ("这衣服颜色不好看", "zh", {"appearance": -1}),
        ("客服态度恶劣", "zh", {"service": -1}),
        ("收到快递了", "zh", {"delivery": 0}),
        ("今天下雨", "zh", {}),
        ("The fabric is not soft but the price is great", "en", {"price": 1, "material": -1}),
        ("The quality isn't good", "en", {"quality": -1}),
        ("Not at all a comfortable fit", "en", {"fit": -1}),
        ("I got the package yesterday", "en", {"packaging": 0}),
        ("STAFF WAS RUDE. Great location!", "en", {"service": -1, "location": 1}),
        ("it is what it is", "en", {}),
        ("", "en", {}),
    ],
)
def test_an_aspect_takes_the_sign_of_its_clause(text: str, lang: str, expected: dict[str, int]) -> None:
    assert aspects_of(text, lang) == expected


def test_a_negation_reaches_over_stop_words_but_not_far() -> None:
    assert aspects_of("the fit was not really that good", "en") == {"fit": -1}
    assert aspects_of("not one button shirt sleeve color clashed, nice color", "en")["appearance"] == 1


def test_another_language_has_no_aspects() -> None:
    assert aspects_of("la qualité est mauvaise", "other") == {}


@pytest.mark.parametrize("run", ["!", "😀", '"(', "a", "好"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_text_without_a_space_is_divided_before_the_quadratic_tokenizer(run: str, lang: str) -> None:
    text = run * (20_000 // len(run))
    assert max(map(len, divide_runs(text).split())) == MAX_UNBROKEN
    assert divide_runs(text).replace(" ", "") == text
    assert aspects_of(text, lang) == {}


def test_the_lexicon_names_exactly_the_aspects_of_a_profile_in_both_languages() -> None:
    lexicon = yaml.safe_load(LEXICON_PATH.read_text(encoding="utf-8"))
    assert set(lexicon["aspects"]) == set(ASPECTS)
    for group in (*lexicon["aspects"].values(), *(lexicon[k] for k in ("positive", "negative", "negations"))):
        for lang in ("zh", "en"):
            assert group[lang]
            assert all(isinstance(word, str) and word == word.lower() for word in group[lang])

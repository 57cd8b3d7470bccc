"""What may be said of an audience, and how wrong words are answered."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.audience.language import MAX_CHARACTERS, ExpressionError, compile_expression
from features.audience.vocabulary import EXAMPLES, FIELDS, FUNCTIONS, language_text
from features.taxonomy import Category, Taxonomy, load_taxonomy

TAXONOMY = load_taxonomy()
WORDS = ["and", "or", "not", "(", ")", ",", "<", ">=", "sentiment", "last_seen", "interest", '"digital"',
         "'图书'", "14d", "0.4", "-1", "known", "has", '"text"', "nothing", "；"]  # fmt: skip


def refusal(text: str, taxonomy: Taxonomy = TAXONOMY) -> tuple[str, str, str]:
    """Place and message, line shown, and what the caret points at (to the end of the line)."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, taxonomy)
    said, shown, caret = str(caught.value).split("\n")
    return said.removeprefix("audience:"), shown[2:], caret


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_documented_example_compiles(text: str) -> None:
    assert compile_expression(text, TAXONOMY).condition


def test_ids_and_labels_in_both_languages_name_the_same_category() -> None:
    same = [compile_expression(f"interest({name}) > 0.4", TAXONOMY) for name in
            ('"digital"', "'数码'", "“Digital”", '"DIGITAL"')]  # fmt: skip
    assert {e.condition for e in same} == {same[0].condition}
    assert {e.parameters["p0"] for e in same} == {"digital"}


def test_keywords_and_names_are_of_any_case_and_ages_of_any_unit() -> None:
    found = compile_expression("NOT Sentiment > 0 AND last_seen < 36h OR last_seen < 2w", TAXONOMY)
    assert {1.5, 14.0} <= set(found.parameters.values())


def test_and_binds_closer_than_or_and_not_closest() -> None:
    loose = compile_expression("events > 1 or events > 2 and not events > 3", TAXONOMY).condition
    tight = compile_expression("events > 1 or (events > 2 and (not (events > 3)))", TAXONOMY).condition
    assert loose == tight


def test_texts_and_numbers_never_become_sql() -> None:
    taxonomy = Taxonomy((Category("x'); DROP TABLE t; --", "恶", "Bad"),), {}, {})
    found = compile_expression("interest(\"Bad\") > 0.125 and last_seen('Bad') < 3d", taxonomy)
    sql = found.condition + "".join(found.columns.values())
    assert "DROP TABLE" not in sql
    assert "0.125" not in sql
    assert set(found.parameters.values()) == {"x'); DROP TABLE t; --", 0.125, 3.0}


def test_a_value_used_twice_is_one_column_with_one_name() -> None:
    found = compile_expression('interest("books") > 0.2 and interest("图书") < 0.8', TAXONOMY)
    assert list(found.columns) == ["interest_books"]
    assert found.categories == ("books",)


def test_columns_of_ids_that_differ_in_signs_alone_stay_apart() -> None:
    taxonomy = Taxonomy((Category("a.b", "甲", "One"), Category("a_b", "乙", "Two")), {}, {})
    found = compile_expression('interest("a.b") > interest("a_b")', taxonomy)
    assert len(found.columns) == 2


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("", "1:1", "got the end"),
        ("sentiment >", "1:12", "expected a name such as sentiment or a number or an age such as 14d, got"),
        ("sentiment > 0 sentiment", "1:15", "got 'sentiment'"),
        ("(sentiment > 0", "1:15", 'expected ")", got the end'),
        ('interest("digitl") > 0.4', "1:10", "got 'digitl'; did you mean 'digital'"),
        ('interest("数马") > 0.4', "1:10", "did you mean '数码'?"),
        ('sentimnt > 0', "1:1", "did you mean 'sentiment'"),
        ('intrest("books") > 0', "1:1", "did you mean 'interest'?"),
        ('aspect("pric") > 0', "1:8", "did you mean 'price' or"),
        ('has("video")', "1:5", "expected a known modality, got 'video'"),
        ("interest(books) > 0", "1:10", "expected a category in quotes"),
        ('interest("books', "1:10", "got a quote that is not closed"),
        ('interest > 0', "1:1", "expected interest(…) of a category"),
        ('share("books") > 0', "1:1", "expected share(category, modality), got 1 arguments"),
        ("last_seen < 14", "1:13", "expected an age such as 14d, got a number"),
        ("sentiment > 14d", "1:13", "expected a number, got an age such as 14d"),
        ("sentiment > 14x", "1:15", "got 'x'"),
        ("sentiment", "1:1", "expected a condition, got a number alone"),
        ('has("text") = 1', "1:1", "expected a number or an age, got yes or no"),
        ("known(1)", "1:1", "expected one value such as known(sentiment)"),
        ("similarity > 0.5", "1:1", "expected --like"),
        ("sentiment > 0 and\n  top('books') and\n  bad < 1", "3:3", "expected a known name, got 'bad'"),
        ("not " * 60 + "sentiment > 0", "1:205", "expected at most 50 brackets"),
    ],
)  # fmt: skip
def test_a_wrong_expression_is_answered_at_its_place(text: str, place: str, says: str) -> None:
    said, shown, caret = refusal(text)
    assert said.startswith(f"{place}: ")
    assert says in said
    line, column = map(int, place.split(":"))
    assert shown == (text.split("\n")[line - 1] if text else "")
    wide = len(re.findall(r"[⺀-鿿＀-￯]", shown[: column - 1]))
    assert caret == " " * (column + 1 + wide) + "^"


def test_a_label_of_two_categories_asks_for_the_id() -> None:
    taxonomy = Taxonomy((Category("a", "同", "One"), Category("b", "同", "Two")), {}, {})
    assert "a label of ['a', 'b']; give an id" in refusal('interest("同") > 0', taxonomy)[0]
    own = Taxonomy((Category("a", "甲", "b"), Category("b", "乙", "Two")), {}, {})
    assert compile_expression('interest("b") > 0', own).categories == ("b",)


def test_an_endless_expression_is_refused() -> None:
    with pytest.raises(ExpressionError, match=f"at most {MAX_CHARACTERS} characters"):
        compile_expression("sentiment > 0 and " * 500 + "sentiment > 0", TAXONOMY)


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)))
def test_anything_written_compiles_or_is_refused_at_a_place_in_it(text: str) -> None:
    try:
        found = compile_expression(text, TAXONOMY)
    except ExpressionError as error:
        place = re.match(r"audience:(\d+):(\d+): expected .+, got ", str(error), re.S)
        assert place
        assert int(place[1]) <= text.count("\n") + 1
    else:
        assert found.condition.startswith(("(", "coalesce("))


def test_the_page_on_the_language_names_every_word_and_example() -> None:
    page = language_text()
    assert all(f"  {name}" in page for name in (*FIELDS, *FUNCTIONS, "known"))
    assert all(example in page for example in EXAMPLES)
    assert max(map(len, page.splitlines())) <= 120

"""The language of audiences: conditions on profiles, compiled to DuckDB SQL over the shipped views.

.. code-block:: text

    interest("digital") > 0.4 and sentiment > 0 and last_seen < 14d

``features.audience.vocabulary`` holds and explains its words. An expression never becomes SQL text: names are
looked up there, and what is written in quotes or digits becomes a parameter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from features.audience.vocabulary import FIELDS, FUNCTIONS, KINDS, KNOWN, Kind, Takes, Word, choices, near
from features.errors import UsageError
from features.taxonomy import Taxonomy

MAX_CHARACTERS: Final = 4_000
MAX_DEPTH: Final = 50
"""Brackets and ``not`` inside each other."""

_GRAMMAR: Final = r"""
?start: either
?either: both (_OR both)*
?both: denied (_AND denied)*
?denied: _NOT denied -> denied | test
?test: "(" either ")" | value COMPARISON value -> comparison | value -> truth
?value: NUMBER -> number | DURATION -> duration | NAME -> name | call
call: NAME "(" [argument ("," argument)*] ")"
?argument: STRING -> text | value

_OR: "or"i
_AND: "and"i
_NOT: "not"i
COMPARISON: "<=" | ">=" | "!=" | "<>" | "==" | "<" | ">" | "="
DURATION.2: /\d{1,6}(\.\d{1,6})?[smhdw]\b/
NUMBER: /-?\d{1,12}(\.\d{1,12})?/
NAME: /[a-z_]\w*/i
STRING: /"[^"\n]*"|'[^'\n]*'|“[^”\n]*”/
%ignore /\s+/
"""
_PARSER: Final = Lark(_GRAMMAR, parser="lalr", propagate_positions=True)

_DAYS: Final = {"s": 1 / 86_400, "m": 1 / 1_440, "h": 1 / 24, "d": 1.0, "w": 7.0}
_SIGNS: Final = {"==": "=", "!=": "<>"}
_SAID: Final = {
    "NAME": "a name such as sentiment", "NUMBER": "a number", "DURATION": "an age such as 14d",
    "STRING": 'a text in quotes such as "digital"', "COMPARISON": "a comparison (< <= > >= = !=)",
    "LPAR": '"("', "RPAR": '")"', "COMMA": '","', "_AND": '"and"', "_OR": '"or"', "_NOT": '"not"',
    "$END": "the end",
}  # fmt: skip


class ExpressionError(UsageError):
    """An expression that is none; the message shows the line and the place."""


@dataclass(frozen=True)
class Expression:
    """A compiled expression, for a query over ``profiles_latest``."""

    text: str
    columns: Mapping[str, str]
    """Name in the output → SQL. Ages are in days."""
    condition: str
    """SQL over the names of the columns; true or false, never null."""
    parameters: Mapping[str, Any]
    """All but ``now`` (timestamptz), which the caller gives."""
    categories: tuple[str, ...]
    """Ids of the tags that the columns read."""
    uses_similarity: bool


def compile_expression(text: str, taxonomy: Taxonomy, *, with_similarity: bool = False) -> Expression:
    """Parse and check an expression; ``with_similarity`` allows the field of that name.

    A comparison with something unknown does not hold, so that ``not`` of it does. Raises ExpressionError.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"audience: expected at most {MAX_CHARACTERS} characters, got {len(text)}; say it shorter"
        )
    try:
        tree = _PARSER.parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from None
    compiler = _Compiler(text, taxonomy, with_similarity)
    condition = compiler.condition(tree, 0)
    categories = tuple(dict.fromkeys(compiler.categories))
    return Expression(
        text,
        compiler.columns,
        condition,
        compiler.parameters,
        categories,
        "similarity" in compiler.columns,
    )


def _syntax_error(text: str, error: UnexpectedInput) -> ExpressionError:
    names: Iterable[str] = ()
    place, got = len(text.rstrip()), "the end"
    if isinstance(error, UnexpectedCharacters):
        names = error.allowed or ()
        place = error.pos_in_stream or 0
        got = "a quote that is not closed" if text[place] in "\"'“" else repr(text[place])
    elif isinstance(error, UnexpectedToken):
        names = error.accepts or error.expected
        if error.token.type != "$END":
            place, got = error.token.start_pos or 0, repr(str(error.token)[:20])
    wanted = " or ".join(said for name, said in _SAID.items() if name in names)
    return _error_at(text, place, f"expected {wanted or 'a condition'}, got {got}")


def _error_at(text: str, place: int, said: str) -> ExpressionError:
    """``audience:<line>:<column>: <said>``, then the line with a caret below the place (an offset)."""
    begin = text.rfind("\n", 0, place) + 1
    line, column = text.count("\n", 0, place) + 1, place - begin + 1
    shown = re.sub(r"\s", " ", text[begin:].split("\n")[0])
    wide = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in shown[: column - 1])
    return ExpressionError(f"audience:{line}:{column}: {said}\n  {shown}\n  {' ' * wide}^")


class _Value(NamedTuple):
    """One side of a comparison, or a condition of its own."""

    sql: str
    kind: Kind
    at: int  # offset in the text


@dataclass
class _Compiler:
    """One walk through a tree, which collects columns and parameters."""

    text: str
    taxonomy: Taxonomy
    with_similarity: bool
    columns: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)

    def condition(self, tree: Any, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise self._error(tree, f"expected at most {MAX_DEPTH} brackets inside each other, got more")
        if tree.data in ("either", "both"):
            joint = " OR " if tree.data == "either" else " AND "
            return f"({joint.join(self.condition(child, depth + 1) for child in tree.children)})"
        if tree.data == "denied":
            return f"(NOT {self.condition(tree.children[0], depth + 1)})"
        if tree.data == "comparison":
            return self._comparison(*tree.children)
        value = self._value(tree.children[0])
        if value.kind != "yes":
            raise self._error(value.at, f"expected a condition, got {KINDS[value.kind]} alone; compare it")
        return f"coalesce({value.sql}, false)"

    def _comparison(self, first: Any, sign: Token, second: Any) -> str:
        left, right = self._value(first), self._value(second)
        for value in (left, right):
            if value.kind == "yes":
                raise self._error(value.at, "expected a number or an age, got yes or no; leave it alone")
        if left.kind != right.kind:
            raise self._error(right.at, f"expected {KINDS[left.kind]}, got {KINDS[right.kind]}")
        return f"coalesce({left.sql} {_SIGNS.get(sign, sign)} {right.sql}, false)"

    def _value(self, tree: Any) -> _Value:
        at = tree.meta.start_pos
        written = str(tree.children[0])
        if tree.data == "number":
            return _Value(self._parameter(float(written)), "number", at)
        if tree.data == "duration":
            return _Value(self._parameter(float(written[:-1]) * _DAYS[written[-1]]), "age", at)
        if tree.data == "name":
            return self._field(written.lower(), at)
        return self._call(written.lower(), [c for c in tree.children[1:] if c is not None], at)

    def _field(self, name: str, at: int) -> _Value:
        word = FIELDS.get(name)
        if word is None and name in FUNCTIONS:
            takes = ", ".join(FUNCTIONS[name].takes)
            raise self._error(at, f"expected {name}(…) of a {takes}, got {name} alone")
        if word is None:
            raise self._error(at, f"expected a known name, got {name!r}{near(name, [*FIELDS, *FUNCTIONS])}")
        if name == "similarity" and not self.with_similarity:
            raise self._error(at, "expected --like and a list of users beside similarity, got none")
        return self._column(name, word, word.sql, at)

    def _call(self, name: str, arguments: Sequence[Any], at: int) -> _Value:
        if name == KNOWN:
            return self._known(arguments, at)
        word = FUNCTIONS.get(name)
        if word is None:
            raise self._error(at, f"expected a known function, got {name!r}{near(name, [*FUNCTIONS, KNOWN])}")
        if len(arguments) != len(word.takes):
            raise self._error(at, f"expected {name}({', '.join(word.takes)}), got {len(arguments)} arguments")
        ids = [self._id_of(takes, argument) for takes, argument in zip(word.takes, arguments, strict=True)]
        sql = word.sql.format(*map(self._parameter, ids))
        return self._column(re.sub(r"\W", "_", "_".join((name, *ids))), word, sql, at)

    def _known(self, arguments: Sequence[Any], at: int) -> _Value:
        if len(arguments) != 1 or arguments[0].data not in ("name", "call"):
            raise self._error(at, f"expected one value such as {KNOWN}(sentiment), got otherwise")
        return _Value(f"({self._value(arguments[0]).sql} IS NOT NULL)", "yes", at)

    def _id_of(self, takes: Takes, argument: Any) -> str:
        """The id that an argument in quotes stands for."""
        if argument.data != "text":
            raise self._error(argument, f"expected a {takes} in quotes, got none")
        written = str(argument.children[0])[1:-1].strip()
        possible = choices(takes, self.taxonomy)
        found = {own for name, own in possible if name.casefold() == written.casefold()}
        if written in found:
            found = {written}  # another's label never hides an id
        if not found:
            names = [name for name, _ in possible]
            raise self._error(argument, f"expected a known {takes}, got {written!r}{near(written, names)}")
        if len(found) > 1:
            raise self._error(
                argument, f"expected one {takes}, got {written!r}, a label of {sorted(found)}; give an id"
            )
        (own,) = found
        if takes == "category":
            self.categories.append(own)
        return own

    def _column(self, label: str, word: Word, sql: str, at: int) -> _Value:
        """A value that is also shown: a column under its label, the same one when it is used again."""
        label += "_days" if word.kind == "age" else ""
        while self.columns.setdefault(label, sql) != sql:  # two ids that differ in signs alone
            label += "_"
        return _Value(f'"{label}"', word.kind, at)

    def _parameter(self, value: float | str) -> str:
        for name, held in self.parameters.items():
            if held == value and type(held) is type(value):
                return f"${name}"
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def _error(self, where: Any, said: str) -> ExpressionError:
        return _error_at(self.text, where if isinstance(where, int) else where.meta.start_pos, said)

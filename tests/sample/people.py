"""Who shops in the sample: 28 people, their two planted tastes, and when they say what. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

END = datetime(2026, 6, 30, 20, 0, tzinfo=UTC)
WEEKS = 6

Habit = Literal["mixed", "text", "image", "voice"]

CATEGORIES = ("tops", "bottoms", "dresses", "shoes", "bags_accessories", "innerwear", "personal_care",
              "fruit", "dairy", "digital", "books", "hotel")  # fmt: skip
"""The first level of the shipped taxonomy, in its order."""
UNPICTURED = ("digital", "books", "hotel")
"""Categories that nobody photographs here."""


class Person(NamedTuple):
    """One shopper. Who drifts has the first taste for three weeks, then the second."""

    user_id: str
    tastes: tuple[str, str]
    habit: Habit = "mixed"
    drifts: bool = False


class Utterance(NamedTuple):
    """That somebody will say something about a category."""

    person: Person
    category: str
    modality: Literal["text", "image", "voice"]
    time: datetime


PEOPLE = (
    Person("shopper01", ("fruit", "books")),
    Person("shopper02", ("tops", "bottoms")),
    Person("shopper03", ("digital", "hotel")),
    Person("shopper04", ("dresses", "shoes")),
    Person("shopper05", ("personal_care", "dairy")),
    Person("shopper06", ("bags_accessories", "tops"), drifts=True),
    Person("shopper07", ("books", "digital"), "text"),
    Person("shopper08", ("shoes", "bags_accessories"), "image"),
    Person("shopper09", ("fruit", "dairy")),
    Person("shopper10", ("innerwear", "dresses")),
    Person("shopper11", ("hotel", "fruit")),
    Person("shopper12", ("bottoms", "shoes"), "image"),
    Person("shopper13", ("dairy", "digital"), drifts=True),
    Person("shopper14", ("tops", "dresses")),
    Person("shopper15", ("books", "hotel"), "text"),
    Person("shopper16", ("personal_care", "bags_accessories")),
    Person("shopper17", ("fruit", "personal_care"), "image"),
    Person("shopper18", ("digital", "tops")),
    Person("shopper19", ("books", "fruit"), "voice"),
    Person("shopper20", ("bottoms", "innerwear"), drifts=True),
    Person("shopper21", ("hotel", "dresses")),
    Person("shopper22", ("shoes", "digital"), drifts=True),
    Person("shopper23", ("dairy", "books")),
    Person("shopper24", ("innerwear", "personal_care")),
    Person("shopper25", ("bags_accessories", "fruit"), drifts=True),
    Person("shopper26", ("bottoms", "books")),
    Person("shopper27", ("hotel", "digital"), "voice"),
    Person("shopper28", ("tops", "hotel"), drifts=True),
)


def utterances(person: Person, rng: random.Random) -> Iterator[Utterance]:
    """10 to 13 of a person's utterances in the order of their times; about one in ten is off taste."""
    count = rng.randint(10, 13)
    seconds = sorted(rng.uniform(0, WEEKS * 7 * 86_400) for _ in range(count))
    first, second = person.tastes
    off = rng.randrange(count)
    halves = [first] * (count // 2) + [second] * (count - count // 2)
    if not person.drifts:
        rng.shuffle(halves)
    for i, (wanted, second_of_day) in enumerate(zip(halves, seconds, strict=True)):
        category = rng.choice(CATEGORIES[:9]) if i == off else wanted
        time = END - timedelta(weeks=WEEKS) + timedelta(seconds=round(second_of_day))
        yield Utterance(person, category, _modality(person.habit, category, rng), time)


def _modality(habit: Habit, category: str, rng: random.Random) -> Literal["text", "image", "voice"]:
    if habit != "mixed":
        return habit
    draw = rng.random()
    if category in UNPICTURED:
        return "text" if draw < 0.8 else "voice"
    return "text" if draw < 0.5 else "image" if draw < 0.86 else "voice"

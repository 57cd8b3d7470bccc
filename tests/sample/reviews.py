"""Reviews of the sample, from the templates in ``reviews.yaml``."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import yaml

TEMPLATES: dict[str, dict[str, dict[str, list[str]]]] = yaml.safe_load(
    Path(__file__).with_name("reviews.yaml").read_text(encoding="utf-8")
)
"""Category → language → verdict → templates in which ``{a|b}`` is a choice."""

CHINESE_FIRST = ("personal_care", "fruit", "dairy", "digital", "books", "hotel")
"""What this shop's customers mostly review in Chinese; of the rest they mostly write in English."""


def review(category: str, rng: random.Random) -> dict[str, Any]:
    """The data of a review: text, and sometimes rating, language and product."""
    lang = "zh" if (category in CHINESE_FIRST) == (rng.random() < 0.8) else "en"
    verdict = "good" if rng.random() < 0.75 else "bad"
    template = rng.choice(TEMPLATES[category][lang][verdict])
    data: dict[str, Any] = {"text": re.sub(r"\{([^}]*)\}", lambda m: rng.choice(m[1].split("|")), template)}
    if rng.random() < 0.7:
        data["rating"] = rng.choice((4, 5) if verdict == "good" else (1, 2))
    if rng.random() < 0.5:
        data["lang"] = lang
    if rng.random() < 0.5:
        data["product_id"] = f"p{rng.randint(1000, 9999)}"
    return data

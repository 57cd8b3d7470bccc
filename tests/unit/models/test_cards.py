"""Every weight file has a card, and the card says what the weights' own figures say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import checkpoint

CARDS = Path(checkpoint.__file__).with_name("cards")
WEIGHTS = sorted(checkpoint.WEIGHTS_DIR.glob("*.safetensors"))


def _figures(config: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, found in config["figures"].items():
        for figure in ("accuracy", "macro_f1") if isinstance(found, dict) else ():
            if figure in found:
                yield f"{name} {figure}", found[figure]
        if isinstance(found, dict) and "by prototypes" in found:
            yield f"{name} ndcg", found["by prototypes"]["ndcg"]


def test_there_is_one_card_for_every_weight_file() -> None:
    assert [c.stem for c in sorted(CARDS.glob("*.md"))] == [w.stem for w in WEIGHTS]


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.stem)
def test_a_card_states_data_licence_status_figures_and_limits(weights: Path) -> None:
    card = (CARDS / f"{weights.stem}.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {weights.name}\n")
    for part in ("## Data", "licence status", "## Figures", "## What it must not be used for"):
        assert part in card


@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda w: w.stem)
def test_a_card_says_what_the_weights_say_of_themselves(weights: Path) -> None:
    card = (CARDS / f"{weights.stem}.md").read_text(encoding="utf-8")
    found = dict(_figures(checkpoint.load(weights)[1]))
    assert found
    assert not {name: value for name, value in found.items() if f"{value:.3f}" not in card}

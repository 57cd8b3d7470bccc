"""Readers of whole texts learn alone or beside tables; the best epoch counts, and interruptions do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models import checkpoint
from models.text.network import TextNetwork
from models.training.dataset import dataset_taxonomy
from models.training.text import reader
from models.training.text.data import TextRows, read_texts
from models.training.text.train import Recipe, train_text
from tests.unit.models.training.interruption import interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

ALONE = Recipe("text-transformer", False, {"buckets": 256, "dim": 8, "layers": 1, "attention_heads": 2}, 2)
BESIDE = ALONE._replace(wide=True)


@pytest.fixture(scope="module")
def rows(shop: Path) -> TextRows:
    """With few of the phrases made by code, of which there are many."""
    rows = read_texts(shop, dataset_taxonomy(shop))
    return rows.only((rows.source != "phrases") | (np.arange(len(rows.texts)) % 40 == 0))


def _train(shop: Path, out: Path, rows: TextRows, recipe: Recipe) -> list[str]:
    said: list[str] = []
    train_text(shop, out, dataset_taxonomy(shop), said.append, rows=rows, recipe=recipe)
    return said


@pytest.mark.parametrize("recipe", [ALONE, BESIDE], ids=["alone", "beside tables"])
def test_an_interrupted_training_ends_in_the_same_bytes(
    shop: Path, rows: TextRows, tmp_path: Path, recipe: Recipe
) -> None:
    said = _train(shop, tmp_path / "whole", rows, recipe)
    assert any("epoch 2 of 2" in line and "development accuracy" in line for line in said)
    with interrupted():
        _train(shop, tmp_path / "parts", rows, recipe)
    assert not (tmp_path / "parts").exists()
    _train(shop, tmp_path / "parts", rows, recipe)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert not list(tmp_path.glob("*.resume"))


def test_the_best_epoch_on_development_texts_is_kept(
    shop: Path, rows: TextRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[dict[str, Tensor]] = []

    def best_after_one_epoch(rows: TextRows, evidence: Tensor, network: TextNetwork) -> float:
        judged.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return float(len(judged) == 2)

    monkeypatch.setattr(reader, "_development_accuracy", best_after_one_epoch)
    _train(shop, tmp_path / "w", rows, ALONE)
    kept = checkpoint.load(tmp_path / "w")[0]
    assert len(judged) == 3  # before all, and after each of two epochs
    for name, tensor in kept.items():
        assert torch.equal(tensor.float(), judged[1][name].half().float()), name


def test_beside_tables_it_begins_as_what_the_tables_alone_say(
    shop: Path, rows: TextRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[TextNetwork] = []

    def begin(rows: TextRows, evidence: Tensor, network: TextNetwork, *_: object) -> None:
        begun.append(network)
        raise KeyboardInterrupt

    monkeypatch.setattr("models.training.text.train.train_reader", begin)
    with pytest.raises(KeyboardInterrupt):
        _train(shop, tmp_path / "w", rows, BESIDE)
    network, quiet, loud = begun[0], torch.zeros(3, 8), torch.randn(3, 8)
    evidence = torch.randn(3, network.evidence_width)
    said = [network(torch.cat((evidence, read), 1)) for read in (quiet, loud)]
    assert torch.equal(said[0][0], said[1][0])
    assert all(torch.equal(said[0][1][head], logits) for head, logits in said[1][1].items())

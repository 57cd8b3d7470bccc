"""Training on a shop's own files and categories: an invented shop, small enough for a unit test."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from features.taxonomy import Taxonomy, load_taxonomy
from models import checkpoint
from models.encoder import TextContent
from models.text.encoder import TextEncoder
from models.training.dataset import DatasetError
from models.training.text.data import read_texts
from models.training.text.train import train_text
from models.training.train import TrainingError, train
from tests.unit.models.training.shop import KINDS, TAXONOMY
from tests.unit.models.training.shop import SPEC as SHOP

SPEC = {"text": SHOP["text"]}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    rows = [
        {
            "note": f"The {word} number {i} is {'lovely' if i % 2 else 'awful'} and the {words[i % 4]} too",
            "writer": f"w{i}{word}",
            "kind": kind,
            "liked": i % 2,
        }
        for kind, words in KINDS.items()
        for word in words
        for i in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "notes.parquet")
    (tmp_path / "dataset.yaml").write_text(yaml.safe_dump(SPEC), encoding="utf-8")
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(TAXONOMY), encoding="utf-8")
    return tmp_path


def _taxonomy(shop: Path) -> Taxonomy:
    return load_taxonomy(shop / "shop.yaml")


def test_a_shop_trains_on_its_own_categories_and_the_same_bytes_come_again(shop: Path) -> None:
    said: list[str] = []
    figures = train_text(shop, shop / "a.safetensors", _taxonomy(shop), said.append)
    assert figures["notes:note/kind"]["accuracy"] == 1
    assert figures["notes:note/sentiment"]["auc"] == 1
    assert any("epoch 1 of" in line for line in said)
    encoder = TextEncoder(shop / "a.safetensors")
    assert encoder.heads["category"].labels == ("water", "food", "other")
    encoded = encoder.encode([encoder.decode(TextContent("The mast number 77 is lovely and the hull too"))])
    assert encoded.heads["category"].labels == ["water"]
    train_text(shop, shop / "b.safetensors", _taxonomy(shop), said.append)
    assert (shop / "a.safetensors").read_bytes() == (shop / "b.safetensors").read_bytes()
    assert checkpoint.load(shop / "a.safetensors")[1]["figures"] == figures


def test_rows_of_one_group_stay_in_one_split(shop: Path) -> None:
    rows = pq.read_table(shop / "notes.parquet").to_pylist()
    same = [row | {"writer": "one", "note": f"{row['note']} {i}"} for i, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(same), shop / "notes.parquet")
    texts = read_texts(shop, _taxonomy(shop))
    real = texts.source != "phrases"
    assert len(set(texts.split[real].tolist())) == 1
    assert len(set(texts.fold[real].tolist())) == 1


def test_made_phrases_only_train_and_only_for_categories_that_exist(shop: Path) -> None:
    texts = read_texts(shop, _taxonomy(shop))
    made = texts.source == "phrases"
    assert set(texts.split[made].tolist()) == {"train"}
    assert {texts.names["category"][i] for i in texts.labels["category"][made]} == {"other"}


def test_a_file_or_column_that_is_not_there_is_named(shop: Path) -> None:
    (shop / "notes.parquet").unlink()
    with pytest.raises(DatasetError, match=r"notes\.parquet: expected parquet with"):
        read_texts(shop, _taxonomy(shop))
    pq.write_table(pa.table({"other": [1]}), shop / "notes.parquet")
    with pytest.raises(DatasetError, match=r"check dataset\.yaml"):
        read_texts(shop, _taxonomy(shop))


def test_only_what_exists_can_be_trained(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected a folder of training data"):
        train(tmp_path / "none")
    with pytest.raises(
        TrainingError, match=r"expected one of \['text', 'image', 'voice', 'fusion'\], got 'smell'"
    ):
        train(tmp_path, "smell", tmp_path)

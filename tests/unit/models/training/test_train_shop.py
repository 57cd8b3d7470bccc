"""A shop trains every part on its own files and categories, by command; mistakes in its yaml are named."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from features.errors import PortraitError
from models import checkpoint
from models.encoder import TextContent
from models.fusion import load_fusion
from models.registry import load_encoder
from models.training.dataset import DatasetError, dataset_taxonomy, load_dataset
from models.training.image.data import load_images
from models.training.image.titles import TitleTargets
from models.training.image.train import train_image
from models.training.resume import Resume
from models.training.text.data import read_texts
from models.training.train import Choice, TrainingError, train, variants_of
from models.training.voice.data import load_voices
from models.voice.encoder import VoiceEncoder
from pipelines.cli.main import cli
from tests.unit.models.training.interruption import interrupted
from tests.unit.models.training.shop import SPEC, call, drawing, write_spec

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All parts, trained through the command."""
    out = tmp_path_factory.mktemp("weights")
    arguments = ["train", "--data", str(shop), "--out", str(out), "--epochs", "2", "--device", "cpu"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_every_part_is_trained_and_speaks_of_the_shops_categories(shop: Path, weights: Path) -> None:
    taxonomy = dataset_taxonomy(shop)
    assert taxonomy.first_level == ("water", "food")
    for modality in ("text", "image"):
        encoder: Any = load_encoder(modality, weights / f"{modality}.safetensors", "cpu")
        assert encoder.heads["category"].labels == ("water", "food", "other")
        assert {"kind"} <= set(encoder.heads)
    voice = load_encoder("voice", weights / "voice.safetensors", "cpu", taxonomy.words, taxonomy)
    said = voice.encode([voice.decode(call("yum", 1))])
    assert set(said.heads) == {"word", "category"}
    assert load_fusion(weights / "fusion.safetensors").kind == "learned"
    assert not list(weights.glob("*.resume"))


def test_what_text_learned_of_the_shop_holds_for_a_new_note(weights: Path) -> None:
    encoder = load_encoder("text", weights / "text.safetensors", "cpu")
    said = encoder.encode([encoder.decode(TextContent("The mast number 77 is lovely and the hull too"))])
    assert said.heads["category"].labels == ["water"]


def test_the_titles_of_the_catalogue_are_read_by_the_shops_own_text_encoder(
    shop: Path, weights: Path
) -> None:
    images = load_images(shop)
    assert set(images.titles.tolist()) >= {"boat number 1", "cheese number 2"}
    assert images.measured() == [("drawings", "category"), ("drawings", "kind")]
    assert images.stands_in("shade").all()
    assert images.names["shade"] == ("cold", "warm", "other")


def test_an_interrupted_training_of_pictures_ends_in_the_same_bytes(shop: Path, tmp_path: Path) -> None:
    train_image(shop, tmp_path / "whole.safetensors", epochs=2)
    with interrupted():
        train_image(shop, tmp_path / "parts.safetensors", epochs=2)
    assert not (tmp_path / "parts.safetensors").exists()
    train_image(shop, tmp_path / "parts.safetensors", epochs=2)
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_resumed_file_of_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    def resume(seed: int, name: str = "network") -> Resume:
        network = torch.nn.Linear(2, 2)
        optimiser = torch.optim.AdamW(network.parameters())
        schedule = torch.optim.lr_scheduler.ConstantLR(optimiser)
        rng = np.random.default_rng(0)
        return Resume(tmp_path / "w", {"seed": seed}, {name: network}, optimiser, schedule, rng)

    resume(1).store(3)
    assert resume(2).restore() == 0
    assert resume(1, "another").restore() == 0
    assert resume(1).restore() == 3
    (tmp_path / "w.resume").write_bytes(b"not a training")
    assert resume(1).restore() == 0


def test_emotion_is_neither_read_nor_trained_unless_it_is_switched_on(
    shop: Path, weights: Path, tmp_path: Path
) -> None:
    assert load_voices(shop, copies=0).emotion_names == ()
    with pytest.raises(checkpoint.CheckpointError, match="emotion head, got none; train them with --emotion"):
        VoiceEncoder(weights / "voice.safetensors", emotion=True)
    train(shop, "voice", tmp_path, lambda _: None, Choice(epochs=1, device="cpu", emotion=True))
    clips = [VoiceEncoder(tmp_path / "voice.safetensors").decode(call("ahoy", 3))]
    assert "emotion" not in VoiceEncoder(tmp_path / "voice.safetensors").encode(clips).heads
    spoken = VoiceEncoder(tmp_path / "voice.safetensors", emotion=True).encode(clips)
    assert spoken.heads["emotion"].labels[0] in ("calm", "cross", "other")


# Mistakes


def _broken(shop: Path, tmp_path: Path, change: Any) -> Path:
    spec = copy.deepcopy(SPEC)
    change(spec)
    for file in shop.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "dataset.yaml").unlink()
    write_spec(tmp_path, spec)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["image"][0].pop("group"), r"image\.0\.group: .*Field required"),
        (lambda s: s["text"][0].update(colum="x"), r"text\.0\.colum: .*Extra inputs"),
        (lambda s: s["image"][0].update(repeat=-1), r"image\.0\.repeat: .*greater than 0"),
        (lambda s: s["voice"][0].pop("word"), r"voice\.0: .*needs the keys word and lang"),
        (lambda s: s["image"][0].update(dataset="notes"), r"\['notes'\] are named twice"),
    ],
)
def test_a_wrong_key_is_named_with_its_place(shop: Path, tmp_path: Path, change: Any, told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        load_dataset(_broken(shop, tmp_path, change))


def test_yaml_that_is_none_is_refused(tmp_path: Path) -> None:
    for content in ("text: [", "- a\n- b\n"):
        (tmp_path / "dataset.yaml").write_text(content, encoding="utf-8")
        with pytest.raises(DatasetError, match=r"dataset\.yaml: expected"):
            load_dataset(tmp_path)


def test_a_column_that_is_not_there_is_named(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s["image"][0].update(title="headline"))
    with pytest.raises(DatasetError, match=r"drawings\.parquet: expected columns .*'headline'"):
        load_images(folder)


def test_series_without_numbers_are_refused(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s["image"][0].update(shots=5))
    with pytest.raises(DatasetError, match=r"expected names that end in _<number>"):
        load_images(folder)


def test_labels_that_stand_for_no_category_are_refused(shop: Path, tmp_path: Path) -> None:
    def rename(spec: dict[str, Any]) -> None:
        for kind in ("text", "image"):
            spec[kind][0].update(category={"sort": "kind"})

    folder = _broken(shop, tmp_path, rename)
    for read in (lambda: read_texts(folder, dataset_taxonomy(folder)), lambda: load_images(folder)):
        with pytest.raises(DatasetError, match="expected labels that the taxonomy maps to categories"):
            read()


def test_a_sentiment_that_is_no_yes_or_no_is_refused(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s["text"][0].update(sentiment="kind"))
    with pytest.raises(DatasetError, match=r"notes\.parquet: kind: expected 1 \(positive\), 0"):
        read_texts(folder, dataset_taxonomy(folder))


def test_content_that_does_not_decode_is_named(shop: Path, tmp_path: Path) -> None:
    def swap(spec: dict[str, Any]) -> None:
        spec["image"][0].update(image="title")
        spec["voice"][0].update(audio="word")

    folder = _broken(shop, tmp_path, swap)
    for read, column in ((load_images, "title"), (load_voices, "word")):
        with pytest.raises(DatasetError, match=rf"parquet: {column}: expected content that decodes"):
            read(folder)


def test_two_speakers_are_too_few(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s["voice"][0].update(speaker="word"))
    with pytest.raises(DatasetError, match="at least 3 speakers, got 2"):
        load_voices(folder, copies=0)


def test_a_section_that_is_missing_is_named(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s.pop("image"))
    with pytest.raises(DatasetError, match="expected a section 'image', got none"):
        load_images(folder)


def test_a_taxonomy_that_is_missing_is_named(shop: Path, tmp_path: Path) -> None:
    folder = _broken(shop, tmp_path, lambda s: s.update(taxonomy="gone.yaml"))
    with pytest.raises(PortraitError, match=r"gone\.yaml: expected a taxonomy file"):
        train(folder, "text", tmp_path / "out", lambda _: None)


@pytest.mark.parametrize(
    ("only", "choice", "told"),
    [
        ("text", Choice(variant="cnn"), "expected a variant of one encoder .*'bigru'.* got 'cnn'"),
        (None, Choice(variant="cnn"), "none named"),
        ("text", Choice(variant="hf"), "expected --folder with a variant hf"),
        ("image", Choice(folder=Path("x")), "expected --folder with a variant hf"),
        ("text", Choice(emotion=True), "expected --emotion with the voice encoder"),
    ],
)
def test_choices_that_do_not_fit_are_refused(
    shop: Path, tmp_path: Path, only: str | None, choice: Choice, told: str
) -> None:
    with pytest.raises(TrainingError, match=told):
        train(shop, only, tmp_path, lambda _: None, choice)


def test_variants_are_listed_with_the_default_first() -> None:
    assert variants_of("text")[0] == "bag"
    assert variants_of("voice")[0] == "gru"
    assert {"resnet64", "resnet96", "hf"} == set(variants_of("image"))
    assert variants_of("fusion") == []


def test_a_network_of_96_pixels_learns_from_titles_too(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paired: list[int] = []
    loss = TitleTargets.loss

    def watched(self: TitleTargets, embedding: torch.Tensor, pictures: Any) -> torch.Tensor:
        paired.append(len(pictures) if self.used else 0)
        return loss(self, embedding, pictures)

    monkeypatch.setattr(TitleTargets, "loss", watched)
    train(shop, "image", tmp_path, lambda _: None, Choice("resnet96", epochs=4, device="cpu"))
    assert sum(paired) > 0
    encoder = load_encoder("image", tmp_path / "image.safetensors", "cpu")
    sample = encoder.decode(drawing("boat", 5))
    assert sample.shape == (96, 96, 3)
    assert len(encoder.encode([sample]).embedding) == 1

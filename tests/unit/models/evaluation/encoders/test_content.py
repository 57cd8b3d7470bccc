"""What the report judges on: nothing that was trained on, told by the groups that training goes by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.encoder import Encoded
from models.evaluation.encoders.content import (
    Item,
    fold_split,
    folds_of,
    measured_heads,
    read_items,
    standard_splits,
    taxonomy_of,
)
from models.evaluation.encoders.predictions import (
    Verdicts,
    calibration_error,
    confusion,
    coverage_curve,
    joined,
    judge,
    load_verdicts,
    reliability,
    save_verdicts,
)
from models.heads import Head
from models.training.image.data import load_images
from models.training.splits import Split
from models.training.text.data import read_texts
from tests.support.folders import DATA

TINY = DATA / "tiny"


@pytest.mark.parametrize("modality", ["text", "image", "voice"])
def test_a_held_out_group_is_tested_in_its_fold_and_trained_on_in_the_others(modality: str) -> None:
    groups = [f"group {i}" for i in range(26)] * 2
    folds = folds_of(modality, groups, 5)
    for fold in range(5):
        split = fold_split(modality, groups, fold, 5)
        for group, mine in zip(groups, folds, strict=True):
            assert (split(group) == "test") == (mine == fold)


def test_every_speaker_fold_has_speakers_to_train_tune_and_test() -> None:
    speakers = [f"spk{i:02}" for i in range(26)]
    for fold in range(5):
        split = fold_split("voice", speakers, fold, 5)
        counts = [sum(split(s) == name for s in speakers) for name in ("train", "dev", "test")]
        assert counts[1] == 3
        assert counts[2] in (5, 6)


@pytest.mark.data
@pytest.mark.parametrize("modality", ["text", "image"])
def test_training_asks_for_the_splits_of_the_very_groups_that_the_report_holds_out(modality: str) -> None:
    asked: set[str] = set()

    def split(group: str) -> Split:
        asked.add(group)
        return ("train", "dev", "test")[len(asked) % 3]

    taxonomy = taxonomy_of(TINY)
    if modality == "text":
        read_texts(TINY, taxonomy, split)
    else:
        load_images(TINY, split=split)
    items = read_items(TINY, modality, taxonomy)
    assert items
    assert {item.group for item in items} <= asked


@pytest.mark.data
def test_a_share_of_the_content_keeps_groups_whole() -> None:
    items = read_items(TINY, "image", taxonomy_of(TINY))
    some = read_items(TINY, "image", taxonomy_of(TINY), 0.5)
    kept = {item.group for item in some}
    assert 0 < len(some) < len(items)
    assert len(some) == sum(item.group in kept for item in items)


@pytest.mark.data
def test_what_no_head_can_be_measured_on_is_not_measured() -> None:
    items = read_items(TINY, "image", taxonomy_of(TINY))
    heads = measured_heads(items)
    assert ("user", "clothing_label") in heads
    assert not {key for key in heads if key in (("user", "grocery_coarse"), ("grocery", "clothing_label"))}
    assert set(standard_splits("image", items)) <= {"train", "dev", "test"}


def _verdicts(said: str, wanted: str, score: list[float]) -> Verdicts:
    n = len(said)
    nothing = np.full(n, np.nan, np.float32)
    groups = np.array([str(i) for i in range(n)])
    return Verdicts(
        np.array(list(said)),
        np.array(list(wanted)),
        np.array(score, np.float32),
        nothing,
        groups,
        groups,
        0.25,
    )


def test_verdicts_come_back_as_they_were_kept(tmp_path: Path) -> None:
    v = _verdicts("aab", "aba", [0.9, 0.8, 0.7])
    save_verdicts(tmp_path / "v.npz", {("set:form", "head"): v})
    ((key, back),) = load_verdicts(tmp_path / "v.npz").items()
    assert key == ("set:form", "head")
    assert back.threshold == 0.25
    for name in ("said", "wanted", "score", "positive", "group", "lang"):
        np.testing.assert_array_equal(getattr(back, name), getattr(v, name))
    assert joined([{key: v}, {key: v}])[key].right.tolist() == [True, False, False] * 2


def test_scores_that_are_right_as_often_as_they_say_have_no_calibration_error() -> None:
    v = _verdicts("a" * 10, "a" * 8 + "b" * 2, [0.8] * 10)
    assert calibration_error(v) == pytest.approx(0, abs=1e-6)
    ((score, right, n),) = reliability(v)
    assert score == pytest.approx(0.8)
    assert (right, n) == (0.8, 10)
    assert calibration_error(_verdicts("ab", "ba", [0.9, 0.9])) == pytest.approx(0.9)


def test_the_least_sure_are_left_out_first() -> None:
    v = _verdicts("aaaa", "aabb", [0.9, 0.8, 0.3, 0.2])
    curve = dict(coverage_curve(v, points=4))
    assert curve == {0.25: 1.0, 0.5: 1.0, 0.75: pytest.approx(2 / 3), 1.0: 0.5}


def test_a_confusion_matrix_counts_every_sample_and_sums_up_rare_labels() -> None:
    wanted = "".join(chr(97 + i) * (30 - i) for i in range(24))
    v = _verdicts("a" * len(wanted), wanted, [0.5] * len(wanted))
    found = confusion(v)
    assert found["labels"][-1] == "rest"
    assert len(found["labels"]) == 21
    assert sum(map(sum, found["counts"])) == len(wanted)
    assert found["counts"][-1][0] == sum(30 - i for i in range(20, 24))


class _Stated:
    """An encoder whose content is its logits."""

    def __init__(self) -> None:
        self.heads = {"garment": Head(("hat", "shirt", "sock", "other"), threshold=0.99)}

    def decode(self, content: list[float]) -> list[float]:
        return content

    def encode(self, samples: list[list[float]]) -> Encoded:
        logits = np.array(samples, np.float32)
        return Encoded(
            np.zeros((len(samples), 64), np.float32), {"garment": self.heads["garment"].judge(logits)}
        )


def test_among_themselves_labels_of_a_subset_are_all_there_is_to_say() -> None:
    logits = {"hat": [1.0, 0, 5, 6], "shirt": [2.0, 3, 1, 0], "sock": [0.0, 1, 9, 0]}
    items = [Item("set", "user", n, n, "none", {"garment": n}, x) for n, x in logits.items()]
    encoder = _Stated()
    pair = ("shirt", "hat", "glove")  # the encoder knows no gloves
    found = judge(encoder, items, {"pair": (("user", "garment"), pair)})  # type: ignore[arg-type]
    assert found["user", "garment"].said.tolist() == ["other", "shirt", "sock"]
    assert found["user", "pair among themselves"].said.tolist() == ["hat", "shirt"]
    assert found["user", "pair among themselves"].wanted.tolist() == ["hat", "shirt"]
    assert found["user", "pair among themselves"].score[1] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert encoder.heads["garment"].threshold == 0.99


def test_a_subset_of_a_head_that_a_model_lacks_has_no_row() -> None:
    items = [Item("set", "user", n, n, "none", {"colour": n}, [0.0, 0, 0, 1]) for n in ("red", "blue")]
    assert judge(_Stated(), items, {"two": (("user", "colour"), ("red", "blue"))}) == {}  # type: ignore[arg-type]

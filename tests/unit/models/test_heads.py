"""Heads: calibrated scores, abstention, and what fits them on development data."""

from __future__ import annotations

import numpy as np
import pytest

from models.device import DeviceError
from models.encoder import OTHER
from models.heads import Head, heads_from_config
from models.registry import resolve_device
from models.training.calibration import (
    calibration_error,
    coverage_curve,
    fit_temperature,
    fit_threshold,
    macro_f1,
)
from models.training.text.metrics import area_under_curve

LOGITS = np.array([[4.0, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 9.0]], np.float32)


def test_a_head_says_its_best_label_or_other_below_its_threshold() -> None:
    verdict = Head(("a", "b", "c"), threshold=0.5).judge(LOGITS)
    assert verdict.labels == ["a", OTHER, "c"]
    np.testing.assert_allclose(verdict.scores, Head(("a", "b", "c")).probabilities(LOGITS).max(1))


def test_a_higher_temperature_makes_a_head_less_sure() -> None:
    cold, warm = Head(("a", "b", "c")), Head(("a", "b", "c"), temperature=3.0)
    assert (warm.probabilities(LOGITS).max(1) < cold.probabilities(LOGITS).max(1)).all()
    np.testing.assert_allclose(warm.probabilities(LOGITS).sum(1), 1, atol=1e-6)


def test_huge_logits_do_not_overflow_and_no_rows_are_no_verdicts() -> None:
    head = Head(("a", "b"))
    assert np.isfinite(head.probabilities(np.array([[1e4, -1e4]]))).all()
    assert head.judge(np.zeros((0, 2), np.float32)).labels == []


def test_heads_survive_a_config() -> None:
    heads = {"z": Head(("a", "b"), 1.5, 0.25), "a": Head(("x",))}
    again = heads_from_config({"heads": {name: head.to_config() for name, head in heads.items()}})
    assert again == heads
    assert list(again) == ["a", "z"]


def _sample(n: int = 4_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right as often as they say, and the labels drawn from them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, 4)).astype(np.float32)
    p = Head(tuple("abcd")).probabilities(logits)
    return logits, np.array([rng.choice(4, p=row / row.sum()) for row in p.astype(np.float64)])


def test_the_temperature_undoes_overconfidence() -> None:
    logits, labels = _sample()
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.08)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.25)
    honest, loud = Head(tuple("abcd")), Head(tuple("abcd"), temperature=1 / 3)
    assert calibration_error(honest.probabilities(logits), labels) < 0.03
    assert calibration_error(loud.probabilities(logits), labels) > 0.1


def test_the_threshold_keeps_what_is_accurate_enough() -> None:
    logits, labels = _sample()
    p = Head(tuple("abcd")).probabilities(logits)
    threshold = fit_threshold(p, labels, accuracy=0.9, least_coverage=0.1)
    kept = p.max(1) >= threshold
    assert (p.argmax(1) == labels)[kept].mean() == pytest.approx(0.9, abs=0.01)
    assert fit_threshold(p, labels, accuracy=0.0) == 0
    generous = fit_threshold(p, labels, accuracy=1.0, least_coverage=0.8)
    assert (p.max(1) >= generous).mean() == pytest.approx(0.8, abs=0.01)


def test_the_coverage_curve_falls_from_all_to_few() -> None:
    logits, labels = _sample()
    coverages = [c for _, c, _ in coverage_curve(Head(tuple("abcd")).probabilities(logits), labels)]
    assert coverages[0] == 1
    assert coverages == sorted(coverages, reverse=True)


def test_macro_f1_and_the_area_under_the_curve_are_the_textbooks() -> None:
    assert macro_f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])) == pytest.approx((2 / 3 + 4 / 5) / 2)
    scores, positive = np.array([0.1, 0.4, 0.4, 0.8], np.float32), np.array([False, False, True, True])
    assert area_under_curve(scores, positive) == pytest.approx(3.5 / 4)


def test_auto_takes_what_is_there_and_other_devices_are_refused() -> None:
    assert resolve_device("auto") in ("cpu", "cuda")
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="expected cpu or cuda"):
        resolve_device("tpu")

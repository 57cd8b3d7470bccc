"""Checkpoints: what is saved comes back, the same bytes each time, and every misuse has its own error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.checkpoint import (
    CheckpointError,
    MissingWeightsError,
    NotSafetensorsError,
    WrongArchitectureError,
    WrongHashError,
    WrongPreprocessingError,
    fingerprint,
    load,
    save,
)

CONFIG = {"architecture": "text-bag", "heads": {"类": {"labels": ["好"]}}, "figures": {"accuracy": 0.5}}


def _weights() -> dict[str, torch.Tensor]:
    return {"b": torch.tensor([0.1, -2.0]), "a": torch.eye(3), "steps": torch.tensor(7)}


def test_weights_and_config_come_back_with_floats_as_fp16(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", _weights(), CONFIG)
    weights, config = load(tmp_path / "x.safetensors")
    assert config == CONFIG
    assert weights["b"].dtype is torch.float16
    assert torch.equal(weights["b"], _weights()["b"].half())
    assert weights["steps"].item() == 7


def test_equal_input_gives_equal_bytes_and_the_hash_of_them(tmp_path: Path) -> None:
    digest = save(tmp_path / "x.safetensors", _weights(), CONFIG)
    first = (tmp_path / "x.safetensors").read_bytes()
    reordered = dict(reversed(_weights().items()))
    assert save(tmp_path / "x.safetensors", reordered, dict(reversed(CONFIG.items()))) == digest
    assert (tmp_path / "x.safetensors").read_bytes() == first
    assert digest == hashlib.sha256(first).hexdigest()
    assert not list(tmp_path.glob("*.part"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"none\.safetensors: expected a weights file"):
        load(tmp_path / "none.safetensors")


def test_a_changed_file_is_refused_by_the_hash_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save(path, _weights(), CONFIG)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(WrongHashError, match="expected sha256"):
        load(path)


def test_a_hash_that_is_asked_for_wins_over_the_one_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    digest = save(path, _weights(), CONFIG)
    assert load(path, expected_sha256=digest.upper())[1] == CONFIG
    with pytest.raises(WrongHashError, match="expected sha256 0000"):
        load(path, expected_sha256="0" * 64)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"PK\x03\x04 not weights")
    with pytest.raises(NotSafetensorsError, match="cannot be read"):
        load(path)


def test_safetensors_of_somebody_else_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(NotSafetensorsError, match="no config"):
        load(tmp_path / "x.safetensors")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", _weights(), CONFIG)
    assert load(tmp_path / "x.safetensors", architecture="text-")[1] == CONFIG
    with pytest.raises(WrongArchitectureError, match="expected weights of 'image-', got 'text-bag'"):
        load(tmp_path / "x.safetensors", architecture="image-")


def test_weights_trained_behind_other_preprocessing_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", _weights(), CONFIG | {"preprocessing": 1})
    assert load(tmp_path / "x.safetensors", preprocessing=1)[1]["preprocessing"] == 1
    with pytest.raises(
        WrongPreprocessingError, match="expected weights trained behind preprocessing 2, got 1"
    ):
        load(tmp_path / "x.safetensors", preprocessing=2)


def test_weights_that_fp16_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="big: expected numbers that fp16 can hold"):
        save(tmp_path / "x.safetensors", {"big": torch.tensor([1e6])}, CONFIG)
    assert not (tmp_path / "x.safetensors").exists()


def test_the_fingerprint_is_of_weights_and_config_but_not_of_figures(tmp_path: Path) -> None:
    save(tmp_path / "x.safetensors", _weights(), CONFIG)
    stored, config = load(tmp_path / "x.safetensors")
    original = fingerprint(_weights(), CONFIG)
    assert fingerprint(stored, config) == original
    assert fingerprint(stored, config | {"figures": {}}) == original
    assert fingerprint(stored, config | {"preprocessing": "2"}) != original
    assert fingerprint(stored | {"b": torch.tensor([0.1, -2.1])}, config) != original

"""What the tests of models share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.unit.models.training.shop import write_shop


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Trainings on one CPU thread, as the shipped weights were made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the invented shop's data."""
    return write_shop(tmp_path_factory.mktemp("shop"))

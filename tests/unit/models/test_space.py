"""The shared space: the same targets for everybody, for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from models.space import category_prototypes, unit, word_prototypes


def test_the_prototypes_never_change() -> None:
    digest = hashlib.sha256(category_prototypes(64).tobytes()).hexdigest()
    assert digest == "6217a7adddfc749edce7bc9a54df1337e2ed9b1f6738fc3de3b0b543878bde46"


def test_prototypes_are_orthonormal() -> None:
    both = np.concatenate((category_prototypes(12), word_prototypes(21)))
    np.testing.assert_allclose(both @ both.T, np.eye(33), atol=1e-5)


def test_appending_a_category_moves_no_other() -> None:
    np.testing.assert_array_equal(category_prototypes(13)[:12], category_prototypes(12))
    np.testing.assert_array_equal(word_prototypes(21)[:20], word_prototypes(20))


def test_more_than_the_space_has_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 64 categories, got 65"):
        category_prototypes(65)


def test_unit_leaves_zeros_alone() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0.0, 0.0]])
    assert rows.dtype == np.float32

"""A training that somebody stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from models.training.resume import Resume


@contextmanager
def interrupted() -> Iterator[None]:
    """The training within it must stop, and does after its first epoch is stored."""
    store = Resume.store

    def stop(self: Resume, epochs: int) -> None:
        store(self, epochs)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resume, "store", stop)
        with pytest.raises(KeyboardInterrupt):
            yield

"""What the command logs."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from features.errors import PortraitError
from pipelines.console import logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the configured root logger writes."""
    root = logging.getLogger()
    handlers, level, filters = root.handlers.copy(), root.level, root.filters.copy()
    logs.configure()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(stream := io.StringIO())
    yield stream
    root.handlers[:], root.filters[:] = handlers, filters
    root.setLevel(level)


def _raise_and_log(error: Exception) -> None:
    try:
        raise error
    except Exception as raised:
        logging.getLogger("apache_beam").exception(raised)


def test_an_error_that_explains_itself_is_logged_without_a_traceback(written: io.StringIO) -> None:
    _raise_and_log(PortraitError("store: expected an answer, got none"))
    assert "store: expected an answer" in written.getvalue()
    assert "Traceback" not in written.getvalue()


def test_a_bug_keeps_its_traceback(written: io.StringIO) -> None:
    _raise_and_log(ValueError("a bug"))
    assert "Traceback" in written.getvalue()

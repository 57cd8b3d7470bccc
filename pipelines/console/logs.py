"""Logging of the ``portrait`` command: our progress, libraries' warnings, on stderr."""

from __future__ import annotations

import logging
from typing import Final

_OURS: Final = ("features", "models", "pipelines")


def configure(level: int = logging.INFO) -> None:
    """Set the level of our loggers. Call before Beam is imported: its import sets up logging."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", force=True)
    root = logging.getLogger()
    root.filters = [_is_news]
    for handler in root.handlers:
        handler.addFilter(_without_trace)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)


def _without_trace(record: logging.LogRecord) -> bool:
    """Beam logs what a step raises with its traceback; an error that explains itself needs none."""
    from features.errors import PortraitError  # not before shadowed packages were looked for

    if record.exc_info and isinstance(record.exc_info[1], PortraitError):
        record.exc_info = None
    return True


def _is_news(record: logging.LogRecord) -> bool:
    """Beam tells every user at import that Google's BigQuery client is not installed."""
    return "apitools not found" not in str(record.msg)

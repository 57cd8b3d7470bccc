"""Libraries that only some users need, and the extra of setup.py that brings each."""

from __future__ import annotations

from typing import Final

EXTRA_OF: Final = {
    "confluent_kafka": "demo",
    "jinja2": "analysis",
    "lark": "analysis",
    "matplotlib": "analysis",
    "redis": "redis",
    "transformers": "hf",
    "usearch": "analysis",
}
"""Module → extra."""


def what_is_missing(error: ModuleNotFoundError) -> str | None:
    """The message for a library of an extra that is not installed; None for any other module."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return f"expected the library {module}, got none; pip install 'portrait-profiles[{EXTRA_OF[module]}]'"

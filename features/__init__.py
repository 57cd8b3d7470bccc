"""User profiles: what they hold, how they are folded, where they are served and kept.

``features.lookup(store, user_ids)`` is the call for services (:func:`features.served.lookup`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.served import lookup

__all__ = ["lookup"]


def __getattr__(name: str) -> Any:
    if name == "lookup":  # on demand: the package itself stays free of what a store needs
        from features.served import lookup

        return lookup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

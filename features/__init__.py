"""User profiles: what they hold, how events are folded into them, where they are served and kept.

``features.lookup(store, user_ids)`` is the call for services (:func:`features.online.lookup.lookup`).
README.md beside this file explains the state, the fold and the tables.

``schema``       names, dtypes, shapes and units of events and profiles; the only place that knows them
``taxonomy``     categories in two levels, zh and en labels, and how model labels map to them
``errors``       the root of every error that is meant for the user
``atomic_file``  files that appear whole or not at all

Rooms, from the bottom up; each imports only from those before it:

``fold/``      states and encoded events → states: decayed sums, anti-replay window, packed bytes
``profile/``   states → columns of a profile, tags with evidence
``online/``    states and views ↔ Redis or SQLite, as Feast online stores; lookup
``repo/``      Feast definitions and feature_store.yaml: written, applied, read
``tables/``    encoded events and profiles ↔ parquet: write, compact, erase; DuckDB views
``audience/``  a condition → users; users → a group portrait
``similar/``   fused vectors → nearest users
``report/``    tables → one page for people
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from features.online.lookup import lookup

__all__ = ["lookup"]


def __getattr__(name: str) -> Any:
    if name == "lookup":  # on demand: the package itself stays free of what a store needs
        from features.online.lookup import lookup

        return lookup
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

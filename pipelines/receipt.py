"""Where an erase stands, store by store, as it is shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Literal

State = Literal["done", "pending", "absent"]
"""absent: there is no such store here."""


@dataclass
class StoreStatus:
    """Where an erase stands in one store."""

    store: str
    state: State = "pending"
    users_done: int = 0
    removed: int = 0
    """Rows, letters or entries that this run removed."""
    at: str = ""
    """When it was last looked at (ISO 8601, UTC)."""
    note: str = ""


@dataclass
class Receipt:
    """Where an erase stands everywhere. Names users, never anything about them."""

    users: int
    requested: int
    """Users whom this run asked to erase; the others were erased already."""
    user_ids: list[str]
    stores: list[StoreStatus] = field(default_factory=list)
    started: str = ""
    ended: str = ""

    @property
    def done(self) -> bool:
        return all(status.state != "pending" for status in self.stores)

    def as_json(self) -> str:
        return json.dumps({"done": self.done, **asdict(self)})

    def as_text(self) -> str:
        lines = [f"erase of {self.users} users, {self.requested} of them asked for now ({self.ended})"]
        for status in self.stores:
            removed = f", {status.removed} removed" if status.removed else ""
            note = f": {status.note}" if status.note else ""
            counts = (
                "" if status.state == "absent" else f"  {status.users_done} of {self.users} users{removed}"
            )
            lines.append(f"  {status.store:20} {status.state:8}{counts}{note}")
        if not self.done:
            lines.append("not done everywhere: run it again, or with --wait")
        return "\n".join(lines)

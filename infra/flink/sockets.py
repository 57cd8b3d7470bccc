"""Who listens at a port of this machine (proc(5)): another program there would answer a part's callers."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Final

_LISTEN: Final = "0A"
_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def taken(port: int) -> bool:
    """Whether something accepts connections at this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listens(pid: int, port: int) -> bool:
    """Whether this very process accepts connections at this port; not where it has ended."""
    return bool(_listening(port) & _held(pid))


def _listening(port: int) -> set[str]:
    """Inodes of the sockets that listen at the port."""
    lines = [line for table in _TABLES if table.exists() for line in table.read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    return {row[9] for row in rows if row[3] == _LISTEN and row[1].endswith(f":{port:04X}")}


def _held(pid: int) -> set[str]:
    """Inodes of the sockets that the process has open."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(descriptor.readlink()).removeprefix("socket:[").rstrip("]"))
    return found

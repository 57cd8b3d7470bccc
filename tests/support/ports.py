"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

_LOWEST: Final = 11_000
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on now.

    They lie below those that the kernel hands out by itself: a server may start a minute after its port was
    chosen, and until then any program's connection could take an ephemeral one.
    """
    highest = int(_EPHEMERAL.read_text().split()[0])
    held: list[socket.socket] = []
    try:
        # an own generator: tests that seed the global one would all get the same ports
        for port in random.SystemRandom().sample(range(_LOWEST, highest), highest - _LOWEST):
            if len(held) == count:
                break
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()

"""Which reader group an element of the source stands for, named so that Flink spreads them evenly.

Flink places a splittable DoFn's element by the hash of its encoding. A salt in the name is chosen so that
group i of N falls in the middle of the i-th N-th of Flink's key groups, whatever the parallelism. Other
runners and other hashes only lose the even spread.
"""

from __future__ import annotations

import itertools
from typing import Final

import mmh3

MAX_PARALLELISM: Final = 128
"""Flink's key groups, as jobs set them (``--max_parallelism``)."""


def group_elements(groups: int) -> list[str]:
    """The elements of ``groups`` reader groups: ``<group>/<groups>/<salt>``."""
    return [_salted(group, groups) for group in range(groups)]


def group_of(element: str) -> tuple[int, int]:
    """``(group, groups)`` of an element: a restored job keeps the groups that it began with."""
    group, groups, _ = element.split("/")
    return int(group), int(groups)


def _salted(group: int, groups: int) -> str:
    wanted = (2 * group + 1) * MAX_PARALLELISM // (2 * groups) % MAX_PARALLELISM
    names = (f"{group}/{groups}/{salt}" for salt in itertools.count())
    return next(name for name in names if key_group(name) == wanted)


def key_group(element: str) -> int:
    """Flink's key group of an element: Beam's FlinkKey hash, then Flink's own (``MathUtils.murmurHash``)."""
    encoded = element.encode()
    nested = bytes([len(encoded)]) + encoded  # StringUtf8Coder: a varint length of less than 128
    first = int.from_bytes(mmh3.mmh3_x64_128_digest(nested, 0)[:4], "little")
    return _flink_murmur(first) % MAX_PARALLELISM


def _flink_murmur(code: int) -> int:
    code = code * 0xCC9E2D51 & 0xFFFFFFFF
    code = _rotate(code, 15) * 0x1B873593 & 0xFFFFFFFF
    code = (_rotate(code, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    code ^= 4
    code = (code ^ code >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    code = (code ^ code >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    code ^= code >> 16
    signed = code - (1 << 32) if code & 0x80000000 else code
    return abs(signed) if signed != -(1 << 31) else 0


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & 0xFFFFFFFF

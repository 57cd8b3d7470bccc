"""States of many users as arrays, and the bytes of one user's state.

A record is ``PREFIX_DTYPE``, the blocks of the head that are not all zero, the sources and the window.
An average user touches few of the 64 tags and seldom every modality, so a record is a third of its head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from features.errors import PortraitError
from features.schema import BLOCK_BYTES, HEAD_DTYPE, LAYOUT, PREFIX_DTYPE, SOURCE_DTYPE, WINDOW_DTYPE
from features.taxonomy import Taxonomy

Array = npt.NDArray[Any]
ERASED: Final = 1
"""Bit of ``flags``: the state is a tombstone."""

_BLOCKS: Final = HEAD_DTYPE.itemsize // BLOCK_BYTES
_BLOCK_DTYPE: Final = np.dtype((np.void, BLOCK_BYTES))
_MARK_DTYPE: Final = np.dtype([(name, HEAD_DTYPE[name]) for name in HEAD_DTYPE.names[:8]])  # type: ignore[index]
_SUM_FROM: Final = 8  # bytes of a record before what its checksum covers


class StateError(PortraitError, ValueError):
    """A state that cannot be used as it is."""


class LayoutError(StateError):
    """A record of a layout that this version cannot read."""


class RecordError(StateError):
    """A record that was cut or changed."""


class SpaceMismatchError(StateError):
    """A state whose numbers mean something else than those of the events."""


@dataclass(frozen=True, slots=True)
class Spaces:
    """What the numbers of states and events mean: first 64 bits of the hex fingerprints."""

    event: int
    profile: int
    taxonomy: int
    older_taxonomies: frozenset[int] = field(default=frozenset(), repr=False)
    """Taxonomies whose slots mean the same in this one, which appended to them."""

    @classmethod
    def of(cls, event_space: str, profile_space: str, taxonomy: Taxonomy) -> Spaces:
        """Spaces from hex fingerprints (at least 16 digits) and a taxonomy."""
        categories = taxonomy.categories
        prefixes = (Taxonomy(categories[:n], {}, {}) for n in range(1, len(categories)))
        return cls(
            space_key(event_space),
            space_key(profile_space),
            space_key(taxonomy.fingerprint),
            frozenset(space_key(older.fingerprint) for older in prefixes),
        )


def space_key(fingerprint: str) -> int:
    """First 64 bits of a hex fingerprint.

    >>> space_key("00000000000000ff" + "0" * 48)
    255
    """
    try:
        return int(fingerprint[:16].rjust(16, "x"), 16)
    except ValueError:
        raise StateError(
            f"space: expected at least 16 hex digits, got {fingerprint!r}; pass a sha256"
        ) from None


@dataclass(frozen=True)
class States:
    """States of n users. Treat the arrays as read-only: the functions of this package never write to them.

    ``head`` is HEAD_DTYPE [n]. User i's sources are ``sources[source_start[i]:source_start[i + 1]]``, and the
    window likewise; both starts are int64 [n + 1].
    """

    head: Array
    sources: Array
    source_start: Array
    window: Array
    window_start: Array
    spaces: Spaces

    def __len__(self) -> int:
        return len(self.head)

    @cached_property
    def erased(self) -> npt.NDArray[np.bool_]:
        """bool [n]: this user is a tombstone."""
        return np.asarray(self.head["flags"] & ERASED, np.bool_)


def empty_states(n: int, spaces: Spaces) -> States:
    """States of n users of whom nothing is known, revision 0."""
    head = np.zeros(n, HEAD_DTYPE)
    name_spaces(head, np.arange(n), spaces)
    starts = np.zeros(n + 1, np.int64)
    return States(head, np.zeros(0, SOURCE_DTYPE), starts, np.zeros(0, WINDOW_DTYPE), starts.copy(), spaces)


def pack(states: States) -> list[bytes]:
    """The record of each user; the same state always gives the same bytes."""
    n = len(states)
    head = np.ascontiguousarray(states.head)
    words = head.view(np.uint64) != 0
    stored = words.view(np.uint64).reshape(n, _BLOCKS) != 0  # the flags of a block's 8 words as one number
    prefix = np.zeros(n, PREFIX_DTYPE)
    prefix["layout"] = LAYOUT
    prefix["n_sources"] = np.diff(states.source_start)
    prefix["n_window"] = np.diff(states.window_start)
    bits = np.packbits(stored, axis=1, bitorder="little")
    prefix["blocks"][:, : bits.shape[1]] = bits
    blocks = head.view(_BLOCK_DTYPE).take(np.flatnonzero(stored))
    parts = (
        (prefix.tobytes(), np.arange(n + 1) * PREFIX_DTYPE.itemsize),
        (blocks.tobytes(), starts_of(stored.sum(axis=1)) * BLOCK_BYTES),
        (states.sources.tobytes(), states.source_start * SOURCE_DTYPE.itemsize),
        (states.window.tobytes(), states.window_start * WINDOW_DTYPE.itemsize),
    )
    slices = [[data[a:b] for a, b in pairwise(starts.tolist())] for data, starts in parts]
    return [_sealed(b"".join(pieces)) for pieces in zip(*slices, strict=True)]


def _sealed(record: bytes) -> bytes:
    body = record[_SUM_FROM:]
    return b"".join((record[:4], _checksum(body).to_bytes(4, "little"), body))


def _checksum(body: bytes) -> int:
    return xxh3_64_intdigest(body) & 0xFFFF_FFFF


def unpack(records: Sequence[bytes | None], spaces: Spaces) -> States:
    """States of the given records; None gives an empty state.

    A state of an older fusion (``profile_space``) is taken as it is: whoever writes it fuses it anew.

    Raises:
        LayoutError: a record of another layout.
        RecordError: a record of the wrong size or checksum.
        SpaceMismatchError: a record of another event space or taxonomy.
    """
    n = len(records)
    known = np.array([record is not None for record in records], bool)
    blobs = [record for record in records if record is not None]
    prefix, stored, ends = _checked(blobs)
    head = np.zeros(n, HEAD_DTYPE)
    place = np.flatnonzero(known)[:, None] * _BLOCKS + np.arange(_BLOCKS)
    head.view(_BLOCK_DTYPE)[place[stored]] = _column(blobs, ends[0], ends[1]).view(_BLOCK_DTYPE)
    _check_spaces(head, known, spaces)
    counts = np.zeros((2, n), np.int64)
    counts[:, known] = prefix["n_sources"], prefix["n_window"]
    sources = _column(blobs, ends[1], ends[2]).view(SOURCE_DTYPE)
    window = _column(blobs, ends[2], ends[3]).view(WINDOW_DTYPE)
    name_spaces(head, ~known, spaces)
    return States(head, sources, starts_of(counts[0]), window, starts_of(counts[1]), spaces)


def read_mark(record: bytes) -> tuple[bool, int]:
    """Whether a record is a tombstone, and when it was written (µs), whatever its spaces.

    Raises LayoutError and RecordError as :func:`unpack`.
    """
    _checked([record])
    head = np.frombuffer(record, _MARK_DTYPE, 1, PREFIX_DTYPE.itemsize)[0]  # block 0 holds the revision
    return bool(head["flags"] & ERASED), int(head["created_us"])


def own_spaces(record: bytes) -> Spaces:
    """The spaces that a record was written in. Raises LayoutError and RecordError as :func:`unpack`."""
    _checked([record])
    head = np.frombuffer(record, _MARK_DTYPE, 1, PREFIX_DTYPE.itemsize)[0]
    return Spaces(int(head["event_space"]), int(head["profile_space"]), int(head["taxonomy"]))


def starts_of(counts: Array) -> Array:
    """Lengths of ragged rows → int64 starts, one longer.

    >>> starts_of(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def stacked(*arrays: Array) -> Array:
    """Structured arrays one after the other, copied as bytes: numpy goes field by field, 30 times slower."""
    raw = [np.ascontiguousarray(array).view((np.void, array.dtype.itemsize)) for array in arrays]
    return np.concatenate(raw).view(arrays[0].dtype)


def _column(blobs: list[bytes], start: list[int], end: list[int]) -> Array:
    """uint8: the same part of every record, one after the other."""
    return np.frombuffer(b"".join([b[i:j] for b, i, j in zip(blobs, start, end, strict=True)]), np.uint8)


def _checked(blobs: list[bytes]) -> tuple[Array, Array, list[list[int]]]:
    """Prefixes, which blocks are stored (bool [n, blocks]) and the ends of a record's four parts."""
    size = PREFIX_DTYPE.itemsize
    if short := [len(b) for b in blobs if len(b) < size]:
        raise RecordError(f"record: expected at least {size} bytes, got {short[0]}; {_REBUILD}")
    prefix = np.frombuffer(b"".join([b[:size] for b in blobs]), PREFIX_DTYPE)
    if (strange := prefix["layout"] != LAYOUT).any():
        got = int(prefix["layout"][strange][0])
        raise LayoutError(
            f"record: expected layout {LAYOUT}, got {got}; read it with the version that wrote it"
        )
    stored = np.unpackbits(prefix["blocks"], axis=1, bitorder="little")[:, :_BLOCKS].astype(bool)
    parts = np.stack(
        [
            np.full(len(blobs), size),
            stored.sum(axis=1) * BLOCK_BYTES,
            prefix["n_sources"].astype(np.int64) * SOURCE_DTYPE.itemsize,
            prefix["n_window"].astype(np.int64) * WINDOW_DTYPE.itemsize,
        ]
    )
    ends = np.cumsum(parts, axis=0).tolist()
    for blob, expected, checksum in zip(blobs, ends[3], prefix["checksum"].tolist(), strict=True):
        if len(blob) != expected:
            raise RecordError(f"record: expected {expected} bytes, got {len(blob)}; {_REBUILD}")
        if (got := _checksum(blob[_SUM_FROM:])) != checksum:
            raise RecordError(
                f"record: expected checksum {checksum:08x} of {expected} bytes, got {got:08x}; {_REBUILD}"
            )
    return prefix, stored, ends


_REBUILD: Final = "the store damaged it: run `portrait rebuild`"


def _check_spaces(head: Array, known: Array, spaces: Spaces) -> None:
    if (strange := known & (head["event_space"] != spaces.event)).any():
        raise _mismatch("event space", spaces.event, head["event_space"][strange])
    readable = np.array([spaces.taxonomy, *spaces.older_taxonomies], np.uint64)
    if (strange := known & ~np.isin(head["taxonomy"], readable)).any():
        raise _mismatch("taxonomy", spaces.taxonomy, head["taxonomy"][strange])


def _mismatch(what: str, expected: int, got: Array) -> SpaceMismatchError:
    return SpaceMismatchError(
        f"states: expected {what} {expected:016x}, got {int(got[0]):016x} in {len(got)} states; "
        "fill a store of the new space with `portrait backfill` and switch to it"
    )


def name_spaces(head: Array, users: Array, spaces: Spaces) -> None:
    """Set what the numbers of these heads mean, in place."""
    head["event_space"][users] = spaces.event
    head["profile_space"][users] = spaces.profile
    head["taxonomy"][users] = spaces.taxonomy

"""How an index of similar users lies on disk: whole generations, and one small file that names the current.

``current.json`` is replaced last and in one step, so a reader finds the old generation or the new one, and a
killed writer leaves only files that nobody names. Writers exclude each other by a lock that dies with them.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from usearch.index import Index
from xxhash import xxh3_64_intdigest

from features.atomic_file import sync_folder, whole_file
from features.errors import PortraitError
from features.schema import EMBEDDING_DIM

FORMAT: Final = 1
CONNECTIVITY: Final = 16
EXPANSION_BUILD: Final = 128
EXPANSION_SEARCH: Final = 320
"""Measured on a million fused vectors: recall of the nearest ten is .954, .981, .990 and .994 with 64, 128,
192 and 256; what is above that is for graphs whose vectors were replaced."""

Keys = npt.NDArray[np.uint64]
_CURRENT: Final = "current.json"
_USERS: Final = pa.schema(
    [("key", pa.uint64()), ("user_id", pa.string()), ("created_us", pa.int64()), ("incarnation", pa.int64())]
)


class SimilarError(PortraitError):
    """An index of similar users that cannot be used as it is."""


@dataclass(frozen=True)
class Meta:
    """What is in a generation."""

    space: str
    """profile_space of its vectors (hex)."""
    generation: str
    sizes: dict[str, int]
    """File → bytes."""
    seen: dict[str, list[str]] = field(default_factory=dict)
    """Day folder → files of ``profiles`` whose rows are in it."""
    churn: int = 0
    """Vectors replaced or dropped since it was built from nothing: its graph gets worse with them."""
    format: int = FORMAT


@dataclass(frozen=True)
class Generation:
    """An index and its users: what is after ``index`` is parallel, and sorted by key.

    Keys of the index that are no user's are fillers: see ``features.similar.index``.
    """

    meta: Meta
    index: Index
    keys: Keys
    users: pa.Array
    created_us: npt.NDArray[np.int64]
    incarnation: npt.NDArray[np.int64]

    def places(self, keys: Keys) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """Place of each key among ours, and whether it is there."""
        place = np.minimum(np.searchsorted(self.keys, keys), max(len(self.keys) - 1, 0))
        there = self.keys[place] == keys if len(self.keys) else np.zeros(len(keys), bool)
        return place, there


def new_index() -> Index:
    """An empty index; vectors are of unit length, so that 1 - distance is the cosine."""
    return Index(
        ndim=EMBEDDING_DIM,
        metric="ip",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_BUILD,
        expansion_search=EXPANSION_SEARCH,
    )


def keys_of(users: list[str]) -> Keys:
    """The key of each user: a hash, of which two among a million are equal once in 37 million times."""
    return np.fromiter((xxh3_64_intdigest(user.encode()) for user in users), np.uint64, len(users))


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Held while the index changes; waits for another who holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mark(folder: Path) -> tuple[int, int] | None:
    """Changes whenever the current generation does; None: there is none."""
    try:
        status = (folder / _CURRENT).stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_ino


def read(folder: Path, *, view: bool) -> Generation | None:
    """The current generation, or None; ``view``: mapped into memory and not to be changed.

    Raises SimilarError for files that are damaged or of another version.
    """
    for attempt in range(3):
        meta = _read_meta(folder)
        if meta is None:
            return None
        try:
            return _read_generation(folder, meta, view)
        except FileNotFoundError:  # replaced between the two reads
            if attempt == 2:
                raise _damaged(folder, "a generation without its files") from None
    raise AssertionError("unreachable: the third attempt returns or raises")


def _read_meta(folder: Path) -> Meta | None:
    try:
        found = json.loads((folder / _CURRENT).read_bytes())
        meta = Meta(**found)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise _damaged(folder, f"other content ({type(error).__name__})") from error
    if meta.format != FORMAT:
        raise _damaged(folder, f"format {meta.format}")
    return meta


def _read_generation(folder: Path, meta: Meta, view: bool) -> Generation:
    for name, size in meta.sizes.items():
        if (got := (folder / name).stat().st_size) != size:
            raise _damaged(folder, f"{name} of {got} bytes, not {size}")
    index_file, users_file = _names(meta.generation)
    try:
        index = new_index()
        (index.view if view else index.load)(folder / index_file)
        with pa.memory_map(str(folder / users_file)) as source:
            table = pa.ipc.open_file(source).read_all().cast(_USERS).combine_chunks()
    except (RuntimeError, ValueError, pa.ArrowException) as error:
        raise _damaged(folder, f"content that does not open ({type(error).__name__})") from error
    index.expansion_search = EXPANSION_SEARCH  # type: ignore[misc]  # load and view forget it
    keys, users, created, incarnation = (_whole(table[name]) for name in _USERS.names)
    return Generation(meta, index, keys.to_numpy(), users, created.to_numpy(), incarnation.to_numpy())


def _whole(column: Any) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)


def _damaged(folder: Path, got: str) -> SimilarError:
    return SimilarError(
        f"{folder}: expected an index of similar users, got {got}; "
        "make it anew with `portrait similar --refresh --rebuild`"
    )


def write(folder: Path, held: Generation) -> Generation:
    """Make a generation the current one; when this returns it survives a power cut, and the older is gone.

    Raises SimilarError when the disk refuses; the older one stays then.
    """
    generation = uuid.uuid4().hex
    index_file, users_file = made = [folder / name for name in _names(generation)]
    try:
        with _refusals(folder):
            held.index.save(index_file)
            columns = [held.keys, held.users, held.created_us, held.incarnation]
            table = pa.table([pa.array(column) for column in columns], schema=_USERS)
            with pa.OSFile(str(users_file), "wb") as sink, pa.ipc.new_file(sink, _USERS) as writer:
                writer.write_table(table)
            sizes = {file.name: _sync(file) for file in made}
            meta = replace(held.meta, generation=generation, sizes=sizes)
        point_to(folder, meta)
    except BaseException:
        for file in made:
            file.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    for file in folder.iterdir():
        if file.name not in (*sizes, _CURRENT, ".lock"):
            file.unlink(missing_ok=True)
    return replace(held, meta=meta)


def point_to(folder: Path, meta: Meta) -> None:
    """Make ``meta``, whose files are there, the current one. Raises SimilarError when the disk refuses."""
    with _refusals(folder), whole_file(folder / _CURRENT) as pointer:
        pointer.write(json.dumps(asdict(meta)).encode())


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:
        said = getattr(error, "strerror", None) or type(error).__name__
        raise SimilarError(
            f"{folder}: expected to write it, got {said}; the older index stays: make room"
        ) from error


def _names(generation: str) -> tuple[str, str]:
    return f"index-{generation}.usearch", f"users-{generation}.arrow"


def _sync(file: Path) -> int:
    """Bytes of a file that survives a power cut from here on."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    return file.stat().st_size

"""Similar users: an index over the fused vectors of one profile space, built from the ``profiles`` table.

The index is a navigable graph (HNSW, Malkov and Yashunin 2018, by the usearch library) in
``<history>/similar``; it holds every user's newest vector, and a small one is searched whole. A refresh
reads only the files that it has not seen, and drops the users whose rows are gone.

The library keeps the vectors of removed entries in its file. So that an erased user's is not kept, every
slot that becomes free is filled again before the index is stored: with the next user's vector, or else with
a random one (a filler) that is taken out of every answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from usearch.index import Index

from features.audience.find import NOBODY
from features.fold.decayed_sums import unit
from features.schema import EMBEDDING_DIM, JOIN_KEY
from features.similar import storage
from features.similar.new_profiles import News, read_news
from features.similar.storage import Generation, Meta, SimilarError
from features.tables.schema import SIMILAR

CHURN: Final = 0.3
"""Above this share of replaced and dropped vectors a refresh builds the graph anew."""
_EXACT_UP_TO: Final = 50_000
"""Vectors that are all compared instead, within a millisecond: a small graph may lose sight of a user."""
_ROWS: Final = 50_000
_FILLERS_ASKED: Final = 100

Vectors = npt.NDArray[np.float32]


class OtherSpaceError(SimilarError):
    """Vectors of another profile space than the index's; the two are never compared."""


class Similar(NamedTuple):
    """A user near another."""

    user_id: str
    similarity: float  # cosine, -1..1


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did, and what the index holds now."""

    users: int
    added: int
    replaced: int
    dropped: int
    files: int
    """Parquet files read."""
    rebuilt: bool
    space: str


class SimilarUsers:
    """The index of one history folder; safe beside other processes that read or change it.

    Reading maps the file into memory and follows later refreshes by itself.
    """

    def __init__(self, history_dir: Path) -> None:
        self._history = history_dir
        self.folder = history_dir / SIMILAR
        self._mark: tuple[int, int] | None = None
        self._held: Generation | None = None

    @property
    def space(self) -> str:
        """profile_space of the vectors. Raises SimilarError where there is no index."""
        return self._current().meta.space

    def __len__(self) -> int:
        return len(self._current().keys)

    def near(self, vector: Vectors, space: str, top: int, without: Collection[str] = ()) -> list[Similar]:
        """The ``top`` users nearest to a vector of ``space``, the nearest first.

        Raises OtherSpaceError, and SimilarError where there is no index or it is damaged.
        """
        held = self._current()
        if space != held.meta.space:
            raise _other_space(held.meta.space, space)
        fillers = min(len(held.index) - len(held.keys), _FILLERS_ASKED)
        asked = min(len(held.index), top + len(without) + fillers)
        if not asked:
            return []
        found = held.index.search(unit(vector), asked, exact=len(held.index) <= _EXACT_UP_TO)
        place, there = held.places(np.asarray(found.keys, np.uint64))
        names = held.users.take(pa.array(place[there])).to_pylist()
        cosines = (1 - np.asarray(found.distances)[there]).clip(-1, 1).tolist()
        nearest = [Similar(n, c) for n, c in zip(names, cosines, strict=True) if n not in without]
        return nearest[:top]

    def like(self, seeds: Sequence[str]) -> tuple[pa.Table, int]:
        """Every other user (``user_id``) with the exact ``similarity`` to the mean of the seeds' vectors.

        Second: how many of the seeds are in the index. Raises SimilarError if none is.
        """
        held = self._current()
        place, there = held.places(storage.keys_of(list(seeds)))
        if not there.any():
            raise SimilarError(
                f"{self.folder}: expected some of the {len(seeds)} users of the list in the index, got none; "
                "refresh it with `portrait similar --refresh`, or give other users"
            )
        own = held.keys[np.unique(place[there])]
        vectors = np.asarray(held.index.get(own), np.float32).reshape(-1, EMBEDDING_DIM)
        found = held.index.search(unit(vectors.mean(axis=0)), len(held.index), exact=True)
        keys = np.asarray(found.keys, np.uint64)
        place, there = held.places(keys)
        there &= ~np.isin(keys, own)
        cosines = (1 - np.asarray(found.distances, np.float64)[there]).clip(-1, 1)
        table = {JOIN_KEY: held.users.take(pa.array(place[there])), "similarity": pa.array(cosines)}
        return pa.table(table), len(own)

    def refresh(
        self,
        counts_from: Mapping[str, int] = NOBODY,
        *,
        rebuild: bool = False,
        progress: Callable[[str], object] = lambda _: None,
    ) -> Refreshed:
        """Take in what was written to ``profiles`` since the last refresh; the first one builds the index.

        ``counts_from``: user → first incarnation that counts, for users who were erased; vectors of earlier
        ones are dropped or left out, whatever the files hold. ``rebuild`` starts from nothing, in
        the space of the newest profile. Raises OtherSpaceError when newer profiles are of another space,
        SimilarError when files cannot be read or written; the index stays as it was.
        """
        with storage.exclusive(self.folder):
            held = None if rebuild else storage.read(self.folder, view=False)
            rows = read_news(self._history, held.meta.seen if held else {})
            progress(f"read {len(rows.users)} profiles of {rows.files} new files")
            space = held.meta.space if held else rows.newest_space
            if not space:
                raise SimilarError(
                    f"{self._history}: expected profiles, got none yet; run the pipeline first"
                )
            newest_us = int(held.created_us.max(initial=0)) if held else 0
            if rows.newest_space not in (space, "") and rows.newest_us > newest_us:
                raise _other_space(space, rows.newest_space)
            change = _change(held, rows, space, counts_from)
            if held and not len(change.keys) and not change.gone.any():
                if rows.seen != held.meta.seen:
                    storage.point_to(self.folder, replace(held.meta, seen=rows.seen))
                return Refreshed(len(held.keys), 0, 0, 0, rows.files, False, space)
            made, rebuilt = _applied(held, change, Meta(space, "", {}, rows.seen), progress)
            storage.write(self.folder, made)
        replaced, dropped = int(change.known.sum()), int(change.gone.sum())
        added = len(change.keys) - replaced
        return Refreshed(len(made.keys), added, replaced, dropped, rows.files, rebuilt, space)

    def remove(self, users: Collection[str]) -> int:
        """Drop users and every trace of their vectors; how many were there. Stored when this returns.

        Waits for a refresh that is running. Does nothing where there is no index. Raises SimilarError.
        """
        with storage.exclusive(self.folder):
            held = storage.read(self.folder, view=False)
            if held is None:
                return 0
            gone = np.isin(held.keys, storage.keys_of(list(users)))
            if gone.any():
                change = replace(_nothing(held), gone=gone)
                storage.write(self.folder, _applied(held, change, held.meta, lambda _: None)[0])
            return int(gone.sum())

    def _current(self) -> Generation:
        mark = storage.mark(self.folder)
        if self._held is None or mark != self._mark:
            self._held, self._mark = storage.read(self.folder, view=True), mark
        if self._held is None:
            raise SimilarError(
                f"{self.folder}: expected an index of similar users, got none; "
                "make it with `portrait similar --refresh`"
            )
        return self._held


@dataclass(frozen=True)
class _Change:
    """Users to put in (``keys``, sorted, with what belongs to them), and users of the index to take out."""

    keys: storage.Keys
    users: pa.Array
    created_us: npt.NDArray[np.int64]
    incarnation: npt.NDArray[np.int64]
    vectors: Vectors
    known: npt.NDArray[np.bool_]
    """Of the users to put in: is in the index already, with an older vector."""
    gone: npt.NDArray[np.bool_]
    """Of the users of the index: to take out for good."""


def _nothing(held: Generation) -> _Change:
    none = np.zeros(0, np.int64)
    vectors = np.zeros((0, EMBEDDING_DIM), np.float32)
    gone = np.zeros(len(held.keys), bool)
    users = pa.array([], pa.string())
    return _Change(none.astype(np.uint64), users, none, none, vectors, none.astype(bool), gone)


def _change(held: Generation | None, rows: News, space: str, counts_from: Mapping[str, int]) -> _Change:
    names: list[str] = rows.users.to_pylist()
    keys = storage.keys_of(names)
    usable = (rows.space == space) & (rows.incarnation >= _first(names, counts_from))
    newer, known = np.ones(len(keys), bool), np.zeros(len(keys), bool)
    gone = np.zeros(0, bool)
    if held:
        place, known = held.places(keys)
        newer[known] = rows.created_us[known] > held.created_us[place[known]]
        _check_names(rows.users.filter(pa.array(known)), held.users.take(pa.array(place[known])))
        gone = held.incarnation < _first_held(held, counts_from)
        if rows.live is not None:
            gone |= ~np.isin(held.keys, storage.keys_of(rows.live))
    chosen = np.flatnonzero(usable & newer & rows.vectors.any(axis=1))
    chosen = chosen[np.argsort(keys[chosen], kind="stable")]
    if (np.diff(keys[chosen]) == 0).any():
        raise _same_key()
    if held:
        gone &= ~np.isin(held.keys, keys[chosen])  # readmitted, with a profile since
    return _Change(
        keys[chosen],
        rows.users.take(pa.array(chosen)),
        rows.created_us[chosen],
        rows.incarnation[chosen],
        unit(rows.vectors[chosen]),
        known[chosen],
        gone,
    )


def _first(names: Sequence[str], counts_from: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """The first incarnation that counts of each user."""
    if not counts_from:
        return np.zeros(len(names), np.int64)
    return np.fromiter((counts_from.get(name, 0) for name in names), np.int64, len(names))


def _first_held(held: Generation, counts_from: Mapping[str, int]) -> npt.NDArray[np.int64]:
    first = np.zeros(len(held.keys), np.int64)
    place, there = held.places(storage.keys_of(list(counts_from)))
    first[place[there]] = np.fromiter(counts_from.values(), np.int64, len(counts_from))[there]
    return first


def _check_names(found: pa.Array, held: pa.Array) -> None:
    if not found.equals(held):
        raise _same_key()


def _same_key() -> SimilarError:
    return SimilarError(
        "similar: expected users with different 64-bit hashes, got two alike; rename one of them"
    )


def _applied(
    held: Generation | None, change: _Change, meta: Meta, progress: Callable[[str], object]
) -> tuple[Generation, bool]:
    """The index after a change, every slot of it filled; second: whether the graph was built anew."""
    if held is None:
        held = _empty(meta)
        change = replace(change, gone=np.zeros(0, bool))
    index, slots = held.index, len(held.index)
    leaving = change.gone | np.isin(held.keys, change.keys[change.known])
    staying = ~leaving
    keys = np.concatenate([held.keys[staying], change.keys])
    churn = held.meta.churn + int(leaving.sum())
    rebuilt = not slots or churn > CHURN * len(keys)
    if rebuilt:
        stay = held.keys[staying]
        vectors = np.asarray(index.get(stay), np.float32).reshape(-1, EMBEDDING_DIM) if len(stay) else None
        index, slots, churn = storage.new_index(), 0, 0
        if vectors is not None:
            insert(index, stay, vectors, progress)
    else:
        fillers = np.arange(slots - len(held.keys), dtype=np.uint64)
        index.remove(np.concatenate([held.keys[leaving], fillers]))
    insert(index, change.keys, change.vectors, progress)
    _fill(index, slots)
    order = np.argsort(keys, kind="stable")
    users = pa.concat_arrays([held.users.filter(pa.array(staying)), change.users]).take(pa.array(order))
    created_us = np.concatenate([held.created_us[staying], change.created_us])[order]
    incarnation = np.concatenate([held.incarnation[staying], change.incarnation])[order]
    meta = replace(meta, churn=churn)
    return Generation(meta, index, keys[order], users, created_us, incarnation), rebuilt


def insert(
    index: Index, keys: storage.Keys, vectors: Vectors, progress: Callable[[str], object] = lambda _: None
) -> None:
    """Put vectors of unit length in; more than a few say how far they are."""
    for start in range(0, len(keys), _ROWS):
        index.add(keys[start : start + _ROWS], vectors[start : start + _ROWS])
        if len(keys) > _ROWS:
            progress(f"indexed {min(start + _ROWS, len(keys))} of {len(keys)} users")


def _fill(index: Index, slots: int) -> None:
    """Overwrite what is left in free slots: the library would store the vectors that were there."""
    free = slots - len(index)
    if free > 0:
        noise = np.random.default_rng().normal(size=(free, EMBEDDING_DIM))
        index.add(np.arange(free, dtype=np.uint64), unit(noise))


def _empty(meta: Meta) -> Generation:
    none = np.zeros(0, np.int64)
    return Generation(
        meta, storage.new_index(), none.astype(np.uint64), pa.array([], pa.string()), none, none
    )


def _other_space(expected: str, got: str) -> OtherSpaceError:
    return OtherSpaceError(
        f"similar: expected vectors of profile_space {expected[:16]}, which the index holds, got "
        f"{got[:16]}; build one of that space with `portrait similar --refresh --rebuild`"
    )

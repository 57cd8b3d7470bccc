"""The joined users for the report: their own content, embedded by encoders that never saw it, and folded.

Everything a user's vector is made of goes through the fold of ``features.fold.fold``, as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.packed_state import Spaces, States, empty_states
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, HALF_LIVES_S, NO_TAG, Modality
from features.taxonomy import Taxonomy
from models.encoder import Encoder
from models.evaluation.encoders.content import Item, embeddings, files_of, folds_of, read_items, taxonomy_of
from models.evaluation.encoders.retrain import fold_names, fold_weights
from models.evaluation.step import Budget, Context, Section, Step
from models.registry import LOADERS, load_encoder
from models.training.fusion.data import Snapshots

EVENTS_FILE: Final = "joined_users_events.parquet"
NEXT_FILE: Final = "joined_users_next.parquet"
MIN_EVENTS: Final = 2
"""A profile is judged from its third event on."""
VECTORS: Final = "vectors.npz"

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Streams:
    """Events of users in order of time, and what each user did next."""

    users: npt.NDArray[np.str_]  # [u]
    user: Ints  # [e] place in users
    time_us: Ints  # [e] growing within a user
    modality: Ints  # [e]
    vector: Floats  # [e, 64] unit length
    category: Ints  # [e] true first-level category: judges, and is the ceiling
    person: npt.NDArray[np.str_]  # [e] sender or speaker of the content, or empty
    following: Ints  # [u] category of what the user did next
    drifted: Bools  # [u]

    def of(self, events: Bools | npt.NDArray[np.intp]) -> Streams:
        """These events alone, of the same users."""
        return replace(
            self,
            user=self.user[events],
            time_us=self.time_us[events],
            modality=self.modality[events],
            vector=self.vector[events],
            category=self.category[events],
            person=self.person[events],
        )

    @property
    def place(self) -> Ints:
        """[e]: how many events of the user came before."""
        first = np.searchsorted(self.user, np.arange(len(self.users)))
        place: Ints = np.arange(len(self.user)) - first[self.user]
        return place


def embedding_steps(data: Any, budget: Budget) -> tuple[Step, ...]:
    """A step per modality: vectors of all content of the users, out of fold and by the shipped weights."""
    return tuple(
        Step(
            f"users-{modality}",
            f"users: {modality} out of fold",
            partial(_embed, modality),
            (EVENTS_FILE, NEXT_FILE, *files_of(data, modality)),
            (modality,),
            ("models.evaluation.encoders.content",),
            fold_names(modality, budget),
            60,
            shown=False,
        )
        for modality in LOADERS
    )


def _embed(modality: str, ctx: Context) -> Section:
    taxonomy = taxonomy_of(ctx.data)
    wanted = {(e["dataset"], e["ref"]) for e in read_events(ctx, taxonomy) if e["modality"] == modality}
    items: dict[tuple[str, str], Item] = {}
    for item in read_items(ctx.data, modality, taxonomy):
        if (item.dataset, item.ref) in wanted:
            items.setdefault((item.dataset, item.ref), item)
    found = list(items.values())
    folds = folds_of(modality, _all_groups(ctx, modality, taxonomy, found), ctx.budget.folds)
    vectors = np.zeros((len(found), EMBEDDING_DIM), np.float32)
    for k in range(ctx.budget.folds):
        mine = np.flatnonzero(folds[-len(found) :] == k) if found else np.zeros(0, int)
        encoder = _encoder(modality, fold_weights(ctx, modality, k), taxonomy)
        vectors[mine] = embeddings(encoder, [found[i] for i in mine])
    shipped = embeddings(_encoder(modality, ctx.weights / f"{modality}.safetensors", taxonomy), found)
    keys = np.array([f"{i.dataset}|{i.ref}" for i in found])
    with (ctx.folder / VECTORS).open("wb") as out:
        np.savez_compressed(out, key=keys, out_of_fold=vectors, shipped=shipped)
    ctx.say(f"users: {len(found)} of {len(wanted)} contents of {modality} embedded")
    return Section(figures={"contents": len(found), "not found": len(wanted) - len(found)})


def _all_groups(ctx: Context, modality: str, taxonomy: Taxonomy, found: Sequence[Item]) -> list[str]:
    """Groups of the contents, after those that the folds were dealt over where dealing needs them all."""
    mine = [item.group for item in found]
    return [i.group for i in read_items(ctx.data, modality, taxonomy)] + mine if modality == "voice" else mine


def _encoder(modality: str, weights: Any, taxonomy: Taxonomy) -> Encoder:
    return load_encoder(modality, weights, "cpu", taxonomy.words, taxonomy)


def read_events(ctx: Context, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    """Events of this run's users with a category of the taxonomy, by user and time."""
    rows = pq.read_table(ctx.data / EVENTS_FILE).to_pylist()
    users = sorted({row["user_id"] for row in rows})[: ctx.budget.users]
    chosen = set(users)
    kept = [r for r in rows if r["user_id"] in chosen and r["category"] in taxonomy.first_level]
    return sorted(kept, key=lambda r: (r["user_id"], r["ts_ms"], r["event_id"]))


def read_streams(ctx: Context, which: str = "out_of_fold") -> Streams:
    """The users' streams with vectors ``out_of_fold`` or ``shipped`` (which saw much of the content)."""
    taxonomy = taxonomy_of(ctx.data)
    vectors: dict[str, Floats] = {}
    for modality in LOADERS:
        with np.load(ctx.folders[f"users-{modality}"] / VECTORS) as arrays:
            vectors |= dict(zip(arrays["key"].tolist(), arrays[which], strict=True))
    events = [e for e in read_events(ctx, taxonomy) if f"{e['dataset']}|{e['ref']}" in vectors]
    following = {
        row["user_id"]: row
        for row in pq.read_table(ctx.data / NEXT_FILE).to_pylist()
        if row["next_category"] in taxonomy.first_level
    }
    counts: dict[str, int] = {}
    for event in events:
        counts[event["user_id"]] = counts.get(event["user_id"], 0) + 1
    users = sorted(u for u in following if counts.get(u, 0) >= MIN_EVENTS)
    place = {user: i for i, user in enumerate(users)}
    events = [e for e in events if e["user_id"] in place]
    index = taxonomy.first_level.index
    return Streams(
        np.array(users),
        np.array([place[e["user_id"]] for e in events], np.int64),
        np.array([e["ts_ms"] * 1000 for e in events], np.int64),
        np.array([Modality[e["modality"].upper()] for e in events], np.int64),
        np.stack([vectors[f"{e['dataset']}|{e['ref']}"] for e in events]).astype(np.float32),
        np.array([index(e["category"]) for e in events], np.int64),
        np.array([e["content_person"] or "" for e in events]),
        np.array([index(following[u]["next_category"]) for u in users], np.int64),
        np.array([bool(following[u]["drifted"]) for u in users]),
    )


def folded(streams: Streams, policy: FoldPolicy | None = None, repeated: int = 1) -> States:
    """States of all users after all their events, each sent ``repeated`` times with the same id."""
    policy = policy or FoldPolicy()
    states = empty_states(len(streams.users), Spaces(1, 2, 3))
    events, user = packed(streams), streams.user
    for again in range(repeated):
        events["offset"] += again * len(events)
        states = fold(states, user, events, policy, 1).states
    return states


def packed(streams: Streams) -> npt.NDArray[Any]:
    """The events as the fold takes them, each with an id and a source position of its own."""
    events = np.zeros(len(streams.user), EVENT_DTYPE)
    events["event_time_us"] = events["record_time_us"] = streams.time_us
    events["offset"] = events["event_key"] = events["content_key"] = np.arange(1, len(events) + 1)
    events["modality"], events["tag"], events["sentiment"] = streams.modality, NO_TAG, np.nan
    events["embedding"] = streams.vector
    return events


def inputs(streams: Streams, half_lives_s: tuple[int, int] = HALF_LIVES_S) -> tuple[Floats, Bools]:
    """What fusion reads of every user after all events: [u, 4, 3, 64] and [u, 4]."""
    policy = FoldPolicy(half_lives_s)
    return fusion_inputs(folded(streams, policy), policy)


def moments(
    streams: Streams, users: Bools, half_lives_s: tuple[int, int] = HALF_LIVES_S
) -> tuple[Snapshots, Ints]:
    """Every moment of some users from their third event on, and how many events came before it.

    The last moment of a user asks for what he or she did next.
    """
    policy, place = FoldPolicy(half_lives_s), streams.place
    states = empty_states(len(streams.users), Spaces(1, 2, 3))
    events = packed(streams)
    total = np.bincount(streams.user, minlength=len(streams.users))
    parts: list[tuple[Any, ...]] = []
    for k in range(int(total[users].max(initial=0))):
        now = np.flatnonzero((place == k) & users[streams.user])
        states = fold(states, streams.user[now], events[now], policy, 1).states
        if k + 1 < MIN_EVENTS:
            continue
        features, mask = fusion_inputs(states, policy)
        who = streams.user[now]
        last = total[who] == k + 1
        wanted = np.where(last, streams.following[who], streams.category[np.minimum(now + 1, len(place) - 1)])
        parts.append((features[who], mask[who], wanted, streams.users[who], last, np.full(len(who), k + 1)))
    *columns, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Snapshots(*columns), counts


def decayed(streams: Streams, values: Floats, half_life_s: float) -> Floats:
    """[u, d]: each user's mean of ``values`` [e, d], halved for every half-life of age (inf: plain mean)."""
    newest = np.zeros(len(streams.users), np.int64)
    np.maximum.at(newest, streams.user, streams.time_us)
    age_s = (newest[streams.user] - streams.time_us) / 1e6
    weight = np.exp2(-age_s / half_life_s)
    sums = np.zeros((len(streams.users), values.shape[1]))
    np.add.at(sums, streams.user, weight[:, None] * values)
    total = np.bincount(streams.user, weight, len(streams.users))[:, None]
    means: Floats = (sums / np.maximum(total, 1e-12)).astype(np.float32)
    return means


def newest(streams: Streams, values: Floats) -> Floats:
    """[u, d]: the value of each user's last event."""
    last = np.searchsorted(streams.user, np.arange(len(streams.users)), side="right") - 1
    found: Floats = values[last]
    return found


def one_hot(labels: Ints, count: int) -> Floats:
    """[n] → float32 [n, count]."""
    hot: Floats = np.eye(count, dtype=np.float32)[labels]
    return hot

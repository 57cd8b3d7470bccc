"""Users for the fusion head: streams of the joined users, told with content no encoder was trained on.

Who likes what and when comes from ``joined_users_events``; the photo, text or clip of each event is
replaced by another one of the same set and category from the encoders' development split (for users
that train) or test split (for users that judge). With the streams' own content, most of which the
encoders were trained on, fusion would learn to trust them too much, and be judged too well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from features.schema import EMBEDDING_DIM, HALF_LIVES_S, Modality
from features.taxonomy import Taxonomy
from models.encoder import OTHER, Encoder
from models.fusion import HORIZONS, MODALITY_COUNT
from models.image.decode import SIDE_PX
from models.text.encoder import TextSample
from models.text.language import EN, ZH
from models.training.dataset import Dataset, load_dataset, parts_of, read_rows
from models.training.image.data import load_images
from models.training.splits import split_of
from models.training.text.data import NONE, read_texts, source_of
from models.training.voice.data import speaker_splits

Progress = Callable[[str], None]
Floats = npt.NDArray[np.float32]
Pools = dict[tuple[str, str, str], Floats]
"""(dataset, category, split of the content) → embeddings [k, 64]."""

Streams = dict[str, list[dict[str, Any]]]
"""User → events: ts_ms, modality, dataset, category."""

POOL_ITEMS: Final = 200
MIN_EVENTS: Final = 2
"""A profile is judged from its third event on."""


@dataclass(frozen=True)
class Snapshots:
    """n moments of users' lives: what fusion reads, and the category of what came next."""

    features: Floats  # [n, 4, 3, 64]
    mask: npt.NDArray[np.bool_]  # [n, 4]
    following: npt.NDArray[np.int64]  # [n] index of the category
    user: npt.NDArray[np.str_]  # [n]
    last: npt.NDArray[np.bool_]  # [n] the user's last moment: what comes next is ``joined_users_next``


def content_pools(
    data: Path, encoders: Mapping[str, Encoder], taxonomy: Taxonomy, progress: Progress
) -> Pools:
    """Embeddings of development and test content by set and category, at most POOL_ITEMS each."""
    dataset = load_dataset(data)
    pools: Pools = {}
    for modality, there, items in (
        ("text", dataset.text, _texts(data, dataset, taxonomy)),
        ("image", dataset.image, _images(data, dataset, encoders["image"], taxonomy)),
        ("voice", dataset.voice, _voices(data, dataset, encoders["voice"], taxonomy)),
    ):
        samples: dict[tuple[str, str, str], list[Any]] = {}
        for key, sample in items if there else ():
            mine = samples.setdefault(key, [])
            if len(mine) < POOL_ITEMS and key[1] != OTHER and key[2] != "train":
                mine.append(sample)
        for key, mine in samples.items():
            if mine:
                pools[key] = encoders[modality].encode(mine).embedding
        progress(f"fusion: {sum(map(len, samples.values()))} {modality} samples embedded")
    return pools


def _texts(
    data: Path, dataset: Dataset, taxonomy: Taxonomy
) -> Iterator[tuple[tuple[str, str, str], TextSample]]:
    """Texts in the first form of each part."""
    names = {source_of(part, part.forms[0]): part.name for part in dataset.text}
    rows = read_texts(data, taxonomy)
    for i in np.random.default_rng(3).permutation(len(rows.texts)):
        name, category = names.get(str(rows.source[i])), rows.labels["category"][i]
        if name and category != NONE:
            han = bool(rows.han[i])
            key = (name, rows.names["category"][category], str(rows.split[i]))
            yield key, TextSample(rows.texts[i], han, ZH if han else EN, {})


def _images(
    data: Path, dataset: Dataset, encoder: Encoder, taxonomy: Taxonomy
) -> Iterator[tuple[tuple[str, str, str], Any]]:
    names = {part.source_name: part.name for part in dataset.image}
    images = load_images(data, taxonomy, side_px=getattr(encoder, "side_px", SIDE_PX))
    for i in np.random.default_rng(4).permutation(len(images.pixels)):
        category = images.labels["category"][i]
        if category >= 0:
            name = names[str(images.source[i])]
            yield (name, images.names["category"][category], str(images.split[i])), images.pixels[i]


def _voices(
    data: Path, dataset: Dataset, encoder: Encoder, taxonomy: Taxonomy
) -> Iterator[tuple[tuple[str, str, str], Any]]:
    for part in dataset.voice:
        rows = read_rows(data / part.file, part.columns()) if part.role == "words" else []
        splits = speaker_splits([str(row[part.speaker]) for row in rows]) if rows else {}
        for row in rows:
            split, word = splits[str(row[part.speaker])], part.word_of(row)
            if split != "train" and word in taxonomy.words:
                yield (part.name, taxonomy.words[word], split), encoder.decode(row[part.audio])


def read_streams(data: Path, taxonomy: Taxonomy) -> Streams:
    """User → events in order of time, the last a pseudo-event of what the user did next.

    Raises DatasetError for a folder without streams.
    """
    part = parts_of(data, "fusion", lambda d: d.fusion)
    if part is None:
        return {}
    events, following = (
        [
            {ours: row[theirs] for ours, theirs in columns.names().items()}
            for row in read_rows(data / columns.file, columns.names().values())
        ]
        for columns in (part.events, part.next)
    )
    streams: Streams = {}
    for event in sorted(events, key=lambda e: e["ts_ms"]):
        if event["category"] in taxonomy.first_level:
            streams.setdefault(event["user_id"], []).append(event)
    for row in following:
        if row["user_id"] in streams and row["category"] in taxonomy.first_level:
            streams[row["user_id"]].append(row)
    return streams


def user_split(user: str) -> str:
    """train, dev or test of a user of the joined streams."""
    return split_of(f"joined:{user}")


def tell(streams: Streams, split: str, pools: Pools, taxonomy: Taxonomy, seed: int) -> Snapshots:
    """Snapshots of the users of a split, each event drawn anew from the pools."""
    rng = np.random.default_rng(seed)
    content_split = "test" if split == "test" else "dev"
    any_set = _by_modality(pools, streams)
    parts = []
    for user, events in streams.items():
        if user_split(user) == split and len(events) > MIN_EVENTS:
            vectors = np.stack([_draw(e, content_split, pools, any_set, rng) for e in events[:-1]])
            parts.append(_snapshots_of(user, events, vectors, taxonomy))
    return Snapshots(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Snapshots.__annotations__)
    )


def _by_modality(pools: Pools, streams: Streams) -> dict[tuple[str, str, str], Floats]:
    """(modality, category, split) → embeddings of all sets: where one set lacks a category.

    The modality of a set is that of the events which name it.
    """
    modality = {e["dataset"]: e["modality"] for events in streams.values() for e in events if "dataset" in e}
    merged: dict[tuple[str, str, str], list[Floats]] = {}
    for (dataset, category, split), vectors in sorted(pools.items()):
        if dataset in modality:
            merged.setdefault((modality[dataset], category, split), []).append(vectors)
    return {key: np.concatenate(parts) for key, parts in merged.items()}


def _draw(
    event: Mapping[str, Any], split: str, pools: Pools, any_set: Pools, rng: np.random.Generator
) -> Floats:
    pool = pools.get((event["dataset"], event["category"], split))
    if pool is None:
        pool = any_set[event["modality"], event["category"], split]
    drawn: Floats = pool[rng.integers(len(pool))]
    return drawn


def _snapshots_of(user: str, events: list[dict[str, Any]], vectors: Floats, taxonomy: Taxonomy) -> Snapshots:
    """The moments before each event from MIN_EVENTS on; vectors are [len(events) - 1, 64]."""
    moments = range(MIN_EVENTS, len(events))
    times_s = np.array([e["ts_ms"] for e in events]) / 1000
    modality = np.array([Modality[e["modality"].upper()] for e in events[:-1]])
    features = np.zeros((len(moments), MODALITY_COUNT, HORIZONS, EMBEDDING_DIM), np.float32)
    for row, k in enumerate(moments):
        age_s = times_s[k - 1] - times_s[:k]  # before the newest event, as states know no later time
        for h, half_life_s in enumerate(HALF_LIVES_S):
            weight = 0.5 ** (age_s / half_life_s)
            for m in np.unique(modality[:k]):
                mine = modality[:k] == m
                features[row, m, h] = weight[mine] @ vectors[:k][mine] / weight.sum()
        for m in np.unique(modality[:k]):
            newest = np.flatnonzero(modality[:k] == m)[-1]
            features[row, m, -1] = 0.5 ** (age_s[newest] / HALF_LIVES_S[0]) * vectors[newest]
    following = [taxonomy.first_level.index(events[k]["category"]) for k in moments]
    return Snapshots(
        features,
        np.asarray(features.any(axis=(2, 3))),
        np.array(following, np.int64),
        np.array([user] * len(moments)),
        np.array([k == len(events) - 1 for k in moments]),
    )

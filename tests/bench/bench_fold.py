"""CPU microseconds per event of unpack + fold + pack, and per user of a profile, as JSON.

python -m tests.bench.bench_fold [--events 500] [--users 300] [--window 50] [--rounds 40]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from features.fold.fold import FoldPolicy, fold, fusion_inputs
from features.fold.packed_state import Spaces, empty_states, pack, unpack
from features.profile.columns import profile_columns
from features.schema import EMBEDDING_DIM, EVENT_DTYPE, NO_TAG
from features.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
HEX = "ab" * 32, "cd" * 32
SPACES = Spaces.of(*HEX, TAXONOMY)
POLICY = FoldPolicy()
START_US = 1_750_000_000_000_000


def stream(rng: np.random.Generator, n: int, first_offset: int, start_us: int) -> np.ndarray:
    """Events with 16 tags in use, three topics of eight partitions, ten seconds apart."""
    events = np.zeros(n, EVENT_DTYPE)
    events["event_time_us"] = start_us + np.arange(n) * 10_000_000 - rng.integers(3600 * 10**6, size=n)
    events["modality"] = rng.integers(3, size=n)
    events["topic_key"] = events["modality"].astype(np.uint64) + np.uint64(1)
    events["offset"] = first_offset + np.arange(n)
    events["event_key"] = rng.integers(1 << 63, size=n)
    events["content_key"] = rng.integers(1 << 63, size=n)
    events["tag"] = NO_TAG
    events["tag"][:, :2] = rng.integers(16, size=(n, 2))
    events["tag_score"] = rng.random((n, 4))
    events["sentiment"] = rng.uniform(-1, 1, size=n)
    events["aspect_mask"] = 1 << rng.integers(12, size=n)
    vectors = rng.normal(size=(n, 64))
    events["embedding"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("events", 500), ("users", 300), ("window", 50), ("rounds", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    rng = np.random.default_rng(0)

    n = args.users * args.window
    history = stream(rng, n, 0, START_US)
    users = rng.integers(args.users, size=n)
    history["partition"] = users % 8
    states = fold(empty_states(args.users, SPACES), users, history, POLICY, START_US).states
    records = pack(states)
    took: dict[str, list[float]] = {}

    def timed(call: Callable[..., Any], *inputs: Any) -> Any:
        begin = time.process_time()
        result = call(*inputs)
        took.setdefault(call.__name__, []).append((time.process_time() - begin) * 1e6 / args.events)
        return result

    for i in range(args.rounds):
        users = rng.integers(args.users, size=args.events)
        events = stream(rng, args.events, n + i * args.events, START_US + (n + i * args.events) * 10_000_000)
        events["partition"] = users % 8
        states = timed(unpack, records, SPACES)
        result = timed(fold, states, users, events, POLICY, START_US)
        timed(fusion_inputs, result.states, POLICY)
        records = timed(pack, result.states)
    fused = np.zeros((args.users, EMBEDDING_DIM), np.float32)
    for _ in range(args.rounds):
        timed(profile_columns, result.states, fused, TAXONOMY, *HEX)
    median = {name: round(float(np.median(times)), 2) for name, times in took.items()}
    per_user = round(median.pop("profile_columns") * args.events / args.users, 1)
    total = round(median["unpack"] + median["fold"] + median["pack"], 2)
    size = round(float(np.mean([len(r) for r in records])))
    print(
        json.dumps(
            {
                "us_per_event": total,
                **median,
                "profile_us_per_user": per_user,
                "record_bytes": size,
                **vars(args),
            }
        )
    )


if __name__ == "__main__":
    main()

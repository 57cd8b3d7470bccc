"""An index of similar users: building, asking for ten, recall against exact numpy, refreshing, as JSON.

``[SCALE=1m] python -m tests.bench.bench_similar [--asked 1000]``. Vectors are fused from folded events of
people with tastes; ``noise`` is the same over random directions, the hardest case there is. Recall counts an
answer as right when it is as near as the tenth of the exact answer.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.fold.decayed_sums import unit
from features.similar.index import SimilarUsers, insert
from features.similar.storage import Generation, Meta, keys_of, new_index, write
from tests.bench.population import Population, chunks, measured, percentiles_ms, scale, user_name

Vectors = npt.NDArray[np.float32]
TOP = 10
_NOISE = 100_000


def fused_vectors(n: int) -> Vectors:
    population = Population()
    return np.concatenate([population.fused(population.people(users)[0]) for users in chunks(n, 5_000)])


def store(folder: Path, vectors: Vectors, report: dict[str, Any]) -> SimilarUsers:
    """An index of these vectors, made and written as a refresh does."""
    users = [user_name(i) for i in range(len(vectors))]
    keys = keys_of(users)
    order = np.argsort(keys)
    with measured(report.setdefault("build", {})):
        index = new_index()
        insert(index, keys[order], vectors[order])
        meta = Meta("cd" * 32, "", {})
        zeros = np.zeros(len(users), np.int64)
        held = Generation(meta, index, keys[order], pa.array(users).take(pa.array(order)), zeros, zeros)
        similar = SimilarUsers(folder)
        similar.folder.mkdir(parents=True)
        write(similar.folder, held)
    report["file_mb"] = sum(file.stat().st_size for file in similar.folder.iterdir()) >> 20
    return similar


def ask(similar: SimilarUsers, vectors: Vectors, asked: int) -> dict[str, Any]:
    """Latency of one question after the other by one thread, and recall of the same questions."""
    rng = np.random.default_rng(1)
    questions = rng.choice(len(vectors), min(asked, len(vectors)), replace=False)
    answers: dict[int, list[Any]] = {}

    def question(i: int) -> None:
        place = questions[i % len(questions)]
        answers[place] = similar.near(vectors[place], similar.space, TOP, without=[user_name(place)])

    found: dict[str, Any] = percentiles_ms(question, len(questions))
    right = 0
    for some in np.array_split(questions, max(1, len(questions) // 100)):
        exact = vectors[some] @ vectors.T
        exact[np.arange(len(some)), some] = -2
        tenth = -np.partition(-exact, TOP - 1, axis=1)[:, TOP - 1]
        for place, row, least in zip(some, exact, tenth, strict=True):
            numbers = [int(answer.user_id.removeprefix("user")) for answer in answers[place]]
            right += int((row[numbers] >= least - 1e-6).sum())
    return found | {"recall": round(right / (TOP * len(questions)), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asked", type=int, default=1_000)
    args = parser.parse_args()
    n = scale(20_000)
    report: dict[str, Any] = {"users": n, "asked": args.asked}
    with tempfile.TemporaryDirectory() as folder:
        vectors = fused_vectors(n)
        own: dict[str, Any] = report.setdefault("people", {})
        similar = store(Path(folder) / "people", vectors, own)
        own |= ask(similar, vectors, args.asked)
        gone = [user_name(i) for i in range(0, n, max(1, n // 1_000))]
        with measured(own.setdefault("remove_1000", {})):
            similar.remove(gone)
        own["users_left"] = len(similar)
        some = min(n, _NOISE)  # ten times the graph work of people: enough is enough
        noise = unit(np.random.default_rng(2).normal(size=(some, vectors.shape[1])))
        own = report.setdefault("noise", {})
        own |= ask(store(Path(folder) / "noise", noise, own), noise, args.asked)
    json.dump(report, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()

"""A process that writes to a store until it has done its share, or is killed.

``python -m tests.support.store_writer REPO increment TIMES USER…`` raises each user's revision TIMES times by
compare-and-set, against whoever else does, and prints how often it succeeded.
``python -m tests.support.store_writer REPO churn 0 USER…`` writes all users, every third revision as a
tombstone, for ever, and prints a line before every batch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import count

from features.online import ProfileStore
from features.online.open import open_store
from tests.support.profiles import revision_in, write_of


def increment(store: ProfileStore, users: Sequence[str], times: int) -> int:
    """The number of writes that were stored."""
    stored = 0
    for _ in range(times):
        left = list(users)
        while left:
            held = [revision_in(record) for record in store.read_states(left)]
            done = store.compare_and_set(
                [write_of(user, revision) for user, revision in zip(left, held, strict=True)]
            )
            stored += sum(done)
            left = [user for user, ok in zip(left, done, strict=True) if not ok]
    return stored


def churn(store: ProfileStore, users: Sequence[str]) -> None:
    """Write all users again and again."""
    for batch in count():
        print(batch, flush=True)
        held = [revision_in(record) for record in store.read_states(users)]
        store.compare_and_set(
            [
                write_of(user, revision, erased=revision % 3 == 2)
                for user, revision in zip(users, held, strict=True)
            ]
        )


if __name__ == "__main__":
    repo, task, times, *names = sys.argv[1:]
    if task == "increment":
        print(increment(open_store(repo), names, int(times)))
    else:
        churn(open_store(repo), names)

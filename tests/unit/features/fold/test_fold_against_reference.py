"""The fold gives what a plain one gives, for any events whatever."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.fold.fold import FoldPolicy, fold
from features.fold.packed_state import States, starts_of
from features.schema import SOURCE_DTYPE, WINDOW_DTYPE, Kind
from tests.unit.features.builders import (
    CONTROLS,
    NOW_US,
    SPACES,
    At,
    assert_same,
    batch,
    nobody,
    record_lists,
    splits,
)
from tests.unit.features.fold.reference import PlainUser

USERS = 3


@st.composite
def mixed_batches(draw: st.DrawFn) -> list[list[At]]:
    """Batches of contents and, now and then, controls of a few users."""
    controls = draw(
        st.lists(
            st.builds(
                lambda user, offset, kind: At(user, CONTROLS, 0, offset, 5_000_000 + offset // 2, kind),
                st.integers(0, USERS - 1),
                st.integers(0, 12),
                st.sampled_from((Kind.ERASE, Kind.READMIT)),
            ),
            max_size=6,
        )
    )
    contents = draw(record_lists(users=USERS, keys=draw(st.sampled_from((None, 25)))))
    return draw(splits(draw(st.permutations(contents + controls))))


@given(
    mixed_batches(),
    st.builds(
        FoldPolicy,
        window_offsets=st.sampled_from((1, 8, 10**6)),
        window_entries=st.sampled_from((1, 5, 4096)),
    ),
)
def test_the_fold_agrees_with_a_plain_one(batches: list[list[At]], policy: FoldPolicy) -> None:
    states, plain = nobody(USERS), [PlainUser(policy) for _ in range(USERS)]
    for records in batches:
        users, events = batch(records)
        result = fold(states, users, events, policy, NOW_US)
        states, shortened = result.states, sum(p.shortened for p in plain)
        for user in range(USERS):
            expected = plain[user].fold(list(events[users == user]))
            assert result.outcome[users == user].tolist() == expected
        assert result.shortened == sum(p.shortened for p in plain) - shortened
        assert_same(states, as_states(plain, states))


def as_states(plain: list[PlainUser], like: States) -> States:
    """The plain states as arrays; what only names or counts writes is taken from ``like``."""
    head = np.array([p.head() for p in plain])
    for name in ("event_space", "profile_space", "taxonomy", "half_life_s"):
        head[name] = like.head[name]
    sources, entries = [p.sources() for p in plain], [p.entries() for p in plain]
    return States(
        head,
        np.concatenate(sources).astype(SOURCE_DTYPE),
        starts_of(np.array([len(s) for s in sources])),
        np.concatenate(entries).astype(WINDOW_DTYPE),
        starts_of(np.array([len(e) for e in entries])),
        SPACES,
    )

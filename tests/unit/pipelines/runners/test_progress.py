"""What a run did is counted by round, survives the way to the parent of workers, and is judged."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from features.fold.outcome import Outcome
from pipelines import metrics
from pipelines.messages.record import Reason
from pipelines.runners.progress import (
    FEWEST,
    MostlyRejectedError,
    Progress,
    figures,
    refuse_mostly_rejected,
    summed,
)
from pipelines.settings import Rounds, Settings


def _metrics_grow(applied: int, rejected: int) -> None:
    metrics.EVENTS.labels(outcome="applied").inc(applied)
    metrics.PROFILES.inc(applied)
    metrics.REJECTS.labels(reason=Reason.BAD_TIME).inc(rejected)


def test_a_round_counts_what_the_metrics_grew_by() -> None:
    _metrics_grow(3, 4)  # an attempt of the round that failed
    before, done = figures(), Progress()
    _metrics_grow(2, 5)
    assert done.add_round(7, before) == {"bad_time": 5}
    before = figures()
    _metrics_grow(1, 0)
    assert not done.add_round(1, before)
    assert (done.records, done.rounds, done.profiles) == (8, 2, 3)
    assert (done.events, done.rejects) == ({"applied": 3}, {"bad_time": 5})


def test_json_has_every_outcome_and_comes_back_as_it_was() -> None:
    done = Progress(9, 2, 4, 3, Counter(applied=3, seen=1), Counter(bad_time=5), 1.25)
    told = json.loads(json.dumps(done.as_dict()))
    assert list(told["events"]) == [outcome.name.lower() for outcome in Outcome]
    assert told["reject_share"] == 0.5556
    again = Progress.of(told)
    assert again == replace(done, events=again.events)
    assert again.events == done.events


def test_workers_are_summed_and_the_longest_time_counts() -> None:
    one = Progress(9, 2, 4, 3, Counter(applied=3), Counter(bad_time=5), 1.25)
    two = Progress(1, 1, 0, 0, Counter(), Counter(bad_time=1, bad_json=1), 2.5)
    assert summed([one, two]) == Progress(
        10, 3, 4, 3, Counter(applied=3), Counter(bad_time=6, bad_json=1), 2.5
    )
    assert summed([]) == Progress()


@pytest.mark.parametrize(
    ("records", "rejected", "most", "refused"),
    [
        (FEWEST, FEWEST, 0.5, True),
        (FEWEST - 1, FEWEST - 1, 0.5, False),
        (225, 113, 0.5, True),
        (224, 112, 0.5, False),
        (225, 225, 1.0, False),
        (100, 11, 0.1, True),
        (0, 0, 0.5, False),
    ],
)
def test_a_run_is_refused_where_more_than_the_share_was_rejected(
    records: int, rejected: int, most: float, refused: bool
) -> None:
    settings = Settings(rounds=Rounds(reject_alarm_share=most))
    done = Progress(records, rejects=Counter({"bad_time": rejected}))
    if not refused:
        refuse_mostly_rejected(done, settings)
        return
    with pytest.raises(MostlyRejectedError, match=rf"got {rejected} of {records}: {rejected} bad_time; look"):
        refuse_mostly_rejected(done, settings)

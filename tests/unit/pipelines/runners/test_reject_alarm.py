"""Rejects of most records are an error in the log, at most once a minute, and a share in the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from pipelines import metrics
from pipelines.runners.reject_alarm import RejectAlarm
from pipelines.settings import Outputs, Settings

Look = Callable[[float, int, int], int]


@pytest.fixture
def look(caplog: pytest.LogCaptureFixture) -> Look:
    """A round at a time, of records, of them rejected → alarms so far."""
    now_s = 0.0
    settings = Settings(outputs=Outputs(dead_letter_suffix=".bad"))
    alarm = RejectAlarm(settings, (1, 2), clock=lambda: now_s)

    def look(at_s: float, records: int, rejected: int) -> int:
        nonlocal now_s
        now_s = at_s
        alarm.look(records, Counter(bad_time=rejected) if rejected else Counter())
        return len(caplog.records)

    return look


def _share() -> float:
    (family,) = metrics.REJECT_SHARE.collect()
    return float(family.samples[0].value)


def test_the_alarm_names_worker_counts_reasons_and_the_way_out(
    look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    assert look(0, 225, 225) == 1
    assert caplog.records[0].levelname == "ERROR"
    assert caplog.records[0].getMessage() == (
        "run: worker 1 of 2: expected at most 50% of the latest records to be rejected, got 225 of 225: "
        "225 bad_time; look at the dead letters in <topic>.bad: their header portrait-error-detail says what "
        "was expected"
    )
    assert _share() == 1.0


def test_few_records_and_a_share_that_is_not_above_are_no_alarm(look: Look) -> None:
    assert look(0, 19, 19) == 0
    assert _share() == 0.0
    assert look(1, 19, 0) == 0
    assert _share() == 0.5


def test_it_is_said_once_a_minute_while_it_lasts(look: Look) -> None:
    assert [look(at_s, 20, 20) for at_s in (0, 1, 59, 60, 61, 119, 120)] == [1, 1, 1, 2, 2, 2, 3]


def test_the_share_is_that_of_the_last_minute(look: Look) -> None:
    assert look(0, 1000, 1000) == 1
    assert look(50, 1000, 0) == 1
    assert _share() == 0.5
    assert look(61, 100, 0) == 1
    assert _share() == 0.0


def test_of_a_slow_stream_the_last_twenty_records_count(look: Look) -> None:
    assert [look(60.0 * i, 1, 0) for i in range(30)][-1] == 0
    assert [look(60.0 * i, 1, 1) for i in range(30, 40)][-1] == 0
    assert look(60.0 * 40, 1, 1) == 1
    assert _share() == 11 / 20

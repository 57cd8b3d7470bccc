"""The report's numbers, over tables whose content is known, and a page for whatever is in them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from features.audience.find import NEVER
from features.errors import UsageError
from features.report import activity
from features.report import measure as measuring
from features.report.measure import Report, measure_report, project
from features.report.page import ReportError, page, write_page
from features.tables.views import SqlError
from features.taxonomy import Category
from pipelines.cli.main import cli
from tests.support.history_tables import NOW, TOPS, tag_json, write_events, write_profiles, write_shop

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
HOSTILE_CATEGORY = Category(HOSTILE, f"书{HOSTILE}", f"B{HOSTILE}")
USERS = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder, USERS)
    return folder


@pytest.fixture(scope="module")
def report(shop: Path) -> Report:
    return measure_report(shop, now=NOW, examples=True)


def test_users_and_events_are_counted_once(report: Report) -> None:
    assert (report.users, report.sampled, report.other_space) == (USERS, USERS, 0)
    assert report.events == sum(1 + i % 7 for i in range(USERS))


def test_activity_has_every_day_from_the_first_to_the_last_event(report: Report) -> None:
    activity = report.activity
    assert activity is not None
    assert (activity.unit, len(activity.bins), activity.share) == ("day", 20, 1)
    assert activity.events == {"text": [USERS] * 20, "image": [0] * 20, "voice": [0] * 20}
    assert activity.active == [USERS] * 20
    assert activity.known == sorted(activity.known)
    first_events = [NOW - timedelta(hours=1, days=i % 50 + 20) for i in range(USERS)]
    assert activity.known[-1] == sum(first.date() <= activity.last.date() for first in first_events)


def test_coverage_freshness_and_groups_say_what_was_planted(report: Report) -> None:
    assert {(bar.label, bar.users, bar.share) for bar in report.coverage} == {
        ("reviews", 30, 0.5),
        ("reviews + photos", 30, 0.5),
    }
    assert report.freshness is not None
    ages = np.array([i % 50 for i in range(USERS)])
    edges = [0, 1, 7, 14, 40, 180]
    expected = [int(((ages >= a) & (ages < b)).sum()) for a, b in pairwise(edges)]
    assert [bar.users for bar in report.freshness.bands] == [*expected, 0]
    assert report.freshness.delay_half_s == pytest.approx(float(np.median(ages)) * 86_400)
    assert {group.tag.id: group.users for group in report.groups} == dict.fromkeys(TOPS, 15)
    books = next(group for group in report.groups if group.tag.id == "books")
    assert (books.tag.zh, books.tag.en, books.sentiment) == ("图书", "Books", 0.5)
    assert [tag.id for tag in books.tags] == ["shoes"]
    assert books.modalities == {"reviews": 1, "photos": 0, "voice clips": 0}
    (price,) = books.aspects
    assert (price.id, price.zh, price.share, price.sentiment) == ("price", "价格", 1, -0.5)
    assert len(books.examples) == 3


def test_the_planted_turn_is_found_in_content_and_in_profiles(report: Report) -> None:
    assert report.content_drift is not None
    assert report.profile_drift is not None
    text = report.content_drift.rows["text"]
    assert text is not None
    assert (text.before, text.after, text.moved) == (USERS * 10, USERS * 10, True)
    assert report.content_drift.rows["image"] is None
    for row in report.profile_drift.rows.values():
        assert row is not None
        assert row.moved
        assert row.before == USERS
        assert row.churn is not None


def test_users_of_one_taste_lie_together_on_the_map(report: Report) -> None:
    drawn = report.vector_map
    assert drawn is not None
    tastes = np.array([tag.id if tag else "" for tag in drawn.groups])
    assert sorted(set(tastes)) == sorted(TOPS)
    centres = {taste: drawn.points[tastes == taste].mean(axis=0) for taste in TOPS}
    spread = max(np.linalg.norm(drawn.points[tastes == t] - centres[t], axis=1).mean() for t in TOPS)
    assert spread < np.linalg.norm(centres["books"] - centres["fruit"])


def test_the_map_keeps_the_plane_that_shows_most() -> None:
    vectors = np.zeros((4, 64), np.float32)
    vectors[:, 5], vectors[:, 9] = [3, -3, 0, 0], [0, 0, 1, -1]
    points, explained = project(vectors)
    np.testing.assert_allclose(np.abs(points), [[3, 0], [3, 0], [0, 1], [0, 1]], atol=1e-6)
    assert explained == pytest.approx(1)


def test_an_earlier_day_shows_profiles_as_they_were_then(shop: Path) -> None:
    day = (NOW - timedelta(days=20)).date()
    then = measure_report(shop, until=day, now=NOW)
    assert then.as_of == datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    assert then.users == USERS
    assert then.profile_drift is None  # written once by then
    assert then.activity is not None
    assert then.activity.last <= then.as_of


def test_the_first_day_bounds_events_and_is_the_earlier_side_of_drift(shop: Path) -> None:
    since = (NOW - timedelta(days=25)).date()
    report = measure_report(shop, since=since, now=NOW)
    assert report.activity is not None
    assert report.activity.first.date() >= since
    assert report.profile_drift is not None
    assert report.profile_drift.before.date() == since


def test_erased_users_are_nowhere(shop: Path) -> None:
    gone = [f"user{i}" for i in range(0, USERS, 4)]  # all who like books
    counts_from = dict.fromkeys(gone, NEVER) | {"user1": 1}  # readmitted, nothing new yet
    report = measure_report(shop, counts_from=counts_from, examples=True, now=NOW)
    assert report.users == USERS - 16
    assert "books" not in [group.tag.id for group in report.groups]
    assert report.activity is not None
    assert report.activity.active[0] == USERS - 15
    assert report.profile_drift is not None
    fused = report.profile_drift.rows["fused"]
    assert fused is not None
    assert fused.before == USERS - 16
    assert not set(counts_from) & {user for group in report.groups for user in group.examples}


def test_samples_stand_for_all_and_the_page_says_so(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "USERS_SAMPLED", 30)
    monkeypatch.setattr(activity, "EVENTS_COUNTED", 600)
    report = measure_report(shop, now=NOW)
    assert 10 < report.sampled < 50
    assert report.users == USERS
    assert sum(group.users for group in report.groups) == USERS
    assert report.activity is not None
    assert report.activity.share == 0.5
    assert USERS * 0.5 < report.activity.active[0] < USERS * 1.6
    html = page(report)
    assert f"a random sample of {report.sampled} of 60 users" in html
    assert "Estimated from 50% of the users" in html


def test_vectors_of_another_space_are_left_out_of_map_and_drift(tmp_path: Path) -> None:
    write_profiles(tmp_path, range(30), NOW)
    write_profiles(tmp_path, range(30, 40), NOW, event_space=["ef" * 32] * 10, profile_space=["ef" * 32] * 10)
    report = measure_report(tmp_path, now=NOW)
    assert (report.users, report.other_space) == (40, 10)
    assert report.vector_map is not None
    assert len(report.vector_map.points) == 30
    assert "10 of them have vectors of another model version" in page(report)


def test_an_empty_history_is_a_page(tmp_path: Path) -> None:
    report = measure_report(tmp_path, now=NOW)
    assert (report.users, report.activity, report.freshness, report.groups) == (0, None, None, [])
    assert "No profile had been written by then" in page(report)


def test_one_user_of_one_day_is_a_page(tmp_path: Path) -> None:
    write_profiles(tmp_path, range(1), NOW - timedelta(hours=1))
    write_events(tmp_path, range(1), NOW - timedelta(hours=2), 1)
    html = page(measure_report(tmp_path, now=NOW))
    assert "A map needs at least three users" in html
    assert "All profiles were written within one day" in html
    assert html.count("<svg") == 4
    assert "NaN" not in html


def test_profiles_without_an_event_or_a_tag_are_a_page(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {
        "embedding": np.zeros((12, 64), np.float32), "modality_mask": [0] * 12, "top_category": [""] * 12,
        "tags": ["[]"] * 12, "aspects": ["[]"] * 12, "languages": [[]] * 12, "sentiment": [float("nan")] * 12,
        "first_event": [0] * 12, "last_event": [0] * 12, "event_timestamp": [0] * 12,
    }  # fmt: skip
    write_profiles(tmp_path, range(12), NOW, **nothing)
    report = measure_report(tmp_path, now=NOW)
    assert (report.users, report.freshness, report.groups, report.vector_map) == (12, None, [], None)
    html = page(report)
    assert "nothing yet" in html
    assert "No tag yet" in html


@pytest.mark.parametrize(("days", "unit"), [(1, "day"), (200, "week"), (1500, "month")])
def test_long_histories_are_counted_in_longer_units(tmp_path: Path, days: int, unit: str) -> None:
    write_events(tmp_path, range(1), NOW - timedelta(days=days), 1)
    write_events(tmp_path, range(1, 2), NOW - timedelta(hours=1), 1)
    report = measure_report(tmp_path, now=NOW)
    assert report.activity is not None
    assert report.activity.unit == unit
    assert sum(report.activity.events["text"]) == 2
    assert "<svg" in page(report)


def test_hostile_strings_are_text_on_the_page(tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "top_category": [HOSTILE] * 3,
        "tags": [json.dumps([tag_json(HOSTILE_CATEGORY, 1.0)])] * 3,
        "languages": [[HOSTILE]] * 3,
    }
    write_profiles(tmp_path, range(3), NOW, names=[f"{HOSTILE}{i}" for i in range(3)], **columns)
    html = page(measure_report(tmp_path, now=NOW, examples=True))
    assert "<script" not in html
    assert "<img" not in html
    assert "{{ 7 * 7 }}" in html
    assert html.count("&lt;script&gt;") >= 5


def test_a_page_asks_for_nothing_outside(report: Report) -> None:
    html = page(report)
    allowed = {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    found = {word.strip("\"'();") for word in html.replace("=", " ").split() if "://" in word}
    assert {part.strip("\"'>") for part in found} <= allowed
    assert "default-src 'none'" in html


def test_days_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected --since before --until"):
        measure_report(tmp_path, since=date(2026, 2, 1), until=date(2026, 1, 1), now=NOW)
    with pytest.raises(UsageError, match="and before now"):
        measure_report(tmp_path, since=date(2030, 2, 1), now=NOW)


def test_half_a_parquet_file_is_an_answer(tmp_path: Path) -> None:
    folder = tmp_path / "profiles" / "dt=2026-01-02"
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(SqlError, match=r"part-0\.parquet"):
        measure_report(tmp_path, now=NOW)


def test_a_disk_that_refuses_leaves_what_was_there(report: Report, tmp_path: Path) -> None:
    write_page(report, tmp_path / "deep" / "report.html")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["report.html"]
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(ReportError, match=r"taken\.html: expected a file that can be written"):
        write_page(report, tmp_path / "taken.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["deep", "taken.html"]


def test_the_command_writes_the_page_and_names_no_user_unasked(shop: Path, tmp_path: Path) -> None:
    given = ["--set", f"history.dir={shop}", "--set", f"feature_repo={tmp_path}"]
    done = CliRunner().invoke(cli, ["report", "--out", str(tmp_path / "r.html"), *given])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"wrote {tmp_path / 'r.html'}: 60 users, 234 events\n"
    assert "no feature repo" in done.stderr
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert "user1" not in html

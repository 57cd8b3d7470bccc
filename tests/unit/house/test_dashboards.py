"""The dashboard, the alerts and the runbook speak of metrics that exist, and of all of them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from features.fold.outcome import Outcome
from pipelines import metrics
from pipelines.messages.record import Reason
from tests.support.folders import ROOT

INFRA = ROOT / "infra"
Metric = Counter | Gauge | Histogram
SUFFIXES: dict[type[Metric], tuple[str, ...]] = {
    Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")
}  # fmt: skip
METRICS: list[Metric] = [metric for metric in vars(metrics).values() if isinstance(metric, Metric)]
SERIES = {metric._name + suffix: metric for metric in METRICS for suffix in SUFFIXES[type(metric)]}
CHECK = set(
    re.findall(
        r'"(portrait_check_\w+)": \(',
        (INFRA.parent / "pipelines/operations/check.py").read_text(encoding="utf-8"),
    )
)
DASHBOARD = json.loads((INFRA / "grafana/portrait.json").read_text(encoding="utf-8"))
(GROUP,) = yaml.safe_load((INFRA / "prometheus/alerts.yml").read_text(encoding="utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for rule in GROUP["rules"]}
RUNBOOK = (INFRA / "runbook.md").read_text(encoding="utf-8")
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
ASKED = {
    **{title: " ".join(t["expr"] for t in panel["targets"]) for title, panel in PANELS.items()},
    **{name: rule["expr"] for name, rule in ALERTS.items()},
}


@pytest.mark.parametrize("where", ASKED)
def test_every_series_that_is_asked_for_exists_with_its_labels(where: str) -> None:
    found = re.findall(r"\b(portrait_\w+)(?:\{(\w+)=)?", ASKED[where])
    assert found or "up{" in ASKED[where]
    labels: set[str] = set()
    for series, label in found:
        assert series in SERIES or series in CHECK, series
        own = set(SERIES[series]._labelnames) if series in SERIES else set()
        assert not label or label in own
        labels |= own
    grouped = {name for names in re.findall(r"by \(([\w, ]+)\)", ASKED[where]) for name in names.split(", ")}
    assert grouped <= labels | {"le"}


@pytest.mark.parametrize("series", [series for series in SERIES if not series.endswith(("_sum", "_count"))])
def test_every_metric_is_drawn(series: str) -> None:
    drawn = {
        name for title in PANELS for name in re.findall(r"portrait_\w+?(?=_bucket|_sum|\b)", ASKED[title])
    }
    assert series.removesuffix("_bucket") in drawn


def test_outcomes_and_reasons_that_alerts_name_exist() -> None:
    known = {"outcome": {o.name.lower() for o in Outcome}, "reason": {r.value for r in Reason}}
    named = re.findall(r'(outcome|reason)=~?"([^"]+)"', " ".join(ASKED.values()))
    assert {label for label, _ in named} == {"outcome", "reason"}
    for label, values in named:
        assert set(values.split("|")) <= known[label]


def test_every_alert_has_a_severity_a_summary_and_a_chapter_of_the_runbook() -> None:
    assert re.findall(r"^## (\w+)$", RUNBOOK, re.M) == list(ALERTS)
    for rule in ALERTS.values():
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]


def test_every_command_of_the_runbook_is_there() -> None:
    from pipelines.cli.main import cli

    for command, option in re.findall(r"`portrait (\w+)(?: (--[\w-]+))?", RUNBOOK):
        known: Any = cli.commands[command]
        assert not option or option in {name for o in known.params for name in o.opts}, f"{command} {option}"


def test_every_kind_of_event_and_reject_is_exported_before_the_first_one_comes() -> None:
    for metric, kinds in ((metrics.EVENTS, Outcome), (metrics.REJECTS, Reason)):
        totals = [s for s in next(iter(metric.collect())).samples if s.name.endswith("_total")]
        assert len(totals) == len(kinds)


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + i, place["y"] + j) for i in range(place["w"]) for j in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        assert panel["description"]
        taken |= cells

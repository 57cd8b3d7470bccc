"""The report in a real browser: what is drawn, that nothing is asked for, and that it fits a phone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from features.report.measure import measure_report
from features.report.page import write_page
from tests.support.browser import open_file, running_browser
from tests.support.history_tables import NOW, tag_json, write_profiles, write_shop
from tests.unit.features.report.test_measure import HOSTILE, HOSTILE_CATEGORY

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of sixty users."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder / "data")
    write_page(measure_report(folder / "data", now=NOW, examples=True), folder / "report.html")
    return folder / "report.html"


@pytest.mark.parametrize(("width_px", "dark"), [(1280, False), (390, True)])
def test_every_plot_is_drawn_without_a_request_or_a_word_on_the_console(
    browser: Browser, shop: Path, width_px: int, dark: bool
) -> None:
    seen = open_file(browser, shop, width_px=width_px, dark=dark)
    page = seen.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width_px
    plots = [plot for plot in page.locator("svg").all() if plot.is_visible()]
    assert [plot.get_attribute("aria-label") for plot in plots] == [
        "stacked bars of reviews, photos, voice clips over time",
        "lines of known, active over time",
        "map of 60 vectors, coloured by top category",
    ]
    for plot in plots:
        assert colours_in(plot.screenshot()) > 3
    for bar in page.locator("#coverage .bar, #freshness .bar, #interests .bar, #drift .bar").all():
        box = bar.bounding_box()
        assert box is not None
        assert box["width"] >= 1
        assert box["height"] > 5
    assert page.locator(".group").count() == 4
    assert page.locator("text").first.evaluate("e => getComputedStyle(e).fontFamily").startswith("system-ui")
    assert (seen.said, seen.asked) == ([], [])
    page.close()


@pytest.mark.parametrize("dark", [False, True])
def test_words_and_colours_stand_out_from_the_page(browser: Browser, shop: Path, dark: bool) -> None:
    page = open_file(browser, shop, dark=dark).page
    style = "name => getComputedStyle(document.documentElement).getPropertyValue(name)"
    back = page.evaluate(style, "--page")
    for name, least in (("--ink", 7), ("--soft", 4.5), *((f"--c{i}", 3) for i in range(9)), ("--bar", 3)):
        assert contrast(page.evaluate(style, name), back) >= least, name
    page.close()


def test_hostile_names_are_shown_and_never_obeyed(browser: Browser, tmp_path: Path) -> None:
    names = [f"{HOSTILE}{i}" for i in range(12)]
    tags = json.dumps([tag_json(HOSTILE_CATEGORY, 1.0)])
    top = [HOSTILE_CATEGORY.id] * 12
    columns: dict[str, Any] = {"top_category": top, "tags": [tags] * 12, "languages": [[HOSTILE]] * 12}
    write_profiles(tmp_path / "data", range(12), NOW, names=names, **columns)
    write_page(measure_report(tmp_path / "data", now=NOW, examples=True), tmp_path / "report.html")
    seen = open_file(browser, tmp_path / "report.html", width_px=390)
    assert HOSTILE in seen.page.locator("#groups").inner_text()
    assert HOSTILE in seen.page.locator("#interests").inner_text()
    assert seen.page.locator("script, img, iframe").count() == 0
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert (seen.said, seen.asked) == ([], [])
    seen.page.close()


def test_a_history_without_a_row_is_a_page_that_says_so(browser: Browser, tmp_path: Path) -> None:
    report = measure_report(tmp_path / "data", until=date(2026, 1, 1), now=NOW)
    write_page(report, tmp_path / "report.html")
    seen = open_file(browser, tmp_path / "report.html")
    assert "No profile had been written by then" in seen.page.locator("body").inner_text()
    assert seen.page.locator("svg").count() == 0
    assert (seen.said, seen.asked) == ([], [])
    seen.page.close()


def colours_in(png: bytes) -> int:
    """Distinct colours that cover something: an empty plot has one or two."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    _, counts = np.unique(pixels, axis=0, return_counts=True)
    return int((counts > 20).sum())


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two hex colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour.strip().lstrip("#")[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

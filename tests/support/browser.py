"""A real headless browser for tests: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

INSTALL = "sudo apt-get install -y --no-install-recommends chromium-headless-shell"


def require_chromium() -> str:
    """Path of the browser; without one the test is skipped, in CI it fails."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        message = f"chromium-headless-shell is missing; run: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without a GPU the first picture now and then fails ("Unable to capture screenshot").
        browser = playwright.chromium.launch(executable_path=require_chromium(), args=["--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page that was opened, and what it did beside showing itself."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Console messages, errors of scripts, dialogs."""
    asked: list[str] = field(default_factory=list)
    """Requests other than for the page itself."""


def open_file(browser: Browser, file: Path, *, width_px: int = 1280, dark: bool = False) -> Seen:
    page = browser.new_page(
        viewport={"width": width_px, "height": 900}, color_scheme="dark" if dark else "light"
    )
    seen = Seen(page)

    def dismiss(dialog: Dialog) -> None:
        seen.said.append(dialog.message)
        dialog.dismiss()

    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("dialog", dismiss)
    page.on("request", lambda request: seen.asked.append(request.url))
    page.goto(file.as_uri())
    seen.asked.remove(file.as_uri())
    return seen

"""Headless Chromium on a tracking server's pages, with pictures of what a person sees there."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WINDOW = {"width": 1700, "height": 1100}
PATIENCE = 180_000  # milliseconds that a page may take on busy cores
# MLflow's assistant opens itself over the page of who comes for the first time.
NO_ASSISTANT = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
"""
IS_DRAWN = "image => image.complete && image.naturalWidth > 0"


def chromium() -> str:
    """The program; skips the test by name without it, and fails where CI requires it."""
    if found := next(filter(None, map(shutil.which, PROGRAMS)), None):
        return found
    if os.environ.get("REQUIRED_BROWSER"):
        pytest.fail("chromium is required here ($REQUIRED_BROWSER) and not installed")
    pytest.skip("chromium is not installed (Debian: chromium)")


@dataclass(frozen=True)
class Browser:
    """One page of a browser; the addresses that it asked for; the folder of its pictures."""

    page: Page
    asked: list[str]
    pictures: Path

    def open(self, address: str) -> Page:
        """Go to a page, also where only what follows `#` differs."""
        self.page.goto("about:blank")
        self.asked.clear()
        self.page.goto(address)
        return self.page

    def keep(self, name: str) -> Path:
        """Keep a picture of the window as it is."""
        path = self.pictures / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@contextmanager
def browser(pictures: Path) -> Iterator[Browser]:
    """A browser for the block."""
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        context = program.new_context(viewport=WINDOW)
        context.add_init_script(NO_ASSISTANT)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        try:
            yield Browser(page, asked, pictures)
        finally:
            program.close()


def runs_page(server: str, experiment: str, view: str) -> str:
    """The address of an experiment's list of runs with a view (CHART, ARTIFACT) beside it."""
    return f"{server}/#/experiments/{experiment}/runs?compareRunsMode={view}&workflowType=machine_learning"


def curves_page(server: str, experiment: str, runs: Sequence[str], metric: str) -> str:
    """The address of a metric's curves of several runs."""
    parts = {"runs": list(runs), "metric": metric, "experiments": [experiment], "plot_metric_keys": [metric]}
    return f"{server}/#/metric?" + "&".join(f"{name}={quote(json.dumps(value))}" for name, value in parts.items())


def all_drawn(images: Locator) -> bool:
    """Whether every one of the pictures has arrived and could be read."""
    return all(images.nth(number).evaluate(IS_DRAWN) for number in range(images.count()))

"""What all tests in a browser share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.axe import axe
from support.map_lab import browser, lab, page
from support.opened import visit

__all__ = ["axe", "browser", "lab", "page", "visit"]

PATIENCE_MS = 60_000
DEAF = Path(__file__).parents[1] / "support" / "deaf_chromium.py"


@pytest.fixture(scope="session", autouse=True)
def _patience():
    """Expect things within the time that a loaded machine takes: Playwright's own five seconds are too few."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session", autouse=True)
def _deaf():
    """Start each Chromium as one that does not drop what it loads when a test next door makes or removes a network."""
    playwright = pytest.importorskip("playwright.sync_api")
    launch = playwright.BrowserType.launch

    def deaf(kind, **options):
        return launch(kind, **{**options, "executable_path": str(DEAF)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(playwright.BrowserType, "launch", deaf)
        yield

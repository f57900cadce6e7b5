"""What all tests in a browser share."""

from __future__ import annotations

import pytest

PATIENCE_MS = 60_000


@pytest.fixture(scope="session", autouse=True)
def _patience():
    """Expect things within the time that a loaded machine takes: Playwright's own five seconds are too few."""
    playwright = pytest.importorskip("playwright.sync_api")
    playwright.expect.set_options(timeout=PATIENCE_MS)

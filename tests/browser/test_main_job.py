"""The main job as a person does it, in a real Chromium; its pictures are the README's and the tutorial's.

``make pictures`` sets ``CUPOLA_PICTURES``: then the pictures are kept.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
SECOND = 1000
DRAWN = "img.leaflet-tile-loaded[src*='/cupola/'], img.leaflet-image-layer[src*='/cupola/']"
"""What a chain looks like on a map: tiles, or one image of the viewport where tiles would take longer."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(900),
]


@pytest.fixture
def pictures(tmp_path):
    folder = Path(os.environ.get("CUPOLA_PICTURES") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page():
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        opened = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1)
        opened.set_default_timeout(60 * SECOND)
        yield opened
        browser.close()


@pytest.fixture
def owner_platform(new_platform):
    place = new_platform(sample_archive=True)
    place.start()
    return place


def test_the_main_job(owner_platform, page, pictures):
    def keep(name):
        # A palette of 256 colours makes the files a third as large, and nobody sees it.
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.quantize(256, dither=Image.Dither.NONE).save(pictures / f"{name}.png", optimize=True)

    page.goto(owner_platform.first_link)
    page.wait_for_url("**/services/cupola/")
    playwright.expect(page.get_by_text("Cupola Lab").first).to_be_visible()
    keep("catalogue")

    press_play(page)
    page.wait_for_url(re.compile(r"/user/.*/lab"), timeout=120 * SECOND)
    run_the_tour(page, keep)

    page.goto(f"{owner_platform.address}/services/cupola/jobs")
    playwright.expect(page.get_by_text("Tour NDVI").first).to_be_visible()
    keep("jobs")
    page.get_by_role("link", name="Tour NDVI").first.click()
    page.wait_for_url(re.compile(r"/jobs/."))
    keep("job")
    page.goto(f"{owner_platform.address}/services/cupola/data")
    playwright.expect(page.get_by_text("sample-archive").first).to_be_visible()
    keep("data")

    page.goto(f"{owner_platform.address}/services/cupola/sessions")
    playwright.expect(page.get_by_role("link", name=re.compile("open", re.IGNORECASE)).first).to_be_visible()
    keep("sessions")
    page.get_by_role("link", name=re.compile("open", re.IGNORECASE)).first.click()
    page.wait_for_url(re.compile(r"/user/.*/lab"))
    look_at_a_dashboard(page, owner_platform.address)
    page.goto(f"{owner_platform.address}/services/cupola/sessions")
    page.get_by_role("button", name=re.compile("^stop", re.IGNORECASE)).first.click()
    page.get_by_role("button", name="Stop it").click()
    playwright.expect(page.get_by_text(re.compile("stopped", re.IGNORECASE)).first).to_be_visible(
        timeout=30 * SECOND
    )


def look_at_a_dashboard(page, address):
    """Open an explorer as a page without code in the session that is open; it asks nobody but the platform."""
    strangers = []
    page.on(
        "request",
        lambda asked: (
            asked.url.startswith(("http", "ws"))
            and not asked.url.startswith((address, address.replace("http", "ws", 1)))
            and strangers.append(asked.url)
        ),
    )
    session = re.match(r".*/user/[^/]+/[^/]+", page.url)[0]
    page.goto(f"{session}/voila/render/examples/explorers/terrain.ipynb", timeout=120 * SECOND)
    page.locator(".cupola-explorer").wait_for(timeout=90 * SECOND)
    page.locator(DRAWN).first.wait_for(timeout=90 * SECOND, state="attached")
    page.get_by_label("Show", exact=True).select_option("Slope")
    playwright.expect(page.locator(".cupola-explorer-line")).to_contain_text("Slope")
    page.locator("img[src*='cmap=magma']").first.wait_for(state="attached")
    assert "cupola.explorers" not in page.locator("body").inner_text()
    assert strangers == []


def press_play(page):
    page.get_by_role("button", name=re.compile("play|start|launch|open", re.IGNORECASE)).first.click()


def run_the_tour(page, keep):
    """Run all cells of the tour and look at what it shows: map, panel, products on the map."""
    page.locator(".jp-Notebook").wait_for()
    page.get_by_text("| Idle").wait_for(timeout=60 * SECOND)
    keep("lab")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    first_map = page.locator(".leaflet-container").first
    first_map.wait_for(timeout=90 * SECOND)
    page.locator(DRAWN).first.wait_for(timeout=90 * SECOND, state="attached")
    page.get_by_text("largest difference").wait_for(timeout=180 * SECOND, state="attached")
    page.locator(".leaflet-container").nth(1).wait_for(timeout=90 * SECOND, state="attached")
    page.get_by_role("heading", name="Where to go next").scroll_into_view_if_needed()
    mars = page.locator(".leaflet-container", has_text="Mars")
    mars.evaluate("map => map.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(6 * SECOND)
    keep("mars")
    first_map.evaluate("map => map.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(4 * SECOND)
    keep("map")
    assert page.locator(".leaflet-container").first.locator(DRAWN).count() > 0
    page.locator(".cupola-job").first.scroll_into_view_if_needed()
    page.wait_for_timeout(1 * SECOND)
    keep("panel")
    assert "6" in page.locator(".cupola-job").first.inner_text()

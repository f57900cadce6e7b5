"""Datalabs that are no Jupyter, as a person opens them: in containers, on a screen in a real Chromium.

``make pictures`` sets ``CUPOLA_PICTURES``: then the pictures are kept, and the desktop is built and opened too.
"""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
SECOND = 1000
PICTURES = os.environ.get("CUPOLA_PICTURES")
SCREENS = [
    pytest.param("topcat", id="topcat"),
    pytest.param("aladin", id="aladin"),
    pytest.param(
        "desktop",
        id="desktop",
        marks=pytest.mark.skipif(
            not PICTURES,
            reason="the desktop takes minutes to build; set CUPOLA_PICTURES to a folder to open it too",
        ),
    ),
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(1800),
]


@pytest.fixture
def pictures(tmp_path):
    folder = Path(PICTURES or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def browser():
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield opened
        opened.close()


@pytest.fixture
def place(images, new_platform):
    one = new_platform(settings=images.settings)
    one.images = images
    return one


@pytest.mark.parametrize("name", SCREENS)
def test_a_tool_with_windows_opens_in_the_browser(place, browser, pictures, name):
    place.images.have("lab")
    place.images.have(name)
    place.start()
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(60 * SECOND)
    page.goto(place.first_link)
    page.wait_for_url("**/services/cupola/")
    page.goto(f"{place.address}/services/cupola/datalabs/{name}")
    page.get_by_role("button", name=re.compile("play|start|launch|open", re.IGNORECASE)).first.click()
    page.wait_for_url(re.compile(rf"/user/[^/]+/{name}-[^/]+/$"), timeout=180 * SECOND)
    page.locator("#notice").wait_for(state="hidden")

    canvas = page.locator("#screen canvas")
    box = canvas.bounding_box()
    assert (box["width"], box["height"]) == (1280, 800), "the screen has the size of the window"
    colours_within(page, 90)
    if name == "desktop":
        open_programs(page)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(pictures / f"{name}.png", optimize=True)

    # The screen follows the window, and nobody else gets to see it.
    page.set_viewport_size({"width": 1000, "height": 700})
    playwright.expect(canvas).to_have_attribute("width", "1000")
    stranger = browser.new_context().new_page()
    stranger.goto(page.url)
    assert "/hub/login" in stranger.url
    assert refused(stranger, page.url.replace("http:", "ws:") + "rfb")


def colours_within(page, seconds):
    """Wait until the screen shows more than an empty desktop."""
    end = time.monotonic() + seconds
    while True:
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        if len(shot.getcolors(2**24)) > 100:
            page.wait_for_timeout(3 * SECOND)
            return
        assert time.monotonic() < end, "nothing came up on the screen"
        page.wait_for_timeout(SECOND)


def open_programs(page):
    """Open a terminal and DS9 from the menu of the empty desktop."""
    for below in (9, 67):  # pixels from the click to the menu's entry
        page.mouse.click(1100, 120, button="right")
        page.wait_for_timeout(SECOND)
        page.mouse.click(1130, 120 + below)
        page.wait_for_timeout(8 * SECOND)


def refused(page, address):
    """Return whether a websocket is refused to the page's visitor."""
    return page.evaluate(
        """address => new Promise(done => {
            const one = new WebSocket(address);
            one.onopen = () => done(false);
            one.onerror = () => done(true);
        })""",
        address,
    )

"""Datalabs that are no Jupyter, as a person opens them: in containers, on a screen in a real Chromium.

``make pictures`` sets ``CUPOLA_PICTURES``: then the pictures are kept, and the desktop and the editor, which take minutes to
build, are built and opened too.
"""

from __future__ import annotations

import io
import os
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from support.platform import OWNER

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
SECOND = 1000
TERMINAL, DS9 = (20, 785), (80, 785)
"""Where the bar at the bottom starts them, on a screen of 1280 x 800."""
PICTURES = os.environ.get("CUPOLA_PICTURES")
slow_to_build = pytest.mark.skipif(
    not PICTURES,
    reason="the desktop and the editor take minutes to build; set CUPOLA_PICTURES to a folder to open them too",
)

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


def opened(place, browser, name, **options):
    """Press play as the owner, and return the page of the datalab."""
    place.images.have("lab")
    place.images.have(name)
    place.start()
    page = browser.new_context(viewport={"width": 1280, "height": 800}, **options).new_page()
    page.set_default_timeout(60 * SECOND)
    page.goto(place.first_link)
    page.wait_for_url("**/services/cupola/")
    page.goto(f"{place.address}/services/cupola/datalabs/{name}")
    page.get_by_role("button", name=re.compile("play|start|launch|open", re.IGNORECASE)).first.click()
    page.wait_for_url(re.compile(rf"/user/[^/]+/{name}-[^/]+/"), timeout=180 * SECOND)
    return page


def connected(page):
    page.locator("#notice").wait_for(state="hidden")
    return page.locator("#screen canvas")


def keep(page, pictures, name):
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(pictures / f"{name}.png", optimize=True)


def nobody_else_gets_in(browser, page, websocket):
    address = page.url.partition("?")[0]
    stranger = browser.new_context().new_page()
    stranger.goto(address)
    assert "/hub/login" in stranger.url
    assert refused(stranger, address.replace("http:", "ws:") + websocket)


@pytest.mark.parametrize("name", ["topcat", "aladin"])
def test_a_tool_with_windows_opens_in_the_browser(place, browser, pictures, name):
    page = opened(place, browser, name)
    canvas = connected(page)
    box = canvas.bounding_box()
    assert (box["width"], box["height"]) == (1280, 800), "the screen has the size of the window"
    colours_within(page, 90)
    keep(page, pictures, name)
    # The screen follows the window, and nobody else gets to see it.
    page.set_viewport_size({"width": 1000, "height": 700})
    playwright.expect(canvas).to_have_attribute("width", "1000")
    nobody_else_gets_in(browser, page, "rfb")


@slow_to_build
def test_the_desktop_shares_the_clipboard_and_keeps_its_windows(place, browser, pictures):
    page = opened(place, browser, "desktop", permissions=["clipboard-read", "clipboard-write"])
    connected(page)
    colours_within(page, 60)  # the bar at the bottom is there
    page.mouse.click(*TERMINAL)
    listens(place, page, lambda: page.mouse.click(640, 400))
    text = "größe 3 µm é"
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    assert pasted(place, page, "from-the-browser") == text
    page.locator("#side").hover(force=True)
    page.locator("#clipboard-button").click()
    page.locator("#clipboard-text").fill("by the panel")
    page.keyboard.press("Escape")
    page.mouse.click(640, 400)
    assert pasted(place, page, "from-the-panel") == "by the panel"
    page.keyboard.type("clear; echo from-the-screen\n")
    page.wait_for_timeout(SECOND)
    page.mouse.click(360, 212, click_count=3)
    page.keyboard.press("Control+Shift+C")
    page.wait_for_timeout(SECOND)
    assert page.evaluate("navigator.clipboard.readText()").strip() == "from-the-screen"

    page.locator("#side").hover(force=True)
    page.locator("#full-button").click()
    page.wait_for_function("document.fullscreenElement !== null")
    page.locator("#full-button").click()
    page.wait_for_function("document.fullscreenElement === null")

    # Neither a reload nor a proxy that ends takes the windows away.
    page.reload()
    connected(page)
    place.part("proxy").kill()
    page.locator("#notice").wait_for(state="visible")
    connected(page)
    page.mouse.click(640, 400)
    page.keyboard.type("echo still here > still.txt\n")
    assert said(place, "still.txt") == "still here"
    page.mouse.click(*DS9)
    page.wait_for_timeout(10 * SECOND)
    keep(page, pictures, "desktop")
    nobody_else_gets_in(browser, page, "rfb")


@slow_to_build
def test_the_editor_opens_files_and_a_terminal(place, browser, pictures):
    page = opened(place, browser, "vscode")
    page.locator(".monaco-workbench").wait_for()
    page.get_by_role("treeitem").first.wait_for()
    page.keyboard.press("Control+`")
    terminal = page.locator(".terminal.xterm")
    terminal.wait_for()
    listens(place, page, terminal.click)
    page.keyboard.type("echo 'print(6 * 7)' > sums.py && python3 sums.py > sums.txt\n")
    assert said(place, "sums.txt") == "42"
    page.get_by_role("treeitem", name="sums.py").dblclick()
    page.locator(".view-line", has_text="print").wait_for()
    page.wait_for_timeout(2 * SECOND)
    keep(page, pictures, "vscode")
    nobody_else_gets_in(browser, page, "stable/?type=Management")


def listens(place, page, click):
    """Wait until the terminal that `click` puts in front does what is typed."""
    file = place.paths.home(OWNER) / "listens.txt"
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end, "the terminal does nothing"
        click()
        page.keyboard.type("touch listens.txt\n")
        page.wait_for_timeout(2 * SECOND)


def pasted(place, page, name):
    """Paste the screen's clipboard into a file of the home, in the terminal in front."""
    page.wait_for_timeout(SECOND)
    page.keyboard.type(f"cat > {name}.txt\n")
    page.wait_for_timeout(SECOND)
    page.keyboard.press("Control+Shift+V")
    page.wait_for_timeout(SECOND)
    page.keyboard.press("Enter")
    page.keyboard.press("Control+D")
    return said(place, f"{name}.txt")


def said(place, name):
    """Return what a file of the owner's home holds, once it holds something."""
    file = place.paths.home(OWNER) / name
    end = time.monotonic() + 30
    while not file.exists() or not file.read_text().endswith("\n"):
        assert time.monotonic() < end, f"{name} does not appear in the home"
        time.sleep(0.1)
    return file.read_text().strip()


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

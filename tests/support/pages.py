"""The portal's pages over made-up models, for a real Chromium: served to Ada, who is signed in."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

import pytest
import uvicorn

from support import made_up

__all__ = ["CHROMIUM", "by_tiles", "chromium_with", "opened_pages", "served"]

CHROMIUM = Path("/usr/bin/chromium")
DROPPED = "net::ERR_NETWORK_CHANGED"
AGAIN = 5
WAY = re.compile(r"/cupola/tiles/[^/]+/[^/]+/way\?")
"""Where a map asks whether tiles or one image of the viewport are cheaper."""


def by_tiles(page):
    """Let the maps of a page be drawn by tiles: what is cheaper depends on how busy the machine was when it was measured."""
    page.route(WAY, lambda asked: asked.fulfill(json={"way": "tiles"}))


@contextlib.contextmanager
def served(app):
    """Serve `app`; give its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{made_up.PREFIX}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert not thread.is_alive()


@contextlib.contextmanager
def chromium_with(*options):
    """Give a Chromium."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                *options,
            ],
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def opened_pages(chromium, address, *, expected=None):
    """Give a function that opens a page; what Chromium complains about, but for what is `expected`, is a failure.

    Tests next door make and remove networks. Chromium then drops what it was loading, so the page is opened again.
    """
    complaints = []

    def dropped():
        found = [text for text in complaints if DROPPED in text]
        complaints[:] = [text for text in complaints if text not in found]
        return bool(found)

    with contextlib.ExitStack() as contexts:

        def open_page(path, *, width=1280, **options):
            context = chromium.new_context(viewport={"width": width, "height": 850}, **options)
            contexts.callback(context.close)
            context.add_cookies([{"name": "service-cupola", "value": "token-of-ada", "url": address}])
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            dropped()
            for _ in range(AGAIN):
                page.goto(address + path)
                if not dropped():
                    break
            return page

        yield open_page
        dropped()
    assert [text for text in complaints if expected is None or not expected.search(text)] == []

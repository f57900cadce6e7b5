"""A JupyterLab with Cupola's extension in a real Chromium, for maps in notebooks."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import nbformat
import numpy as np
import pytest
from PIL import Image

from support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

__all__ = [
    "CHROMIUM",
    "MARKS",
    "Lab",
    "browser",
    "lab",
    "page",
    "picture",
    "rewrite",
    "run_all",
    "tiles",
    "wait_for",
    "wait_for_tiles",
    "write",
]

CHROMIUM = Path("/usr/bin/chromium")
SECONDS = 240
MARKS = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(600),
]


@dataclass
class Lab:
    url: str
    token: str
    folder: Path
    pictures: Path

    def notebook(self, name: str, *cells: str) -> str:
        """Write a notebook and return its address."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, self.folder / f"{name}.ipynb")
        return f"{self.url}lab/workspaces/{name}/tree/{name}.ipynb?token={self.token}"


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for the tests of all maps, as it takes long to start: notebooks, folders and layers have names of their own."""
    folder = tmp_path_factory.mktemp("lab")
    pictures = Path(os.environ.get("CUPOLA_PICTURES") or folder / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    port = free_port()
    token = secrets.token_hex()
    for name in ("home", "home/work"):
        (folder / name).mkdir()
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "CUPOLA"))},
        "HOME": str(folder / "home"),
        "CUPOLA_RUNTIME": str(folder / "home" / ".cupola"),
        "CUPOLA_TILE_SECONDS": "6",
        "JUPYTER_TOKEN": token,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [
        sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser", f"--port={port}",
        "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/ada/lab-1/",
        f"--ServerApp.root_dir={folder / 'home' / 'work'}",
        "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
        # Takes seconds to load, and has nothing to do here.
        "--ServerApp.jpserver_extensions", "voila.server_extension=False",
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    made = Lab(f"http://127.0.0.1:{port}/user/ada/lab-1/", token, folder / "home" / "work", pictures)
    try:
        end = time.monotonic() + SECONDS
        while True:
            try:
                if httpx.get(f"{made.url}api/status", params={"token": token}).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if time.monotonic() > end or process.poll() is not None:
                pytest.fail(log.read_text())
            time.sleep(0.2)
        yield made
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, lab: Lab, request: pytest.FixtureRequest) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.set_default_timeout(SECONDS * 1000)
    yield opened
    opened.screenshot(path=lab.pictures / f"{request.node.name}.png")
    # Kernels of one test must not take time from the next.
    with httpx.Client(base_url=lab.url, params={"token": lab.token}) as http:
        for kernel in http.get("api/kernels").json():
            http.delete(f"api/kernels/{kernel['id']}")
    opened.close()


def run_all(page: Page, address: str) -> None:
    page.goto(address)
    # Before the kernel answers, "run" asks which one to take.
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for()
    page.locator(".lm-MenuBar-item", has_text="Run").click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()


def tiles(page: Page) -> list[dict[str, object]]:
    """Return the tiles of the map: address, whether loaded, size on screen."""
    found: list[dict[str, object]] = page.evaluate(
        """() => [...document.querySelectorAll("img.leaflet-tile")].map((tile) => ({
             url: tile.src, done: tile.complete && tile.naturalWidth > 0,
             width: tile.naturalWidth, shown: tile.getBoundingClientRect().width}))"""
    )
    return found


def wait_for(
    condition: Callable[[], bool], what: Callable[[], object] = lambda: "", seconds: float = SECONDS
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited in vain: {what()}")
        time.sleep(0.2)


def wait_for_tiles(page: Page, word: str = "/cupola/tiles/") -> None:
    def loaded() -> bool:
        found = [tile for tile in tiles(page) if word in str(tile["url"])]
        return bool(found) and all(tile["done"] for tile in found)

    wait_for(loaded, lambda: tiles(page))
    # Tiles fade in.
    page.wait_for_timeout(500)


def picture(page: Page, lab: Lab, name: str) -> np.ndarray:
    """Return what the map shows, controls left out."""
    page.add_style_tag(content=".leaflet-control-container {visibility: hidden}")
    page.wait_for_timeout(200)
    body = page.locator(".leaflet-container").screenshot(path=lab.pictures / f"{name}-map.png")
    page.add_style_tag(content=".leaflet-control-container {visibility: visible !important}")
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def rewrite(page: Page, number: int, text: str) -> None:
    """Replace the text of a cell and run it."""
    write(page, number, text)
    page.keyboard.press("Shift+Enter")


def write(page: Page, number: int, text: str) -> None:
    """Replace the text of a cell, and stay in it."""
    page.locator(".jp-CodeCell .cm-content").nth(number).click()
    page.keyboard.press("Control+A")
    # Pasted as one piece: typed lines would be indented and closed by the editor.
    page.keyboard.insert_text(text)

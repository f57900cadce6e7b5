"""The explorers as notebooks in a real JupyterLab and as dashboards of Voilà, in a real Chromium; their pictures are the gallery's."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from cupola.lab.samples import make
from support.ports import free_port

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "environments" / "lab" / "notebooks" / "explorers"
SECONDS = 120

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(600),
]


class Server:
    """A Jupyter server as a session has it, with the sample archive as its volume."""

    def __init__(self, folder):
        self.folder = folder
        self.token = secrets.token_hex()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/user/ada/lab-1/"
        self.process = None

    def start(self):
        home = self.folder / "home"
        shutil.copytree(NOTEBOOKS, home / "examples" / "explorers")
        small = not os.environ.get("CUPOLA_GALLERY")
        archive = make(self.folder / "sample-archive", small=small)
        mount = {"volume": "sample-archive", "source": str(archive), "target": str(archive), "access": "read"}
        environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("JUPYTER", "CUPOLA"))
            },
            "HOME": str(home),
            "CUPOLA_RUNTIME": str(home / ".cupola"),
            "CUPOLA_VOLUMES": json.dumps([mount]),
            "JUPYTER_TOKEN": self.token,
            "IPYTHONDIR": str(self.folder / "ipython"),
            "JUPYTER_PATH": str(ROOT / "environments" / "lab" / "share" / "jupyter"),
        }
        command = [
            sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser", f"--port={self.port}",
            "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", "--ServerApp.base_url=/user/ada/lab-1/",
            f"--ServerApp.root_dir={home}", "--LabApp.news_url=None", "--ServerApp.jpserver_extensions",
            "cupola.lab.extension=True", "--ServerApp.jpserver_extensions", "voila.server_extension=False",
        ]  # fmt: skip
        self.log = self.folder / "server.log"
        with self.log.open("w") as output:
            self.process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        end = time.monotonic() + SECONDS
        while True:
            try:
                if httpx.get(f"{self.url}api/status", params={"token": self.token}).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if time.monotonic() > end or self.process.poll() is not None:
                pytest.fail(self.log.read_text())
            time.sleep(0.2)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)

    def end_kernels(self):
        with httpx.Client(base_url=self.url, params={"token": self.token}) as http:
            for kernel in http.get("api/kernels").json():
                http.delete(f"api/kernels/{kernel['id']}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("explorers"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def chromium():
    options = ["--no-sandbox", "--no-first-run", "--disable-background-networking", "--use-angle=swiftshader"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[*options, "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"],
        )
        yield opened
        opened.close()


@pytest.fixture
def page(chromium, server):
    """A page; what it asks of other machines is kept in ``page.strangers``."""
    opened = chromium.new_page(viewport={"width": 1280, "height": 960})
    opened.set_default_timeout(SECONDS * 1000)
    opened.strangers, opened.tiles = [], []
    opened.on("response", lambda told: "/Npix" in told.url and told.ok and opened.tiles.append(told.url))
    opened.on(
        "request",
        lambda asked: (
            asked.url.startswith(("http", "ws"))
            and f"127.0.0.1:{server.port}" not in asked.url
            and opened.strangers.append(asked.url)
        ),
    )
    yield opened
    opened.close()
    server.end_kernels()


def keep(page, name):
    """Keep a picture of the page for the gallery, where one is asked for."""
    folder = os.environ.get("CUPOLA_GALLERY")
    if folder:
        page.wait_for_timeout(2500)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        Path(folder).mkdir(parents=True, exist_ok=True)
        picture.quantize(256, dither=Image.Dither.NONE).save(Path(folder) / f"{name}.png", optimize=True)


def shown(page, drawn):
    """Wait until an explorer has drawn something, and says what it shows."""
    page.locator(".cupola-explorer").first.wait_for()
    if drawn == "tiles":
        page.wait_for_function(
            """() => [...document.querySelectorAll("img.leaflet-tile, .leaflet-image-layer")]
                .filter((tile) => tile.src.includes("/cupola/") && tile.complete && tile.naturalWidth > 1).length > 0"""
        )
    else:
        page.locator("canvas").first.wait_for()
        end = time.monotonic() + SECONDS
        while not page.tiles:
            assert time.monotonic() < end, "no tile of the sky came"
            page.wait_for_timeout(200)
    said = page.locator(".cupola-explorer-line").first
    playwright.expect(said).not_to_have_text("")
    assert said.locator("[role=alert]").count() == 0, said.inner_text()
    return said.inner_text()


EXPLORERS = {
    "collections": ("tiles", "items"),
    "sentinel-2": ("tiles", "scenes"),
    "terrain": ("tiles", "Hillshade"),
    "planets": ("tiles", "Mars"),
    "air-quality": ("tiles", "Difference"),
    "sky": ("canvas", "images"),
}


def use(page, name):
    """Use a dashboard as a scientist does; wait until what was asked for is there."""
    said = page.locator(".cupola-explorer-line").first
    if name == "air-quality":
        page.get_by_role("button", name="Measure the regions").click()
        playwright.expect(said).to_contain_text("regions were seen in both periods")
        page.locator(".js-plotly-plot .bars .point").first.wait_for()
    elif name == "sentinel-2":
        page.get_by_label("Show", exact=True).select_option("NDVI")
        playwright.expect(said).to_contain_text("NDVI")
        # Where the clouds are depends on where the map has come to rest.
        for place in ((0.5, 0.5), (0.62, 0.6), (0.42, 0.6), (0.56, 0.42)):
            before = said.inner_text()
            click_map(page, *place)
            playwright.expect(said).not_to_have_text(before)
            if "nothing to plot" not in said.inner_text():
                break
        page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for()
    elif name == "terrain":
        page.get_by_label("A click gives").select_option("profile")
        click_map(page, 0.45, 0.5)
        playwright.expect(said).to_contain_text("click where it shall end")
        click_map(page, 0.6, 0.5)
        playwright.expect(said).to_contain_text("km long")
        page.locator(".js-plotly-plot .scatterlayer .js-line").first.wait_for()
    elif name == "planets":
        page.get_by_label("Body", exact=True).select_option("Venus")
        playwright.expect(said).to_contain_text("no images of Venus")
        page.locator(".cupola-name", has_text="Maxwell Montes").wait_for()
        page.get_by_label("Body", exact=True).select_option("Mars")
        playwright.expect(said).to_contain_text("Mars: ")
        for _ in range(3):
            page.get_by_role("button", name="Zoom out").click()
            page.wait_for_timeout(500)
        page.locator(".cupola-name", has_text="Syrtis Major").wait_for()
    elif name == "sky":
        page.get_by_role("button", name="Find sources").click()
        playwright.expect(said).to_contain_text("sources in")


def click_map(page, right, down):
    """Click on a map, at parts of its width and height."""
    box = page.locator(".leaflet-container").first.bounding_box()
    page.mouse.click(box["x"] + right * box["width"], box["y"] + down * box["height"])


@pytest.mark.parametrize("name", EXPLORERS)
def test_an_explorer_is_a_dashboard_without_code(page, server, name):
    drawn, word = EXPLORERS[name]
    page.goto(f"{server.url}voila/render/examples/explorers/{name}.ipynb?token={server.token}")
    assert word in shown(page, drawn)
    assert page.get_by_text("model not found").count() == 0
    use(page, name)
    assert page.locator(".cupola-explorer-line [role=alert]").count() == 0
    assert "cupola.explorers" not in page.locator("body").inner_text()
    assert page.strangers == []
    keep(page, name)


def test_an_explorer_runs_as_a_notebook_in_the_lab(page, server):
    page.goto(f"{server.url}lab/tree/examples/explorers/terrain.ipynb?token={server.token}")
    page.locator(".jp-StatusBar-TextItem", has_text=re.compile(r"\| Idle")).wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
    assert "Hillshade" in shown(page, "tiles")
    page.get_by_label("Show", exact=True).select_option("Slope")
    playwright.expect(page.locator(".cupola-explorer-line")).to_contain_text("Slope")
    page.wait_for_function(
        """() => [...document.querySelectorAll("img.leaflet-tile, .leaflet-image-layer")]
            .some((tile) => tile.src.includes("cmap=magma") && tile.complete && tile.naturalWidth > 1)"""
    )
    keep(page, "terrain-notebook")

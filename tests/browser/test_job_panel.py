"""The job panel in a real JupyterLab in a real Chromium, with the real portal behind the session's relay."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nbformat
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import cupola.lab
from support.jobs_portal import Portal
from support.pages import by_tiles
from support.ports import free_port

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
SETTINGS = Path(cupola.lab.__file__).parent / "settings"
SECONDS = 240

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(600),
]

CELL = """
import os, time
import cupola

def check(name):
    print("checking", name)
    x = int(name[6:-4])
    while not os.path.exists("go") and x > 20:
        time.sleep(0.02)
    if x % 10 == 3 and not os.path.exists("mended"):
        while not os.path.exists("fail"):
            time.sleep(0.02)
        raise ValueError("scene is broken")
    return x

job = cupola.map(check, [f"scene-{x}.tif" for x in range(40)], name="check-scenes", chunk=1)
job
"""


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    made = Portal(tmp_path_factory.mktemp("platform"))
    made.start()
    yield made
    made.close()


class Lab:
    def __init__(self, port, token, folder):
        self.url, self.token, self.folder = f"http://127.0.0.1:{port}/user/ada/lab-1/", token, folder

    def notebook(self, name, *cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.folder / f"{name}.ipynb")
        return f"{self.url}lab/workspaces/{name}/tree/{name}.ipynb?token={self.token}"


@pytest.fixture(scope="module")
def lab(portal, tmp_path_factory):
    folder, work = tmp_path_factory.mktemp("lab"), portal.home / "work"
    work.mkdir()
    made = Lab(free_port(), secrets.token_hex(), work)
    quiet = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text('{"fetchNews": "false"}')
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "CUPOLA"))},
        "HOME": str(portal.home),
        "CUPOLA_API_URL": portal.url,
        "JUPYTERHUB_API_TOKEN": "anybody",
        "CUPOLA_RUNTIME": str(portal.home / ".cupola"),
        "JUPYTER_TOKEN": made.token,
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "IPYTHONDIR": str(folder / "ipython"),
        # As `cupola.lab.session` sets it.
        "JUPYTER_CONFIG_PATH": str(SETTINGS),
    }
    command = [
        sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser",
        f"--port={httpx.URL(made.url).port}", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/user/ada/lab-1/", f"--ServerApp.root_dir={work}",
        "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
        # Takes seconds to load, and has nothing to do here.
        "--ServerApp.jpserver_extensions", "voila.server_extension=False",
    ]  # fmt: skip
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + SECONDS
        while not _answers(made):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield made
    finally:
        process.terminate()
        process.wait(60)


def _answers(lab):
    try:
        return httpx.get(f"{lab.url}api/status", params={"token": lab.token}).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def page():
    options = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=options)
        opened = browser.new_page(viewport={"width": 1280, "height": 1100})
        opened.set_default_timeout(SECONDS * 1000)
        by_tiles(opened)
        yield opened
        browser.close()


def test_the_panel_shows_the_job_while_the_kernel_is_busy_and_controls_it(lab, page):
    expect = playwright.expect
    expect.set_options(timeout=SECONDS * 1000)
    page.goto(lab.notebook("panel", CELL, "time.sleep(600)"))
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    panel = page.locator("section.cupola-job")
    panel.wait_for()
    page.keyboard.press("Shift+Enter")  # from now on the kernel does nothing else
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for(state="attached")

    expect(panel.locator("h3")).to_have_text("check-scenes")
    expect(panel.locator(".state")).to_have_text("running")
    # The panel is there before anything fails: what fails shows itself all the same.
    canvas = panel.locator("canvas.grid")
    expect(canvas).to_have_attribute("aria-label", re.compile("^40 tasks: 12 done, 2 running, 26 queued. "))
    (lab.folder / "fail").touch()
    expect(panel.locator("details summary").first).to_have_text("2 inputs failed")
    expect(panel.locator(".group code")).to_contain_text('raise ValueError("scene is broken")')
    expect(panel.locator(".group")).to_contain_text("2 inputs: 3, 13; first scene-3.tif")
    panel.get_by_text("Traceback of input 3").click()
    expect(panel.locator(".group pre")).to_contain_text("ValueError: scene is broken")
    expect(panel).to_contain_text("runs on local")
    expect(panel).to_contain_text(re.compile(r"memory: at most \d+ of 1,024 MiB"))
    expect(panel.locator(".hints")).to_contain_text("ask for memory=")
    panel.locator(".group button").click()
    expect(panel.locator(".works")).to_contain_text(
        "Task 3 is failed and works on 1 input:Input 3: scene-3.tif failed"
    )
    expect(panel.locator("pre").last).to_have_text("checking scene-3.tif\n")

    expect(canvas).to_have_attribute("aria-label", "40 tasks: 19 done, 2 running, 2 failed, 17 queued. "
                                                   "Arrow keys choose one, Enter shows its log.")  # fmt: skip
    canvas.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    expect(panel.locator(".grid-tip")).to_have_text("Task 2: done")
    page.keyboard.press("Enter")
    expect(panel.locator("pre").last).to_have_text("checking scene-2.tif\n")
    # One state alone: then the arrow keys go from one of its tasks to the next.
    panel.get_by_role("button", name="2 failed").click()
    canvas.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".grid-tip")).to_have_text("Task 13: failed")
    panel.get_by_role("button", name="2 failed").click()
    if pictures := os.environ.get("CUPOLA_PICTURES"):
        panel.screenshot(path=Path(pictures) / "job-panel.png")


def test_the_buttons_say_what_they_do_and_do_it(lab, page):
    expect = playwright.expect
    panel = page.locator("section.cupola-job")
    canvas = panel.locator("canvas.grid")
    hold = panel.get_by_role("button", name="Hold")
    hold.focus()
    expect(panel.get_by_text("Stop the job until you release it")).to_be_visible()
    expect(panel.get_by_role("button", name="Retry")).to_be_disabled()
    page.keyboard.press("Enter")
    expect(panel.locator(".state")).to_have_text("held")
    expect(canvas).to_have_attribute("aria-label", re.compile("19 done, 2 failed, 19 held"))
    (lab.folder / "go").touch()
    panel.get_by_role("button", name="Release").click()
    expect(panel.locator(".state")).to_have_text("partly failed")
    expect(panel.locator(".reason")).to_have_text("4 of 40 inputs failed.")
    (lab.folder / "mended").touch()
    panel.get_by_role("button", name="Retry").click()
    expect(panel.locator(".state")).to_have_text("done")
    expect(panel.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    for name in ("Hold", "Release", "Retry", "Cancel"):
        expect(panel.get_by_role("button", name=name, exact=True)).to_be_disabled()


def test_the_page_of_the_job_shows_the_same(portal, page):
    expect = playwright.expect
    job = httpx.get(f"{portal.url}/jobs").json()["items"][0]["id"]
    told = httpx.get(f"{portal.url}/jobs/{job}/grid").json()
    pages = page.context.browser.new_page()
    pages.goto(f"{portal.url.removesuffix('/api')}/jobs?state=done&text=SCENES")
    pages.get_by_role("link", name="check-scenes").click()
    panel = page.locator("section.cupola-job")
    for shown in (panel, pages):
        expect(shown.locator("canvas.grid")).to_have_attribute(
            "aria-label", re.compile("^40 tasks: 40 done. ")
        )
        expect(shown.locator(".hints li")).to_have_text(told["hints"])
    pages.locator("canvas.grid").focus()
    pages.keyboard.press("Home")
    pages.keyboard.press("Enter")
    expect(pages.get_by_role("heading", name="Task 0")).to_be_visible()
    expect(pages.locator("main")).to_contain_text("scene-0.tif")
    pages.goto(f"{portal.url.removesuffix('/api')}/jobs?state=failed")
    expect(pages.locator("main")).to_contain_text("None of your jobs fits")
    pages.close()


def test_the_panel_says_when_the_portal_is_away_and_goes_on(portal, page):
    expect = playwright.expect
    panel = page.locator("section.cupola-job")
    portal.kill()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(panel.get_by_role("alert")).to_have_text("The portal does not answer now; the job runs on.")
    portal.start()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(panel.get_by_role("alert")).to_be_hidden()


def test_the_panel_lives_again_when_the_saved_notebook_is_opened_without_its_kernel(lab, page):
    expect = playwright.expect
    page.keyboard.press("Control+s")
    saved = lab.folder / "panel.ipynb"
    wait(lambda: keeps_its_widgets(saved))
    signed = {"Authorization": f"token {lab.token}"}
    for session in httpx.get(f"{lab.url}api/sessions", headers=signed).json():
        httpx.delete(f"{lab.url}api/sessions/{session['id']}", headers=signed).raise_for_status()
    page.goto(f"{lab.url}lab/workspaces/again/tree/panel.ipynb?token={lab.token}")
    panel = page.locator("section.cupola-job")
    expect(panel.locator(".state")).to_have_text("done")
    # It asks for the grid itself: nothing of it is in the notebook.
    expect(panel.locator("canvas.grid")).to_have_attribute("aria-label", re.compile("^40 tasks: 40 done. "))


def keeps_its_widgets(file):
    """Say whether the state of each widget that a cell shows is in the file: an earlier save may have had less."""
    try:
        notebook = nbformat.read(file, 4)
    except (
        nbformat.reader.NotJSONError
    ):  # It is being written this moment: Jupyter writes into the file itself.
        return False
    kind = "application/vnd.jupyter.widget-{}+json"
    shown = [
        output.data[kind.format("view")].model_id
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if kind.format("view") in output.get("data", {})
    ]
    kept = notebook.metadata.get("widgets", {}).get(kind.format("state"), {}).get("state", {})
    return bool(shown) and kept.keys() >= set(shown)


def wait(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_the_relay_passes_on_jobs_only_and_only_for_the_owner_of_the_session(lab, portal):
    job = httpx.get(f"{portal.url}/jobs").json()["items"][0]["id"]
    root = f"{lab.url}cupola/api/jobs/{job}"
    signed = {"Authorization": f"token {lab.token}"}
    assert httpx.get(root).status_code == 403
    assert httpx.get(root, headers=signed).json()["name"] == "check-scenes"
    assert httpx.get(f"{root}/tasks/3/log", headers=signed).text.startswith("checking scene-3.tif\n")
    assert httpx.get(f"{root}/tasks/3", headers=signed).json()["labels"] == ["scene-3.tif"]
    grid = httpx.get(f"{root}/grid", headers=signed)
    again = httpx.get(f"{root}/grid", headers={**signed, "If-None-Match": grid.headers["etag"]})
    assert (grid.status_code, again.status_code, again.content) == (200, 304, b"")
    assert httpx.get(f"{lab.url}cupola/api/notifications/unread", headers=signed).json()["newest"] >= 1
    assert httpx.get(f"{lab.url}cupola/api/notifications/settings", headers=signed).status_code == 404
    assert httpx.get(f"{root}/results/3", headers=signed).status_code == 404
    assert httpx.get(f"{lab.url}cupola/api/jobs/../me", headers=signed).status_code == 404
    assert httpx.get(f"{lab.url}cupola/api/jobs/%2e%2e/me", headers=signed).status_code == 404
    assert httpx.post(f"{root}/delete", headers=signed).status_code == 404
    assert httpx.delete(root, headers=signed).status_code == 405
    refused = httpx.post(f"{root}/retry", headers=signed)
    assert (refused.status_code, refused.json()["detail"].partition(":")[2]) == (
        409,
        " nothing is left to retry.",
    )
    assert refused.headers["content-type"] == "application/problem+json"

    with httpx.Client() as browser:  # by cookie alone: another site's page could send this
        browser.get(f"{lab.url}lab", params={"token": lab.token})
        assert browser.get(root).status_code == 200
        assert browser.post(f"{root}/retry").status_code == 403


PRODUCTS = """
import os, cupola

def slowly(band):
    import time
    while band.max() > 1 and not os.path.exists("shown"):
        time.sleep(0.05)
    return band * 2

job = cupola.open("scenes").preview().map(slowly).run("doubled", chunk=1)
job
"""


def test_products_come_on_a_map_below_the_panel(lab, page):
    expect = playwright.expect
    (lab.folder / "scenes").mkdir()
    for number in (1, 2):
        place = {"crs": "EPSG:3857", "transform": from_origin(64_000 * number, 64_000, 1000, 1000)}
        with rasterio.open(
            lab.folder / "scenes" / f"scene-{number}.tif", "w", driver="GTiff", width=64, height=64, count=1,
            dtype="float32", **place,
        ) as file:  # fmt: skip
            file.write(np.full((64, 64), number, dtype="float32"), 1)
    page.goto(lab.notebook("products", PRODUCTS))
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    panel = page.locator("section.cupola-job")
    expect(panel.locator(".numbers").first).to_contain_text("1 of 2 done")
    panel.get_by_role("button", name="Show on a map").click()
    expect(panel.locator(".products")).to_contain_text("The map is below; new products come by themselves.")
    tile = page.locator(".leaflet-tile-loaded").first
    tile.wait_for(state="attached")
    first = revision(tile)
    (lab.folder / "shown").touch()
    expect(panel.locator(".state")).to_have_text("done")
    wait(lambda: revision(tile) != first)
    if pictures := os.environ.get("CUPOLA_PICTURES"):
        page.locator(".jp-Cell-outputWrapper").first.screenshot(path=Path(pictures) / "job-panel-map.png")


def revision(tile):
    """Return the part of a tile's address that changes with the products."""
    return re.search("v=([0-9a-f]+)", tile.get_attribute("src"))[1]

"""The job panel in a real JupyterLab in a real Chromium, with the real portal behind the session's relay."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nbformat
import pytest

from support.jobs_portal import Portal
from support.ports import free_port

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = Path("/usr/bin/chromium")
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

def check(x):
    print("checking", x)
    while not os.path.exists("go") and x > 20:
        time.sleep(0.02)
    if x % 10 == 3 and not os.path.exists("mended"):
        raise ValueError("scene is broken")
    return x

job = cupola.map(check, range(40), name="check-scenes")
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
    }
    command = [
        sys.executable, "-m", "jupyter", "lab", "--allow-root", "--no-browser",
        f"--port={httpx.URL(made.url).port}", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/user/ada/lab-1/", f"--ServerApp.root_dir={work}",
        "--ServerApp.jpserver_extensions", "cupola.lab.extension=True",
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
    expect(panel.locator("details summary").first).to_have_text("2 inputs failed")
    expect(panel.locator(".group code")).to_contain_text('raise ValueError("scene is broken")')
    expect(panel.locator(".group")).to_contain_text("2 inputs: 3, 13")
    panel.get_by_text("Traceback of input 3").click()
    expect(panel.locator(".group pre")).to_contain_text("ValueError: scene is broken")

    canvas = panel.locator("canvas")
    expect(canvas).to_have_attribute("aria-label", "40 tasks: 19 done, 2 running, 2 failed, 17 queued. "
                                                   "Arrow keys choose one, Enter shows its log.")  # fmt: skip
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(panel.locator("pre").last).to_have_text("checking 3\n")
    if pictures := os.environ.get("CUPOLA_PICTURES"):
        panel.screenshot(path=Path(pictures) / "job-panel.png")

    panel.get_by_role("button", name="Hold").click()
    expect(panel.locator(".state")).to_have_text("held")
    (lab.folder / "go").touch()
    panel.get_by_role("button", name="Release").click()
    expect(panel.locator(".state")).to_have_text("partly failed")
    expect(panel.locator(".reason")).to_have_text("4 of 40 inputs failed.")
    (lab.folder / "mended").touch()
    panel.get_by_role("button", name="Retry").click()
    expect(panel.locator(".state")).to_have_text("done")
    expect(panel.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "40")
    for name in ("Hold", "Release", "Retry", "Cancel"):
        expect(panel.get_by_role("button", name=name, exact=True)).to_be_hidden()


def test_the_panel_says_when_the_portal_is_away_and_goes_on(portal, page):
    expect = playwright.expect
    panel = page.locator("section.cupola-job")
    portal.kill()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(panel.get_by_role("alert")).to_have_text("The portal does not answer now; the job runs on.")
    portal.start()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(panel.get_by_role("alert")).to_be_hidden()


def test_the_relay_passes_on_jobs_only_and_only_for_the_owner_of_the_session(lab, portal):
    job = httpx.get(f"{portal.url}/jobs").json()["items"][0]["id"]
    root = f"{lab.url}cupola/api/jobs/{job}"
    signed = {"Authorization": f"token {lab.token}"}
    assert httpx.get(root).status_code == 403
    assert httpx.get(root, headers=signed).json()["name"] == "check-scenes"
    assert httpx.get(f"{root}/tasks/3/log", headers=signed).text.startswith("checking 3\n")
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

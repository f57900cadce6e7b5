"""A notebook becomes a job in the Lab of a real session, in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from support.pages import CHROMIUM, chromium_with

playwright = pytest.importorskip("playwright.sync_api")

SECOND = 1000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(600),
]


@pytest.fixture
def page():
    with chromium_with() as chromium:
        opened = chromium.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(120 * SECOND)
        yield opened


@pytest.fixture
def folder(platform):
    """A folder in the home of the owner."""
    place = platform.paths.home("ada") / "dust"
    place.mkdir(parents=True, exist_ok=True)
    yield place
    shutil.rmtree(place)


def write(path, *cells):
    """Write a notebook whose first cell has the tag."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[0].metadata["tags"] = ["parameters"]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


def picture(page, name):
    if pictures := os.environ.get("CUPOLA_PICTURES"):
        page.screenshot(path=Path(pictures) / f"{name}.png")


def test_a_notebook_becomes_a_job_and_its_result_opens(platform, page, folder):
    page.goto(platform.link())
    page.wait_for_url("**/services/cupola/")
    page.get_by_role("button", name=re.compile("play|start|launch|open", re.IGNORECASE)).first.click()
    page.wait_for_url(re.compile(r"/user/ada/[^/]+/lab"))
    root = re.match(r".*/user/ada/[^/]+", page.url)[0]
    session = root.rpartition("/")[2]
    try:
        run_as_job(platform, page, root, folder)
        be_asked_before_the_stop(platform, page, root, folder)
    finally:
        page.goto(f"{platform.address}/services/cupola/sessions/{session}")
        page.get_by_role("button", name="Stop", exact=True).click()
        page.get_by_role("button", name="Stop it").click()


def run_as_job(platform, page, root, folder):
    """Start a notebook with another parameter, and open what came of it."""
    expect = playwright.expect
    cells = [
        "year = 2019  # of the scene\nband = 'B04'",
        "import os\nprint('seen:', year, band, os.getcwd()[-5:])",
    ]
    notebook = write(folder / "storm.ipynb", *cells)
    page.goto(f"{root}/lab/workspaces/storm/tree/dust/storm.ipynb")
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="Run this notebook as a job").click()
    form = page.locator(".cupola-notebook-job")
    expect(form.locator("input[name=parameters-band]")).to_have_value("'B04'")
    expect(form.locator("select[name=options-engine] option")).to_have_text("This platform")
    expect(form).to_contain_text("a task gets at most")
    form.locator("input[name=parameters-year]").fill("2031")
    picture(page, "notebook-job-form")
    page.locator(".jp-Dialog").get_by_role("button", name="Run as a job").click()
    page.get_by_role("button", name="Open the result").click()
    page.locator(".jp-Notebook", has_text="seen: 2031 B04 /dust").wait_for()
    picture(page, "notebook-job-result")
    assert "2031" not in notebook.read_text()
    (result,) = folder.glob("storm.job-*.ipynb")
    page.goto(f"{platform.address}/services/cupola/jobs/{result.name.split('.')[1]}")
    expect(page.get_by_role("heading", name="storm").first).to_be_visible()


def be_asked_before_the_stop(platform, page, root, folder):
    """Let a cell run, press Stop on the page of sessions, and take the offer to make a job of its notebook."""
    expect = playwright.expect
    write(folder / "long one.ipynb", "import time\nprint('be' + 'gun', flush=True)\ntime.sleep(600)")
    page.goto(f"{root}/lab/workspaces/long/tree/dust/long one.ipynb")
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.get_by_text("begun", exact=True).wait_for()
    page.goto(f"{platform.address}/services/cupola/sessions/{root.rpartition('/')[2]}")
    expect(page.get_by_text("Computing: dust/long one.ipynb.")).to_be_visible()
    page.get_by_role("button", name="Stop", exact=True).click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text(
        "It computes now: dust/long one.ipynb. A job goes on without the session."
    )
    picture(page, "notebook-job-stop")
    question.get_by_role("link", name="Run it as a job instead").click()
    form = page.get_by_role("dialog")
    expect(form).to_contain_text("Run long one.ipynb as a job")
    expect(form).to_contain_text("what the kernel computes now is not carried over")
    picture(page, "notebook-job-instead")
    page.locator(".jp-Dialog").get_by_role("button", name="Cancel").click()

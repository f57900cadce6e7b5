"""The founding case: the README's four lines in a real Lab, on this machine and on a real HTCondor pool.

A function over every file of a collection, watched in the panel, its products on a map. Which engine it is the operator decides, in
``cupola.yaml``: the notebook is the same, word by word.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import rasterio
from PIL import Image

from support import groups
from support.pages import CHROMIUM, by_tiles, chromium_with
from support.platform import Platform

playwright = pytest.importorskip("playwright.sync_api")

SECOND = 1000
LINES = 4
SCENES = 6
"""What the sample archive has of the collection."""
HISTORY = """
new MutationObserver(() => {
  for (const one of document.querySelectorAll("section.cupola-job .state")) {
    window.seen ??= [];
    if (window.seen.at(-1) !== one.textContent) window.seen.push(one.textContent);
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""
"""Writes down what the panel says, one after the other: a look now and then could come too late."""

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
        # All of the notebook is to be seen at once.
        opened = chromium.new_page(viewport={"width": 1280, "height": 1680})
        opened.set_default_timeout(90 * SECOND)
        opened.add_init_script(HISTORY)
        by_tiles(opened)  # both maps the same way
        yield opened


@pytest.fixture
def place(tmp_path, htcondor_pool):
    """A platform with both engines; `engines` says which of them runs what names none."""
    made = Platform(tmp_path / "platform", sample_archive=True)
    made.before = made.config_file.read_text()
    made.pool = htcondor_pool
    yield made
    made.clean()


def engines(place, default):
    lines = place.pool.yaml.replace("default: htcondor", f"default: {default}")
    place.config_file.write_text(f"{place.before}{lines}")


def cells_of(readme):
    """Return the cells of the README's example: the import, and each of its four lines."""
    (example,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), flags=re.DOTALL)
    first, lines = example.strip().split("\n\n")
    assert first == "import cupola"
    assert len(lines.splitlines()) == LINES
    return [first, *lines.splitlines()]


def test_the_four_lines_are_the_same_on_htcondor(place, page, repository):
    cells = cells_of(repository / "README.md")
    shown, products = {}, {}
    for engine in ("local", "htcondor"):
        engines(place, engine)
        place.start()
        page.goto(place.link())
        root = f"{place.address}/services/cupola"
        page.wait_for_url(f"{root}/**")
        lab = groups.play(page, root)
        shown[engine] = run(page, lab, place.paths.home("ada"), engine, cells)
        (job,) = groups.portal(page, root, "GET", "jobs")["items"][:1]
        assert (job["engine"], job["state"], job["counts"]["done"]) == (engine, "done", SCENES)
        products[engine] = pixels_of(Path(job["products"]))
        place.stop()
    # The schedd may have more to do than the job, which ends with its last result.
    groups.wait_until(
        lambda: history(place.pool).count(f"{job['id']} ada 0") == SCENES,
        "HTCondor knows that its tasks ended",
    )
    same(products["local"], products["htcondor"])
    for one, other in zip(shown["local"], shown["htcondor"], strict=True):
        assert np.array_equal(one, other), "the maps differ"
    # What was computed for the view lies where the products lie.
    before, after = (coloured(pixels) for pixels in shown["htcondor"])
    assert (before == after).mean() > 0.99


def run(page, lab, home, engine, cells):
    """Run the cells in the Lab and look at them as a person does; return both maps as they are seen."""
    expect = playwright.expect
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, home / "founding.ipynb")
    page.goto(f"{lab}/workspaces/founding/tree/founding.ipynb?reset")
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    panel = page.locator("section.cupola-job")
    panel.wait_for()
    expect(panel).to_contain_text(f"runs on {engine}")
    expect(panel.locator(".state")).to_have_text("done", timeout=90 * SECOND)
    expect(panel.locator("canvas.grid")).to_have_attribute(
        "aria-label", re.compile(f"^{SCENES} tasks: {SCENES} done")
    )
    seen = page.evaluate("window.seen")
    assert seen[0] in {"queued", "running"}, seen
    panel.get_by_role("button", name="Show on a map").click()
    expect(page.locator(".leaflet-container")).to_have_count(2)
    whole(page)
    if (pictures := os.environ.get("CUPOLA_PICTURES")) and engine == "htcondor":
        page.locator(".jp-NotebookPanel").screenshot(path=Path(pictures) / "engines.png")
    return [seen_on(page, number) for number in range(2)]


def whole(page):
    """Wait until both maps have all their tiles, and these have faded in."""
    page.wait_for_function(
        """() => [...document.querySelectorAll(".leaflet-container")].every((map) => {
          const tiles = [...map.querySelectorAll("img.leaflet-tile")];
          return tiles.length > 0 && tiles.every((tile) => tile.complete && getComputedStyle(tile).opacity === "1");
        })"""
    )


def seen_on(page, number):
    """Return what a map shows, without what lies on it."""
    hidden = page.add_style_tag(content=".leaflet-control-container {visibility: hidden}")
    shown = page.locator(".leaflet-container").nth(number)
    # Between two rows of pixels it would look different each time.
    shown.evaluate(
        "map => { const { y } = map.getBoundingClientRect(); map.style.marginTop = `${Math.ceil(y) - y}px`; }"
    )
    picture = shown.screenshot()
    hidden.evaluate("one => one.remove()")
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    # The archive takes more than an eighth of the map, in many colours.
    colours = pixels[coloured(pixels)]
    assert len(colours) > pixels[..., 0].size / 8
    assert len(np.unique(colours, axis=0)) > 100
    return pixels


def coloured(pixels):
    """Return where something lies: the ground of a map is of one grey."""
    return (pixels != pixels[..., :1]).any(axis=-1)


def history(pool):
    """Return what the schedd remembers of the procs that have ended: job, owner, exit code."""
    schedd = pool.tool("condor_status", "-schedd", "-af", "Name").strip()
    said = pool.tool("condor_history", "-name", schedd, "-af", "JobBatchName", "CupolaOwner", "ExitCode")
    return said.splitlines()


def pixels_of(folder):
    """Return the pixels of the products in a folder, by the name of the file."""
    found = {}
    for file in sorted(folder.rglob("*.tif")):
        with rasterio.open(file) as opened:
            found[file.name] = opened.read(1)
    assert len(found) == SCENES, folder
    return found


def same(one, other):
    assert one.keys() == other.keys()
    for name, pixels in one.items():
        assert np.isfinite(pixels).mean() > 0.3, name
        assert np.array_equal(pixels, other[name], equal_nan=True), name

"""The tools of maps in a real JupyterLab in a real Chromium: all of them work while the kernel is busy."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from support.axe import axe, violations
from support.map_lab import MARKS, Lab, browser, lab, page, picture, run_all, tiles, wait_for, wait_for_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

__all__ = ["axe", "browser", "lab", "page"]

pytestmark = MARKS

DATES = ("2019-03-10", "2019-06-10", "2020-03-10")
STEP = 0.01


@pytest.fixture
def series(lab: Lab) -> Path:
    """Three images of one degree at the equator: values are columns, and more by 100 each time."""
    folder = lab.folder / "series"
    folder.mkdir(exist_ok=True)
    for number, date in enumerate(DATES):
        path = folder / f"s{number}.tif"
        with rasterio.open(
            path, "w", driver="GTiff", width=100, height=100, count=1, dtype="float32", crs="EPSG:4326",
            transform=from_origin(0, 0.5, STEP, STEP),
        ) as file:  # fmt: skip
            file.write(np.tile(np.arange(100, dtype="float32") + 100 * number, (100, 1)), 1)
        item = {
            "type": "Feature", "stac_version": "1.0.0", "id": f"s{number}", "geometry": None, "links": [],
            "bbox": [0, -0.5, 1, 0.5], "properties": {"datetime": f"{date}T10:00:00Z"},
            "assets": {"value": {"href": path.name, "type": "image/tiff; application=geotiff", "roles": ["data"]}},
        }  # fmt: skip
        (folder / f"s{number}.json").write_text(json.dumps(item))
    return folder


def strangers(page: Page, lab: Lab) -> list[str]:
    """Return a list that will hold what the page asks of other machines."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if _is_strange(request.url, lab) else None)
    return asked


def _is_strange(url: str, lab: Lab) -> bool:
    return url.startswith(("http", "ws")) and url.split("/")[2] != lab.url.split("/")[2]


def busy(page: Page) -> bool:
    return page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").count() > 0


def centre(page: Page, number: int = 0) -> tuple[float, float]:
    box = page.locator(".leaflet-container").nth(number).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def seen(page: Page, number: int = 0) -> np.ndarray[Any, Any]:
    """Return what a map of the page shows, in the state it is in."""
    shot = page.locator(".leaflet-container").nth(number).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def test_all_tools_work_while_the_kernel_is_busy(page: Page, lab: Lab, series: Path, axe: str) -> None:  # noqa: PLR0915
    asked = strangers(page, lab)
    address = lab.notebook(
        "tools",
        "import cupola, os",
        f"s = cupola.open({str(series)!r})\n"
        "m = cupola.Map(zoom=9, center=(0, 0.5))\n"
        "m.add(s['value'], name='one', unit='K', cmap='gray', vmin=0, vmax=400, way='tiles')\n"
        "m.add(-s['value'], name='two', cmap='gray', vmin=-400, vmax=0, way='tiles'); m",
        f"while not os.path.exists({str(lab.folder / 'go')!r}): pass",
        "print('STYLE', m.chain_layers[-1].style.cmap, [layer.name for layer in m.chain_layers], m.drawn['type'],"
        " m._controls.probed['layers'][0]['values'], m._controls.measured['layers'][0]['bands'][0]['count'] > 0)",
    )
    run_all(page, address)
    wait_for_tiles(page)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for(state="attached")
    page.get_by_role("button", name="Layers and tools").click()
    panel = page.locator(".cupola-panel-body")
    # The newest image lies on top: 200 to 299, so the upper layer is mid-grey.
    panel.get_by_role("button", name="Stretch to view").first.click()
    wait_for(lambda: page.locator(".cupola-ends").first.inner_text() not in {"-400\n0", "…"})
    low, high = (float(text) for text in page.locator(".cupola-ends").first.inner_text().split("\n"))
    assert (low, high) == (pytest.approx(-298, abs=3), pytest.approx(-201, abs=3))
    wait_for_tiles(page, "vmin=-29")
    row = seen(page)[centre_row(page) + 60, :, 0].astype(int)
    # 364 pixels are a degree; the panel lies over the east of the image.
    middle = row.size // 2
    assert row[middle - 175] > 200
    assert row[middle + 120] < 60
    # Colours, by keyboard; then the lower layer comes up.
    panel.get_by_label("Colours of two").select_option("viridis")
    wait_for_tiles(page, "cmap=viridis")
    up = panel.get_by_role("button", name="Move one up")
    up.focus()
    page.keyboard.press("Enter")
    page.locator(".cupola-control", has_text="one").first.wait_for()
    wait_for(lambda: seen(page)[centre_row(page), :, 0].std() > 0 and is_grey(page))
    # The line between two layers, moved by arrow keys: viridis is left of it, grey right.
    panel.get_by_label("Swipe: left of the line").select_option(label="two")
    panel.get_by_label("Swipe: right of the line").select_option(label="one")
    slider = page.get_by_label("Swipe between two layers")
    slider.focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    line = seen(page)[centre_row(page) + 60]
    width = line.shape[0]
    assert np.ptp(line[int(width * 0.53)]) > 20, "viridis is no grey"
    assert np.ptp(line[int(width * 0.55)]) == 0
    panel.get_by_label("Swipe: left of the line").select_option(label="off")
    # Values under a click, and over time.
    x, y = centre(page)
    page.mouse.click(x - 60, y - 60)
    value = page.locator(".cupola-probe", has_text="one").locator(".cupola-value")
    wait_for(lambda: re.fullmatch(r"2\d\d K", value.inner_text()) is not None, value.inner_text)
    assert page.locator(".leaflet-popup .cupola-plot").count() == 2
    page.keyboard.press("Escape")
    page.locator(".leaflet-popup-close-button").click()
    # Statistics of a rectangle.
    panel.get_by_role("button", name="Rectangle").click()
    page.mouse.move(x - 90, y - 40)
    page.mouse.down()
    page.mouse.move(x - 30, y + 20, steps=4)
    page.mouse.up()
    card = page.locator(".cupola-card")
    wait_for(lambda: "median" in card.inner_text() and "Computing" not in card.inner_text(), card.inner_text)
    assert card.locator(".cupola-plot").count() == 4, "a histogram and a series for each layer"
    page.screenshot(path=lab.pictures / "map-tools.png")
    assert busy(page)
    assert violations(page, axe, ".leaflet-container") == []
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    assert asked == []
    # What was chosen and found is known to the kernel once it has time.
    (lab.folder / "go").touch()
    said = page.locator(".jp-OutputArea-output", has_text="STYLE")
    said.wait_for()
    text = said.inner_text()
    assert re.search(r"STYLE viridis|STYLE gray", text)
    assert "['two', 'one']" in text
    assert "Polygon" in text
    assert text.rstrip().endswith("True")


def centre_row(page: Page) -> int:
    box = page.locator(".leaflet-container").bounding_box()
    assert box is not None
    return int(box["height"] / 2)


def is_grey(page: Page) -> bool:
    row = seen(page)[centre_row(page) + 60].astype(int)
    return bool((np.ptp(row, axis=1) <= 2).mean() > 0.9)


def polar(shot: np.ndarray[Any, Any], longitude: float, latitude: float) -> np.ndarray[Any, Any]:
    """Return the colour of a place in a picture of the northern hemisphere at level 1, the pole in its middle."""
    height, width = shot.shape[:2]
    radius = np.tan(np.radians(90 - latitude) / 2) / np.tan(np.radians(30)) * 256
    angle = np.radians(longitude)
    return shot[height // 2 + round(radius * np.cos(angle)), width // 2 + round(radius * np.sin(angle))]


def test_what_lies_below_and_above_on_other_grids(page: Page, lab: Lab) -> None:
    asked = strangers(page, lab)
    raw = lab.folder / "raw"
    raw.mkdir(exist_ok=True)
    for number in (1, 2):
        values = np.full((200, 300), 50 * number, dtype=np.uint8)
        values[:100, 200:] = 250
        with rasterio.open(
            raw / f"r{number}.tif", "w", driver="GTiff", width=300, height=200, count=1, dtype="uint8"
        ) as file:
            file.write(values, 1)
    square = {"type": "Polygon", "coordinates": [[[130, -10], [145, -10], [145, 0], [130, 0], [130, -10]]]}
    address = lab.notebook(
        "grids",
        "import cupola\npole = cupola.Map(body='Earth', projection='npolar', basemap='land', graticule=True, height='300px', zoom=1, center=(90, 0))\npole",
        "mars = cupola.Map(body='Mars', basemap='usgs', height='300px')\n"
        f"mars.add({{'type': 'Feature', 'properties': {{'name': 'Aeolis'}}, 'geometry': {square}}}, name='quadrangle')\nmars",
        f"raw = cupola.Map(height='300px').add(cupola.open({str(raw)!r}), name='raw', cmap='gray', vmin=0, vmax=255, way='tiles')\nraw",
    )
    run_all(page, address)
    maps = page.locator(".leaflet-container")
    maps.nth(2).wait_for()
    # Around the pole: Greenland is dry, the pole is wet, and lines run around it.
    land = page.locator(".leaflet-cupola-base-pane canvas")
    land.first.wait_for(state="attached")
    lines = page.locator(".cupola-graticule").first
    wait_for(
        lambda: "90°E" in (lines.get_attribute("data-lines") or ""), lambda: lines.get_attribute("data-lines")
    )
    shot = seen(page, 0).astype(int)
    assert {"60°N", "80°N", "0°E"} <= set((lines.get_attribute("data-lines") or "").split())
    greenland, sea = (polar(shot, longitude, latitude) for longitude, latitude in ((-40, 72), (-15, 86)))
    assert greenland[1] > greenland[2] + 5, "land is greenish"
    assert np.ptp(sea) <= 4
    # A service that cannot be reached is told; a shape tells its properties; a name is found without anybody's help.
    mars = maps.nth(1)
    mars.scroll_into_view_if_needed()
    page.locator(".cupola-say", has_text="USGS Astrogeology cannot be reached from this browser").wait_for()
    mars.locator(".cupola-panel > .cupola-button").click()
    mars.get_by_label("Go to a named feature").fill("Gael")
    page.keyboard.press("Enter")
    mars.get_by_role("button", name="Gale", exact=True).click()
    mars.locator(".leaflet-tooltip", has_text="Gale").wait_for()
    page.wait_for_timeout(600)
    x, y = centre(page, 1)
    page.mouse.click(x - 80, y)
    page.locator(".cupola-popup", has_text="Aeolis").wait_for()
    page.mouse.move(x, y)
    wait_for(lambda: "5.4" in mars.locator(".cupola-place").inner_text())
    assert "137." in mars.locator(".cupola-place").inner_text()
    # Columns and rows: one image at a time, upright.
    raw_map = maps.nth(2)
    raw_map.scroll_into_view_if_needed()
    wait_for(
        lambda: len([tile for tile in tiles(page) if "ImageSpace" in str(tile["url"]) and tile["done"]]) > 1
    )
    page.wait_for_timeout(500)
    shot = seen(page, 2).astype(int)
    height, width = shot.shape[:2]
    corner = shot[height // 2 - 50, width // 2 + 100, 0]
    assert (corner, shot[height // 2 + 50, width // 2 + 100, 0]) == (
        pytest.approx(250, abs=3),
        pytest.approx(50, abs=3),
    )
    raw_map.locator("select").first.select_option("r2")
    wait_for(lambda: abs(int(seen(page, 2)[height // 2 + 50, width // 2 + 100, 0]) - 100) <= 3)
    raw_map.click(position={"x": width / 2 + 100, "y": height / 2 - 50})
    raw_map.locator(".cupola-popup", has_text="column 250, row 50").wait_for()
    wait_for(
        lambda: raw_map.locator(".cupola-value").inner_text() == "250",
        raw_map.locator(".cupola-value").inner_text,
    )
    page.screenshot(path=lab.pictures / "map-grids.png")
    assert {url.split("/")[2] for url in asked} <= {"planetarymaps.usgs.gov"}


def test_slow_functions_are_shown_by_one_image(page: Page, lab: Lab, series: Path) -> None:
    address = lab.notebook(
        "slow",
        "import cupola\n"
        "def slow(band):\n    import time\n    time.sleep(0.2)\n    return band\n"
        f"m = cupola.Map().add(cupola.open({str(series)!r})['value'].map(slow), cmap='gray', vmin=0, vmax=300, name='slow', way='view'); m",
    )
    run_all(page, address)
    image = page.locator("img.cupola-view:not([hidden])")
    image.wait_for(state="attached")
    wait_for(lambda: not tiles(page))
    first = image.get_attribute("src")
    shot = picture(page, lab, "slow")
    row = shot[shot.shape[0] // 2, :, 0].astype(int)
    drawn = np.flatnonzero(row != row[2])
    # A degree of the equator, west to east from 200 to 299 of 300.
    assert row[drawn[3]] == pytest.approx(255 * 200 / 300, abs=4)
    assert row[drawn[-3]] == pytest.approx(255 * 299 / 300, abs=4)
    page.locator(".leaflet-control-zoom-in").click()
    wait_for(lambda: image.get_attribute("src") != first)
    page.wait_for_timeout(500)
    again = picture(page, lab, "slow-near")[shot.shape[0] // 2, :, 0].astype(int)
    assert len(np.flatnonzero(again != again[2])) > 1.5 * len(drawn)
    assert not tiles(page)

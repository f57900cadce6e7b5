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

from support import map_lab
from support.axe import violations

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

    from support.map_lab import Lab

pytestmark = map_lab.MARKS

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


def centre(page: Page, number: int = 0) -> tuple[float, float]:
    box = page.locator(".leaflet-container").nth(number).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def seen(page: Page, number: int = 0) -> np.ndarray[Any, Any]:
    """Return what a map of the page shows, in the state it is in."""
    shot = page.locator(".leaflet-container").nth(number).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def test_all_tools_work_while_the_kernel_is_busy(page: Page, lab: Lab, series: Path, axe: str) -> None:
    asked = strangers(page, lab)
    address = lab.notebook(
        "tools",
        "import cupola, os",
        f"s = cupola.open({str(series)!r})\n"
        "m = cupola.Map(zoom=9, center=(0, 0.5))\n"
        "m.add(s['value'], name='one', unit='K', cmap='gray', vmin=0, vmax=400, way='tiles')\n"
        "m.add(-s['value'], name='two', cmap='gray', vmin=-400, vmax=0, way='tiles'); m",
        f"while not os.path.exists({str(lab.folder / 'tools-go')!r}): pass",
        "0",
    )
    map_lab.run_all(page, address)
    map_lab.wait_for_tiles(page)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for(state="attached")
    page.get_by_role("button", name="Layers and tools").click()
    stretch_and_colours(page)
    order_and_swipe(page)
    values(page)
    statistics(page)
    page.screenshot(path=lab.pictures / "map-tools.png")
    assert page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").count()
    assert violations(page, axe, ".leaflet-container") == []
    assert asked == []
    # What was chosen and found is known to the kernel once it has time.
    (lab.folder / "tools-go").touch()
    map_lab.write(
        page, 3,
        "print('SAID', m.chain_layers[0].style.cmap, [layer.name for layer in m.chain_layers], m.drawn['type'],"
        " m._controls.probed['layers'][1]['values'], m._controls.measured['layers'][0]['bands'][0]['count'] > 0)",
    )  # fmt: skip
    said = page.locator(".jp-CodeCell").nth(3).locator(".jp-OutputArea-output").first

    def is_known() -> bool:
        # A page tells the next change once the kernel has taken the one before: the last may come after a cell that waited.
        page.keyboard.press("Control+Enter")
        said.wait_for()
        return (
            re.search(r"SAID viridis \['two', 'one'\] Polygon \[2\d\d(\.0)?\] True", said.inner_text())
            is not None
        )

    map_lab.wait_for(is_known, said.inner_text)


def stretch_and_colours(page: Page) -> None:
    """The newest image lies on top: 200 to 299, and the layer above is its negative."""
    panel = page.locator(".cupola-panel-body")
    ends = page.locator(".cupola-ends").first
    panel.get_by_role("button", name="Stretch to view").first.click()
    map_lab.wait_for(lambda: "-29" in ends.inner_text(), ends.inner_text)
    low, high = (float(text) for text in ends.inner_text().split("\n"))
    assert (low, high) == (pytest.approx(-298, abs=3), pytest.approx(-201, abs=3))
    map_lab.wait_for_tiles(page, "vmin=-29")
    row = seen(page)[centre_row(page) + 60, :, 0].astype(int)
    # 364 pixels are a degree; the panel lies over the east of the image.
    middle = row.size // 2
    assert row[middle - 175] > 200
    assert row[middle + 120] < 60
    panel.get_by_label("Colours of two").select_option("viridis")
    map_lab.wait_for_tiles(page, "cmap=viridis")


def order_and_swipe(page: Page) -> None:
    """By keyboard: the lower layer comes up; then the line between both is moved."""
    panel = page.locator(".cupola-panel-body")
    panel.get_by_role("button", name="Move one up").focus()
    page.keyboard.press("Enter")
    map_lab.wait_for(lambda: is_grey(page))
    assert page.evaluate("document.activeElement.dataset.key"), "the place in the panel is kept"
    panel.get_by_label("Swipe: left of the line").select_option(label="two")
    panel.get_by_label("Swipe: right of the line").select_option(label="one")
    page.get_by_label("Swipe between two layers").focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    line = seen(page)[centre_row(page) + 60].astype(int)
    assert np.ptp(line[int(len(line) * 0.53)]) > 20, "viridis is no grey"
    assert np.ptp(line[int(len(line) * 0.55)]) == 0
    panel.get_by_label("Swipe: left of the line").select_option(label="off")


def values(page: Page) -> None:
    """Under a click, and over time."""
    x, y = centre(page)
    page.mouse.click(x - 60, y - 60)
    value = page.locator(".cupola-probe", has_text="one").locator(".cupola-value")
    map_lab.wait_for(lambda: re.fullmatch(r"2\d\d K", value.inner_text()) is not None, value.inner_text)
    plots = page.locator(".leaflet-popup .cupola-plot")
    map_lab.wait_for(lambda: plots.count() == 2)
    page.locator(".leaflet-popup-close-button").click()


def statistics(page: Page) -> None:
    """Of a rectangle."""
    x, y = centre(page)
    page.get_by_role("button", name="Rectangle").click()
    page.mouse.move(x - 60, y - 40)
    page.mouse.down()
    page.mouse.move(x, y + 20, steps=4)
    page.mouse.up()
    card = page.locator(".cupola-card")
    map_lab.wait_for(lambda: card.inner_text().count("median") == 2, card.inner_text)
    assert card.locator(".cupola-plot").count() == 4, "a histogram and a series for each layer"


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
    square = {"type": "Polygon", "coordinates": [[[130, -10], [145, -10], [145, 0], [130, 0], [130, -10]]]}
    shape = {"type": "Feature", "properties": {"name": "Aeolis"}, "geometry": square}
    options = "name='raw', cmap='gray', vmin=0, vmax=255, way='tiles'"
    address = lab.notebook(
        "grids",
        "import cupola\n"
        "cupola.Map(body='Earth', projection='npolar', basemap='land', graticule=True, height='300px', zoom=1, center=(90, 0))",
        f"cupola.Map(body='Mars', basemap='usgs', height='300px').add({shape}, name='quadrangle')",
        f"cupola.Map(height='300px').add(cupola.open({str(raw_images(lab))!r}), {options})",
    )
    map_lab.run_all(page, address)
    page.locator(".leaflet-container").nth(2).wait_for()
    land_around_the_pole(page)
    names_and_shapes(page)
    columns_and_rows(page)
    page.screenshot(path=lab.pictures / "map-grids.png")
    assert {url.split("/")[2] for url in asked} <= {"planetarymaps.usgs.gov"}


def raw_images(lab: Lab) -> Path:
    """Two images without a coordinate system, light in the upper right corner."""
    folder = lab.folder / "raw"
    folder.mkdir(exist_ok=True)
    for number in (1, 2):
        pixels = np.full((200, 300), 50 * number, dtype=np.uint8)
        pixels[:100, 200:] = 250
        with rasterio.open(
            folder / f"r{number}.tif", "w", driver="GTiff", width=300, height=200, count=1, dtype="uint8"
        ) as file:  # fmt: skip
            file.write(pixels, 1)
    return folder


def land_around_the_pole(page: Page) -> None:
    """Greenland is dry, the pole is wet, and lines run around it."""
    page.locator(".leaflet-cupola-base-pane canvas").first.wait_for(state="attached")
    lines = page.locator(".cupola-graticule").first
    map_lab.wait_for(
        lambda: "60°N" in (lines.get_attribute("data-lines") or ""), lambda: lines.get_attribute("data-lines")
    )
    assert {"60°N", "75°N", "0°E"} <= set((lines.get_attribute("data-lines") or "").split())
    page.wait_for_timeout(300)
    shot = seen(page, 0).astype(int)
    greenland, sea = (polar(shot, longitude, latitude) for longitude, latitude in ((-40, 72), (-15, 86)))
    assert greenland[1] > greenland[2] + 5, "land is greenish"
    assert np.ptp(sea) <= 4


def names_and_shapes(page: Page) -> None:
    """A service that cannot be reached is told; a name is found without anybody's help; a shape tells of itself."""
    mars = page.locator(".leaflet-container").nth(1)
    mars.scroll_into_view_if_needed()
    page.locator(".cupola-say", has_text="USGS Astrogeology cannot be reached from this browser").wait_for()
    mars.locator(".cupola-panel > .cupola-button").click()
    mars.get_by_label("Go to a named feature").fill("Gael")
    page.keyboard.press("Enter")
    mars.get_by_role("button", name="Gale", exact=True).click()
    mars.locator(".leaflet-tooltip", has_text="Gale").wait_for()
    page.wait_for_timeout(600)
    x, y = centre(page, 1)
    page.mouse.move(x, y)
    spot = mars.locator(".cupola-place")
    map_lab.wait_for(
        lambda: re.match(r"5\.[34]\d* S|5\.[34]\d*° S, 137\.[789]\d*° E", spot.inner_text()) is not None,
        spot.inner_text,
    )
    page.mouse.click(x - 80, y)
    page.locator(".cupola-popup", has_text="Aeolis").wait_for()


def columns_and_rows(page: Page) -> None:
    """One image at a time, upright; the view shows two pixels of the screen for each of its own."""
    raw = page.locator(".leaflet-container").nth(2)
    raw.scroll_into_view_if_needed()
    map_lab.wait_for(
        lambda: (
            sum("ImageSpace" in str(tile["url"]) and bool(tile["done"]) for tile in map_lab.tiles(page)) > 1
        )
    )
    page.wait_for_timeout(500)
    shot = seen(page, 2).astype(int)
    height, width = shot.shape[:2]
    light, dark = (shot[height // 2 + down, width // 2 + 100, 0] for down in (-50, 50))
    assert (light, dark) == (pytest.approx(250, abs=3), pytest.approx(50, abs=3))
    raw.locator("select").first.select_option("r2")
    map_lab.wait_for(lambda: abs(int(seen(page, 2)[height // 2 + 50, width // 2 + 100, 0]) - 100) <= 3)
    raw.click(position={"x": width / 2 + 105, "y": height / 2 - 55})
    raw.locator(".cupola-popup", has_text=re.compile(r"column 20[1-3], row 7[1-3]")).wait_for()
    value = raw.locator(".cupola-value")
    map_lab.wait_for(lambda: value.inner_text() == "250", value.inner_text)


def test_slow_functions_are_shown_by_one_image(page: Page, lab: Lab, series: Path) -> None:
    address = lab.notebook(
        "slow",
        "import cupola\n"
        "def slow(band):\n    import time\n    time.sleep(0.2)\n    return band\n"
        f"m = cupola.Map().add(cupola.open({str(series)!r})['value'].map(slow), cmap='gray', vmin=0, vmax=300, name='slow', way='view'); m",
    )
    map_lab.run_all(page, address)
    image = page.locator("img.cupola-view:not([hidden])")
    image.wait_for(state="attached")
    map_lab.wait_for(lambda: not map_lab.tiles(page))
    first = image.get_attribute("src")
    shot = map_lab.picture(page, lab, "slow")
    row = shot[shot.shape[0] // 2, :, 0].astype(int)
    drawn = np.flatnonzero(row != row[2])
    # A degree of the equator, west to east from 200 to 299 of 300.
    assert row[drawn[3]] == pytest.approx(255 * 200 / 300, abs=4)
    assert row[drawn[-3]] == pytest.approx(255 * 299 / 300, abs=4)
    page.locator(".leaflet-control-zoom-in").click()
    map_lab.wait_for(lambda: image.get_attribute("src") != first)
    page.wait_for_timeout(500)
    again = map_lab.picture(page, lab, "slow-near")[shot.shape[0] // 2, :, 0].astype(int)
    assert len(np.flatnonzero(again != again[2])) > 1.5 * len(drawn)
    assert not map_lab.tiles(page)


def large_days(lab: Lab) -> Path:
    """Two images of 3000 x 3000 pixels of 10 m within one tile of level 10: more than an exact preview of it computes."""
    folder = lab.folder / "large-days"
    folder.mkdir(exist_ok=True)
    for number in (1, 2):
        with rasterio.open(
            folder / f"d{number}.tif", "w", driver="GTiff", width=3000, height=3000, count=1, dtype="uint8", crs="EPSG:3857",
            compress="deflate", tiled=True, transform=from_origin(0, 35_000, 10, 10),
        ) as file:  # fmt: skip
            file.write(np.tile(np.arange(3000) % (250 - number), (3000, 1)).astype("uint8"), 1)
    return folder


def test_the_word_of_the_scale_is_what_the_server_computed(page: Page, lab: Lab) -> None:
    """For tiles and for one image of the view; what is beyond the budget of an exact preview is called none."""
    show = "cupola.Map(zoom=10, center=(0.18, 0.13)).add(smooth, name='smooth', cmap='gray', vmin=0, vmax=250, way="
    address = lab.notebook(
        "scale",
        "import cupola\nfrom scipy import ndimage\n"
        f"days = cupola.open({str(large_days(lab))!r})\n"
        "smooth = days[days.bands[0]].max().map(lambda band: ndimage.uniform_filter(band, 3), halo=1)\n"
        f"{show}'tiles')",
        f"{show}'view')",
    )
    fetched = from_where(page)
    map_lab.run_all(page, address)
    says(page, 0, "computed at 15[23] m/px, full resolution is 10 m/px")
    first = page.locator(".leaflet-container").first
    first.locator(".cupola-panel > .cupola-button").click()
    first.get_by_label("Exact preview").click()
    says(
        page,
        0,
        "no exact preview of so large a view: computed at 15[23] m/px, full resolution is 10 m/px; zoom in",
    )
    assert page.locator(".cupola-problem:not([hidden])").count() == 0
    for _ in range(2):
        page.locator(".leaflet-control-zoom-in").first.click()
        page.wait_for_timeout(600)
    says(page, 0, r"exact preview: computed at full resolution \(10 m/px\)")
    first.get_by_label("Exact preview").click()
    says(page, 0, r"computed at 38(\.\d)? m/px, full resolution is 10 m/px")
    page.screenshot(path=lab.pictures / "map-scale.png")
    # Asking what is on screen costs the server nothing.
    assert set(fetched) == {True}
    page.locator(".leaflet-container").nth(1).scroll_into_view_if_needed()
    page.locator("img.cupola-view:not([hidden])").wait_for(state="attached")
    says(page, 1, "computed at 15[23] m/px, full resolution is 10 m/px")


def says(page: Page, number: int, word: str) -> None:
    """Wait until the legend of a map of the page says something of its scale; `word` is a pattern."""
    note = page.locator(".leaflet-container").nth(number).locator(".cupola-layer .cupola-note").first
    map_lab.wait_for(lambda: re.fullmatch(word, note.inner_text()) is not None, note.inner_text, 90)


def from_where(page: Page) -> list[bool]:
    """Return a list that will hold, for each tile that a script of the page asks for, whether the browser had it."""
    asked: list[bool] = []
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")

    def came(told: dict[str, Any]) -> None:
        answer = told["response"]
        if told["type"] == "Fetch" and re.search(r"/cupola/tiles/.*png", answer["url"]):
            asked.append(bool(answer["fromDiskCache"] or answer.get("fromPrefetchCache")))

    session.on("Network.responseReceived", came)
    return asked

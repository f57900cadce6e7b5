"""The map in a real JupyterLab in a real Chromium: right place, right colours, alive while the kernel is busy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from support import map_lab

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from support.map_lab import Lab

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"

pytestmark = map_lab.MARKS


def place(page: Page, longitude: float, latitude: float, view: tuple[float, float, float]) -> tuple[int, int]:
    """Return row and column in the map's picture of a place, for a linear grid of (centre, centre, degrees/pixel)."""
    box = page.locator(".leaflet-container").bounding_box()
    assert box is not None
    middle_longitude, middle_latitude, step = view
    return (
        round(box["height"] / 2 - (latitude - middle_latitude) / step),
        round(box["width"] / 2 + (longitude - middle_longitude) / step),
    )


@pytest.fixture
def quarters(lab: Lab) -> Path:
    """A Moon of four quarters with different values, a quarter degree per pixel, longitude counted from 0 to 360."""
    values = np.zeros((720, 1440), dtype=np.uint8)
    # North-west, north-east, south-west, south-east as seen around longitude 0.
    values[:360, 720:], values[:360, :720], values[360:, 720:], values[360:, :720] = 1, 2, 3, 4
    radius = 1_737_400.0
    step = np.pi * radius / 720
    path = lab.folder / "moon" / "quarters.tif"
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=1440, height=720, count=1, dtype="uint8",
        crs=f"+proj=eqc +lat_ts=0 +lon_0=180 +R={radius} +units=m +no_defs",
        transform=from_origin(-720 * step, 360 * step, step, step),
    ) as file:  # fmt: skip
        file.write(values, 1)
    return path


def test_a_planet_is_upright_and_at_the_right_longitude(page: Page, lab: Lab, quarters: Path) -> None:
    address = lab.notebook(
        "moon",
        "import cupola\n"
        f"m = cupola.Map()\nm.add(cupola.open({str(quarters)!r}), cmap='gray', vmin=0, vmax=4, name='quarters', way='tiles')\nm",
    )
    map_lab.run_all(page, address)
    map_lab.wait_for_tiles(page, "Moon2015eqc")
    shot = map_lab.picture(page, lab, "quarters")
    view = (0.0, 0.0, 360 / 512)
    for longitude, latitude, value in ((-90, 45, 1), (90, 45, 2), (-90, -45, 3), (90, -45, 4)):
        row, column = place(page, longitude, latitude, view)
        assert shot[row, column].tolist() == pytest.approx([255 * value / 4] * 3, abs=6), (
            longitude,
            latitude,
        )
    # No seam where the file's own edge is, nor between tiles: from west to east the north has one step.
    row, first = place(page, -175, 40, view)
    _, last = place(page, 175, 40, view)
    line = shot[row, first:last, 0].astype(int)
    assert set(np.unique(np.abs(np.diff(line)) > 6)) <= {False, True}
    assert (np.abs(np.diff(line)) > 6).sum() == 1
    assert abs(int(np.abs(np.diff(line)).argmax()) + first - place(page, 0, 40, view)[1]) <= 2
    footer = page.locator(".cupola-footer")
    assert "quarters" in footer.inner_text()
    assert "Moon" in footer.inner_text()


@pytest.mark.skipif(not (SHARED / "s2").is_dir(), reason="the shared sample data are not on this machine")
def test_real_scenes_of_two_bodies(page: Page, lab: Lab) -> None:
    address = lab.notebook(
        "real",
        "import cupola, numpy as np",
        f"s2 = cupola.open({str((SHARED / 's2').resolve())!r})\n"
        "ndvi = s2['B04', 'B08'].map(lambda red, nir: (nir - red) / (nir + red))\n"
        "earth = cupola.Map(); earth.add(ndvi, cmap='RdYlGn', vmin=-0.2, vmax=0.4, name='NDVI', way='tiles'); earth",
    )
    map_lab.run_all(page, address)
    map_lab.wait_for_tiles(page, "WebMercatorQuad")
    shot = map_lab.picture(page, lab, "s2-ndvi")
    page.screenshot(path=lab.pictures / "s2-ndvi.png")
    # A square scene that lies a little askew, in the middle, without holes.
    drawn = (shot != shot[2, 2]).any(axis=2)
    middle = drawn[drawn.shape[0] // 2 - 100 : drawn.shape[0] // 2 + 100, drawn.shape[1] // 2 - 100 :][
        :, :200
    ]
    assert middle.mean() > 0.98
    moon = lab.notebook(
        "moonreal",
        "import cupola\n"
        f"lunar = cupola.open({str((SHARED / 'isis3' / 'ulcn2005_lpo_downsampled.cub').resolve())!r})\n"
        "moon = cupola.Map(); moon.add(lunar, cmap='gray', name='ULCN 2005 radius', unit='m', way='tiles'); moon",
    )
    map_lab.run_all(page, moon)
    map_lab.wait_for_tiles(page, "Moon2015eqc")
    map_lab.picture(page, lab, "moon-real")
    page.screenshot(path=lab.pictures / "moon-real.png")


BUSY = "while True: pass"


def test_tiles_come_while_the_kernel_is_busy(page: Page, lab: Lab, quarters: Path) -> None:
    address = lab.notebook(
        "busy",
        "import cupola",
        f"moon = cupola.open({str(quarters)!r})\n"
        "m = cupola.Map(); m.add(moon['b1'].map(lambda band: band * 2, halo=1), vmin=0, vmax=8, name='twice', way='tiles'); m",
        BUSY,
    )
    map_lab.run_all(page, address)
    map_lab.wait_for_tiles(page)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").wait_for(state="attached")
    before = {str(tile["url"]) for tile in map_lab.tiles(page)}
    for _ in range(2):
        page.locator(".leaflet-control-zoom-in").click()
        page.wait_for_timeout(600)
    map_lab.wait_for(
        lambda: any("Moon2015eqc/2/" in str(tile["url"]) for tile in map_lab.tiles(page)),
        lambda: map_lab.tiles(page),
    )
    map_lab.wait_for_tiles(page)
    after = {str(tile["url"]) for tile in map_lab.tiles(page)}
    assert after - before
    assert "computed at" in page.locator(".cupola-layer .cupola-note").first.inner_text()
    assert page.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]").count()


def test_a_function_without_end_is_told_and_the_map_recovers(page: Page, lab: Lab, quarters: Path) -> None:
    add = "m.add(moon['b1'].map(work), vmin=0, vmax=4, cmap='gray', name='work', way='tiles');"
    address = lab.notebook(
        "endless",
        f"import cupola\nmoon = cupola.open({str(quarters)!r})\nm = cupola.Map(); m",
        f"def work(band):\n    while True:\n        band = band + 1\n    return band\n{add}",
    )
    map_lab.run_all(page, address)
    problem = page.locator(".cupola-problem:not([hidden])")
    problem.wait_for()
    assert "more than 6 s" in problem.inner_text()
    page.screenshot(path=lab.pictures / "endless.png")
    # Corrected, but not yet right: another function of the same name takes the layer's place on the map.
    map_lab.rewrite(page, 1, f"def work(band):\n    return band / missing\n{add}")
    page.locator(".cupola-problem:not([hidden])", has_text="missing").wait_for()
    assert "NameError" in problem.inner_text()
    assert "return band / missing" in problem.inner_text()
    map_lab.wait_for_tiles(page)
    page.screenshot(path=lab.pictures / "name-error.png")
    map_lab.rewrite(page, 1, f"def work(band):\n    return 4 - band\n{add}")
    page.locator(".cupola-problem[hidden]").wait_for(state="attached")
    map_lab.wait_for_tiles(page)
    shot = map_lab.picture(page, lab, "recovered")
    row, column = place(page, -90, 45, (0.0, 0.0, 360 / 512))
    assert shot[row, column].tolist() == pytest.approx([255 * 3 / 4] * 3, abs=6)
    assert page.locator(".cupola-layer").count() == 1


def test_products_appear_as_they_are_written(page: Page, lab: Lab) -> None:
    folder, go = lab.folder / "products", lab.folder / "go"
    folder.mkdir()
    write = f"""
import os, time
import numpy as np, rasterio
from rasterio.transform import from_origin

def write(number, left):
    path, aside = (os.path.join({str(folder)!r}, start + f"part-{{number}}.tif") for start in ("", "."))
    with rasterio.open(aside, "w", driver="GTiff", width=64, height=64, count=1, dtype="float32", crs="EPSG:3857",
                       transform=from_origin(left, 64_000, 1000, 1000)) as file:
        file.write(np.full((64, 64), number, dtype="float32"), 1)
    os.rename(aside, path)

def slowly(band):
    import time
    time.sleep(0.7)
    return band

write(1, 0)
"""
    address = lab.notebook(
        "products",
        write,
        f"import cupola\nproducts = cupola.open({str(folder)!r})\nm = cupola.Map()\n"
        "m.add(products.preview().map(slowly), cmap='gray', vmin=0, vmax=3, name='products', way='tiles'); m",
        # The kernel stays busy, so the map has to notice by itself; and products come faster than their tiles.
        f"while not os.path.exists({str(go)!r}): pass\n"
        "write(2, 64_000)\ntime.sleep(1.3)\nwrite(3, -64_000)\nwhile True: pass",
    )
    map_lab.run_all(page, address)
    map_lab.wait_for_tiles(page)
    assert greys(map_lab.picture(page, lab, "products-first")) == {85}
    go.touch()
    map_lab.wait_for(
        lambda: greys(map_lab.picture(page, lab, "products")) == {85, 170, 255}, lambda: map_lab.tiles(page)
    )


def greys(shot: np.ndarray) -> set[int]:
    """Return the greys that fill much of a picture, the map's background left out."""
    values, counts = np.unique(shot[..., 0], return_counts=True)
    return {int(value) for value, count in zip(values, counts, strict=True) if count > 5000} - {0xDD}

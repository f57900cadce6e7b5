"""Sky maps in a real Chromium: everything lies where astropy says it does, and nothing outside of the session is asked."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import cupola
from support.axe import violations
from support.map_lab import run_all
from support.pages import CHROMIUM, chromium_with
from support.sky import OPTIONS, pixels, run_server, show, wait_until

pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.system,
    pytest.mark.skipif(
        not CHROMIUM.exists(), reason="there is no Chromium on this machine: apt-get install chromium"
    ),
    pytest.mark.timeout(300),
]

CENTRE = (150.1, 2.2)
STARS = ((60.0, 80.0), (200.0, 120.0), (120.0, 210.0))
"""Columns and rows of the image, from 0."""
SIZE = 260
WHITE = 200
DARK = 90
"""A star is a few pixels wide, and WebGL smooths between them: how dark its middle gets depends on the tiles that came."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_server(tmp_path_factory.mktemp("sky")) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUPOLA_RUNTIME", str(running.folder / "runtime"))
        patch.setenv("CUPOLA_BASE_URL", "/user/ada/lab-1/")
        patch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
        yield running


@pytest.fixture(scope="module")
def chromium():
    with chromium_with(*OPTIONS) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser(chromium):
    """The one that the pages of a Lab are opened in: two at once are more than Playwright gives."""
    return chromium


@pytest.fixture
def picture(request, tmp_path):
    """Return where pictures of a test go."""
    folder = Path(os.environ.get("CUPOLA_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return lambda name: str(folder / f"{request.node.name}-{name}.png")


@pytest.fixture(scope="module")
def stars(server):
    """Return an image with three stars, turned and a little distorted, and the places of the stars."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["CRVAL1"], header["CRVAL2"] = CENTRE
    header["CRPIX1"] = header["CRPIX2"] = (SIZE + 1) / 2
    step, turn = 1 / 3600, np.radians(25)
    header["CD1_1"], header["CD1_2"] = -step * np.cos(turn), step * np.sin(turn)
    header["CD2_1"], header["CD2_2"] = step * np.sin(turn), step * np.cos(turn)
    header["A_ORDER"] = header["B_ORDER"] = 2
    header["A_2_0"], header["B_0_2"] = 3e-5, -4e-5
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    values = np.zeros((SIZE, SIZE), dtype="f4")
    for x, y in STARS:
        values += 100 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    path = server.folder / "stars.fits"
    fits.PrimaryHDU(values, header).writeto(path)
    wcs = WCS(header)
    return path, [wcs.pixel_to_world(x, y).icrs for x, y in STARS]


def outside(requests, server):
    """Return the requests that left the session's server."""
    return [url for url in requests if not url.startswith((server.url, "data:", "blob:"))]


def on_screen(page, place):
    x, y = page.evaluate(
        "([ra, dec]) => document.querySelector('.cupola-sky-frame').cupolaSky.world2pix(ra, dec)",
        [place.ra.deg, place.dec.deg],
    )
    return x, y


def light(shot, x, y, reach=16):
    """Return the centre of light around a place of the screen."""
    x, y = round(x), round(y)
    part = shot[y - reach : y + reach + 1, x - reach : x + reach + 1].min(axis=2).astype(float)
    part[part < 60] = 0
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    assert part.sum() > 0, "no light there"
    return x + (part * columns).sum() / part.sum(), y + (part * rows).sum() / part.sum()


def drawn(page):
    """Tell whether the map shows light."""
    # Buttons are white, too: the middle has none.
    return bool((pixels(page)[60:420, 60:840].min(axis=2) > WHITE).sum() > 10)


def test_stars_are_drawn_where_they_are(chromium, server, stars, picture):
    path, places = stars
    sky = cupola.SkyMap(grid=False)
    collection = cupola.open(str(path))
    sky.add(collection[collection.bands[0]].resample("bilinear"), vmin=0, vmax=100, name="stars")
    page, requests, complaints = show(chromium, server, sky)
    # The map went to its first layer by itself.
    wait_until(page, lambda: page.evaluate("model.get('placed')"), "the map to look at its layer")
    assert page.evaluate("model.get('center')") == pytest.approx(CENTRE, abs=0.01)
    wait_until(page, lambda: drawn(page), "stars")
    page.wait_for_timeout(1500)
    shot = pixels(page, picture("map"))
    field = page.evaluate("model.get('fov')")
    image_pixel = 1 / 3600 / (field / shot.shape[1])
    for place in places:
        x, y = on_screen(page, place)
        found = light(shot, x, y)
        # Half a pixel of the image, and half of one of the screen.
        assert found == pytest.approx((x, y), abs=0.5 * image_pixel + 0.5)
    assert outside(requests, server) == []
    assert complaints == []
    page.close()


def test_m31_under_a_catalogue(chromium, server, shared_data, picture):
    """The galaxy of the sample data, sources over it, values under a click, a selection, dark."""
    random = np.random.default_rng(5)
    table = Table(
        {
            "name": [f"source {number}" for number in range(300)],
            "RA": np.append(10.68470, 10.68 + random.normal(0, 0.5, 299)),
            "Dec": np.append(41.26875, 41.27 + random.normal(0, 0.4, 299)),
            "mag": random.uniform(10, 20, 300),
        }
    )
    sky = cupola.SkyMap(center="M 31", fov=3)
    sky.add(str(shared_data / "fits" / "m31.fits"), name="M 31")
    sky.add(table, name="sources")
    sky.add_footprints(cupola.open(str(shared_data / "fits" / "m31.fits")), name="outline")
    page, requests, complaints = show(chromium, server, sky, dark=True)
    wait_until(page, lambda: drawn(page), "the galaxy")
    page.wait_for_timeout(1500)
    shot = pixels(page, picture("map"))
    core = SkyCoord(10.68470, 41.26875, unit="deg")
    x, y = on_screen(page, core)
    assert shot[round(y) - 3 : round(y) + 4, round(x) + 9 : round(x) + 15].mean() > WHITE
    # A degree off, across the disc, there is hardly anything.
    away = core.directional_offset_by(125 * units.deg, 1 * units.deg)
    a, b = on_screen(page, away)
    assert shot[round(b) - 10 : round(b) + 10, round(a) - 10 : round(a) + 10].mean() < 60
    page.locator(".cupola-sky-frame canvas").last.click(position={"x": x, "y": y})
    readout = page.locator(".cupola-sky-readout")
    readout.get_by_text("M 31:").wait_for()
    values = readout.get_by_text("M 31:").inner_text().removeprefix("M 31:").split(",")
    assert len(values) == 3
    assert all(float(value) > WHITE for value in values)
    readout.get_by_text("source 0", exact=True).wait_for()
    assert page.evaluate("model.get('picked')") == {"catalogue": sky.catalogues[0]["id"], "row": 0}
    page.screenshot(path=picture("page"))
    assert outside(requests, server) == []
    assert complaints == []

    # A rectangle drawn around the core selects what lies in it.
    page.get_by_role("button", name="select sources in a rectangle").click()
    frame = page.locator(".cupola-sky-frame").bounding_box()
    page.mouse.move(frame["x"] + x - 60, frame["y"] + y - 60)
    page.mouse.down()
    page.mouse.move(frame["x"] + x + 60, frame["y"] + y + 60, steps=6)
    page.mouse.up()
    readout.get_by_text("selected").wait_for()
    rows = page.evaluate("model.get('selection_rows')")
    sky.selection_rows = rows
    selected = sky.selected["sources"]
    places = SkyCoord(selected["RA"], selected["Dec"], unit="deg")
    assert 3 < len(selected) < 150
    assert (places.separation(core).deg < 0.35).all()
    assert "source 0" in selected["name"]
    page.close()


def test_layers_are_ruled_from_the_browser_and_the_kernel(chromium, server, stars, picture):
    path, places = stars
    sky = cupola.SkyMap(center=CENTRE, fov=0.12, grid=False)
    collection = cupola.open(str(path))
    sky.add(collection[collection.bands[0]], vmin=0, vmax=100, name="below")
    sky.add(collection[collection.bands[0]].map(lambda band: 100 - band), vmin=0, vmax=100, name="above")
    page, requests, complaints = show(chromium, server, sky)
    x, y = on_screen(page, places[0])

    def shade():
        return int(pixels(page)[round(y), round(x)].min())

    wait_until(page, lambda: shade() < DARK, "the upper layer")
    page.get_by_role("checkbox", name="show above").click()
    wait_until(page, lambda: shade() > WHITE, "the lower layer alone")
    page.get_by_role("checkbox", name="show above").click()
    wait_until(page, lambda: shade() < DARK, "both")
    page.get_by_role("button", name="raise below").click()
    wait_until(page, lambda: shade() > WHITE, "the other order")
    page.get_by_role("combobox", name="colours of below").select_option("gray_r")
    wait_until(page, lambda: shade() < DARK, "other colours")
    page.get_by_role("slider", name="opacity of below").fill("0")
    wait_until(
        page, lambda: page.evaluate("model.get('layers').find((one) => one.name === 'below').opacity") == 0
    )
    # What the browser chose arrives in the kernel as it was told.
    sky.layers = page.evaluate("model.get('layers')")
    assert [layer["name"] for layer in sky.layers] == ["above", "below"]
    assert sky.layers[1]["cmap"] == "gray_r"
    # The kernel moves the map, and it stays there.
    page.evaluate("model.set('center', [150.12, 2.21])")
    wait_until(
        page,
        lambda: (
            page.evaluate("document.querySelector('.cupola-sky-frame').cupolaSky.getRaDec()")
            == pytest.approx((150.12, 2.21), abs=1e-6)
        ),
        "the place",
    )
    page.get_by_role("searchbox").fill("Crab nebula")
    page.get_by_role("button", name="go there").click()
    wait_until(
        page,
        lambda: page.evaluate("model.get('center')") == pytest.approx((83.6331, 22.0145), abs=1e-3),
        "M 1",
    )
    page.screenshot(path=picture("page"))
    assert outside(requests, server) == []
    assert complaints == []
    page.close()


def test_the_word_of_the_scale_is_what_the_server_computed(chromium, server, stars, picture):
    """Neighbours on the pixels of a coarse view are others than those that a run sees; an exact preview has the run's."""
    path, _ = stars
    band = cupola.open(str(path))
    band = band[band.bands[0]].max()
    sky = cupola.SkyMap(center=CENTRE, fov=8, grid=False)
    sky.add(band.map(np.negative, halo=1), vmin=-1, vmax=0, name="stars")
    page, _, complaints = show(chromium, server, sky, dark=True)
    note = page.locator(".cupola-sky-note")
    coarse = r"computed at [\d.]+″/px, full resolution is 1″/px"
    wait_until(page, lambda: re.fullmatch(coarse, note.inner_text()), "a coarse scale")
    # Pixels of a tile are four times as many at each order: 1.61 arcseconds at order 8, and so on up.
    told = float(re.search(r"[\d.]+", note.inner_text())[0])
    assert np.log2(told / 0.805) == pytest.approx(round(np.log2(told / 0.805)), abs=0.05)
    page.get_by_role("checkbox", name="exact preview of stars").click()
    wait_until(
        page,
        lambda: note.inner_text() == "exact preview: computed at full resolution (1″/px)",
        "an exact preview",
    )
    assert page.evaluate("model.get('layers')[0].exact") is True
    page.screenshot(path=picture("exact"))
    page.get_by_role("checkbox", name="exact preview of stars").click()
    page.evaluate("model.set('fov', 0.1)")
    near = "computed on the pixels of this view, as fine as full resolution (1″/px)"
    wait_until(page, lambda: note.inner_text() == near, "the finest tiles")
    assert complaints == []
    page.close()


def test_in_a_lab_below_a_hub_s_address(page, lab, stars, axe, picture):
    """The widget as JupyterLab loads it: drawn, accessible, and what is on screen is looked up without the server."""
    path, _ = stars
    address = lab.notebook(
        "sky",
        f"import cupola\nframe = cupola.open({str(path)!r})\nstars = frame[frame.bands[0]]\n"
        "sky = cupola.SkyMap(grid=False).add(stars.map(lambda band: band, halo=1), vmin=0, vmax=100, name='stars')\nsky",
    )
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    run_all(page, address)
    frame = page.locator(".cupola-sky-frame")
    frame.wait_for()
    frame.scroll_into_view_if_needed()
    note = page.locator(".cupola-sky-note")
    wait_until(
        page, lambda: note.inner_text() == "computed at full resolution (1″/px)", "the word of the scale"
    )
    wait_until(page, lambda: bool((pixels(page)[60:420, 60:-60].min(axis=2) > DARK).sum() > 10), "stars")
    page.screenshot(path=picture("lab"))
    assert violations(page, axe, ".cupola-sky") == []
    assert "/user/ada/lab-1/" in lab.url
    assert outside(asked, lab) == []


def test_a_survey_out_of_reach_is_told(chromium, server, stars):
    path, _ = stars
    sky = cupola.SkyMap(center=CENTRE, fov=0.12, survey="CDS/P/DSS2/color")
    sky.add(str(path), name="stars")
    page, requests, _ = show(chromium, server, sky, offline=True)
    page.get_by_text("cannot be reached from here").wait_for()
    assert outside(requests, server)
    page.get_by_role("combobox", name="survey below the layers").select_option("")
    page.get_by_text("cannot be reached from here").wait_for(state="hidden")
    page.close()

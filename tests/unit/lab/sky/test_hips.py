"""Tiles of a HiPS: a star lies where astropy says, in any projection, across RA 0 and at a pole."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy_healpix import HEALPix
from PIL import Image

import cupola
from cupola.exceptions import BodyError
from cupola.lab.chains.compute import evaluation
from cupola.lab.chains.pixels import sampling
from cupola.lab.sky import coverage, hips
from cupola.lab.tiles.styles import Style

from .conftest import STARS, write_image

CASES = {
    "TAN": ("TAN", (150.1, 2.2)),
    "TAN across RA 0": ("TAN", (0.01, -0.01)),
    "TAN at the pole": ("TAN", (40.0, 89.98)),
    "TAN at the south pole": ("TAN", (200.0, -90.0)),
    "SIN": ("SIN", (10.68, 41.27)),
    "SIP": ("SIP", (53.1, -27.8)),
    "galactic CAR": ("CAR", (30.0, 20.0)),
    "galactic AIT": ("AIT", (0.05, -0.03)),
}


def ask(chain, part, **options):
    return hips.work(chain, {"part": part, "revision": "", **options})[1]


def cell_pixel(order, ra, dec):
    """Return tile, row and column (from the top) of the pixel of a place, from the bits of its HEALPix number.

    Rows and columns have parts: 0 is the middle of the first pixel.
    """
    healpix = HEALPix(2 ** (order + 9), order="nested")
    number, east, west = healpix.lonlat_to_healpix(ra * units.deg, dec * units.deg, return_offsets=True)
    tile, inner = int(number) >> 18, int(number) & (4**9 - 1)
    row = sum(((inner >> (2 * bit)) & 1) << bit for bit in range(9))
    column = sum(((inner >> (2 * bit + 1)) & 1) << bit for bit in range(9))
    return tile, row + float(east) - 0.5, column + float(west) - 0.5


def brightest(values, row, column, reach=14):
    """Return the centre of light around a pixel."""
    row, column = round(row), round(column)
    part = values[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    light = np.nan_to_num(part - 10.0)
    light[light < 60] = 0
    rows, columns = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    return (
        (light * rows).sum() / light.sum() + max(row - reach, 0),
        (light * columns).sum() / light.sum() + max(column - reach, 0),
    )


@pytest.mark.parametrize("case", CASES)
def test_stars_lie_within_half_a_pixel(tmp_path, case):
    kind, centre = CASES[case]
    wcs = write_image(tmp_path / "stars.fits", kind, centre=centre)
    collection = cupola.open(str(tmp_path / "stars.fits"))
    chain = collection[collection.bands[0]].resample("bilinear")
    about = json.loads(ask(chain, "about"))
    cells = coverage.decode(np.array(about["cells"], dtype=np.int64))
    found = 0
    for x, y in STARS:
        place = wcs.pixel_to_world(x, y).icrs
        tile, row, column = cell_pixel(about["order"], place.ra.deg, place.dec.deg)
        assert coverage.touched(cells, about["order"], tile)
        if not (20 < row < 490 and 20 < column < 490):
            continue
        body = ask(chain, "tile", order=about["order"], pixel=tile, kind="fits", style=None)
        with fits.open(io.BytesIO(body)) as units_:
            # The last row of a FITS tile is the top one of a picture.
            values = units_[0].data[::-1]
        light = brightest(values, row, column)
        assert light == pytest.approx((row, column), abs=0.25), (case, x, y)
        found += 1
    assert found >= 2


def test_tiles_tell_their_scale_and_whether_a_run_gives_them(tmp_path, monkeypatch):
    wcs = write_image(tmp_path / "stars.fits", "TAN")
    collection = cupola.open(str(tmp_path / "stars.fits"))
    band = collection[collection.bands[0]]
    star = SkyCoord(wcs.pixel_to_world(*STARS[1]))
    tile, _, _ = cell_pixel(6, star.ra.deg, star.dec.deg)
    request = {"part": "tile", "revision": "", "kind": "fits", "style": None, "order": 6, "pixel": tile}

    def told(chain, **options):
        header, _ = hips.work(chain, {**request, **options})
        return header["scale"], header["exact"]

    assert told(band.map(lambda values: values, halo=2).at(4)) == (pytest.approx(4), True)
    assert told(band.map(lambda values: values, halo=2), exact=True) == (pytest.approx(1, rel=0.02), True)
    smooth = band.mean().map(lambda values: values, halo=2)
    # Pixels of order 6 + 9 have 6.4 arcseconds, and neighbours there are others than those that a run sees.
    assert told(smooth) == (pytest.approx(6.44, rel=0.05), False)
    assert told(smooth, exact=True) == (pytest.approx(1, rel=0.02), True)
    # More than somebody waits for is a preview, and says so.
    monkeypatch.setattr(evaluation, "EXACT_PIXELS", 1000)
    assert told(smooth, exact=True) == (pytest.approx(6.44, rel=0.05), False)


def test_what_a_hips_says_of_itself(tmp_path):
    wcs = write_image(tmp_path / "stars.fits", "SIP", centre=(53.1, -27.8))
    collection = cupola.open(str(tmp_path / "stars.fits"))
    chain = collection[collection.bands[0]]
    about = json.loads(ask(chain, "about"))
    # One arcsecond per pixel: pixels of order 8 + 9 have 1.6, those of order 9 + 9 have 0.8 arcseconds.
    assert about["order"] == 9
    assert about["degrees"] * 3600 == pytest.approx(1.0, rel=0.05)
    corners = SkyCoord(wcs.pixel_to_world([0, 240, 240, 0], [0, 0, 240, 240]))
    centre = SkyCoord(about["ra"], about["dec"], unit="deg")
    assert (centre.separation(corners).deg < about["fov"] / 2).all()
    assert centre.separation(corners).deg.max() > about["fov"] / 4
    limits = json.loads(ask(chain, "stretch", scale="linear"))
    assert limits["bands"] == 1
    assert 5 < limits["limits"][0][0] < limits["limits"][0][1] < 700
    other = json.loads(ask(chain, "stretch", scale="asinh"))
    assert other["limits"][0][1] > limits["limits"][0][1]
    with fits.open(io.BytesIO(ask(chain, "moc"))) as moc:
        assert len(moc[1].data) == len(about["cells"])


def test_pictures_are_clear_where_nothing_is_and_the_whole_sky_fits_in_one(tmp_path):
    write_image(tmp_path / "stars.fits", "TAN")
    collection = cupola.open(str(tmp_path / "stars.fits"))
    chain = collection[collection.bands[0]]
    style = Style("gray", (0.0,), (500.0,)).to_json()
    about = json.loads(ask(chain, "about"))
    cells = coverage.decode(np.array(about["cells"], dtype=np.int64))
    tile = coverage.at_order(cells, about["order"])[0]
    body = ask(chain, "tile", order=about["order"], pixel=tile, kind="png", style=style)
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.size == (512, 512)
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert 0 < (alpha == 255).mean() < 1
    assert set(np.unique(alpha)) == {0, 255}
    with Image.open(io.BytesIO(ask(chain, "allsky", style=style))) as whole:
        assert whole.size == (27 * 64, 29 * 64)


def test_few_pixels_of_many_are_picked_and_give_the_same(tmp_path, monkeypatch):
    header_scale = 1.0 / 36000
    write_image(tmp_path / "fine.fits", "TAN", pixel=header_scale)
    collection = cupola.open(str(tmp_path / "fine.fits"))
    band = collection[collection.bands[0]]
    for method in ("nearest", "bilinear", "cubic"):
        chain = band.resample(method) if method != "nearest" else band
        about = json.loads(ask(chain, "about"))
        place = (about["order"] - 3, cell_pixel(about["order"] - 3, about["ra"], about["dec"])[0])
        picked = hips.compute(chain, *place)
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "_SPARSE", 10**9)
            whole = hips.compute(chain, *place)
        assert picked.valid.any()
        np.testing.assert_array_equal(picked.valid, whole.valid)
        np.testing.assert_allclose(picked.data, whole.data, rtol=1e-5)


def test_mosaics_and_computed_chains(tmp_path):
    folder = tmp_path / "exposures"
    folder.mkdir()
    write_image(folder / "a.fits", "TAN", centre=(150.1, 2.2))
    write_image(folder / "b.fits", "TAN", centre=(150.1 + 0.05, 2.2))
    collection = cupola.open(str(folder))
    band = collection.bands[0]
    both = collection[band].map(lambda values: np.arcsinh(values) * 2)
    about = json.loads(ask(both, "about"))
    one = json.loads(ask(cupola.open(str(folder / "a.fits"))[band], "about"))
    assert about["fraction"] > one["fraction"] * 1.4
    tile = cell_pixel(6, 150.1, 2.2)[0]
    pixels = hips.compute(both, 6, tile)
    assert set(pixels.items) == {"a", "b"}
    assert np.nanmin(pixels.data) == pytest.approx(2 * np.arcsinh(10.0), rel=1e-3)


def test_images_of_a_body_are_refused(tmp_path):
    import rasterio
    from rasterio.transform import from_origin

    with rasterio.open(
        tmp_path / "earth.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="uint8",
        crs="EPSG:3857", transform=from_origin(0, 800, 100, 100),
    ) as file:  # fmt: skip
        file.write(np.ones((8, 8), dtype="uint8"), 1)
    earth = cupola.open(str(tmp_path / "earth.tif"))
    with pytest.raises(BodyError, match="shows Earth"):
        hips.work(earth[earth.bands[0]], {"part": "about", "revision": ""})
    with pytest.raises(BodyError, match=r"cupola\.Map\(\)"):
        cupola.SkyMap().add(earth)

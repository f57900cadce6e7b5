"""Products of all kinds: colours, classes, units, statistics, many bands, swaths, the sky; and what they take of memory."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from astropy.io import fits
from astropy.wcs import WCS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from cupola.exceptions import InputError, LimitError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.planning import pieces_with_items, plan
from cupola.lab.chains.runs.composite import write_piece
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.chains.runs.reproduce import reproduce
from cupola.lab.collections.images import describe
from cupola.lab.samples import sentinel5p

CLASSES = [
    {"value": 1, "name": "water", "color_hint": "0000FF"},
    {"value": 2, "name": "land", "color_hint": "00ff00"},
]


def said_of(path):
    return json.loads(path.with_suffix(".json").read_text())


def bands_of(path):
    return said_of(path)["assets"]["data"]["bands"]


@pytest.fixture
def scene(tmp_path, write_image, write_item):
    """Three bands, one of temperatures and one of classes."""
    folder = tmp_path / "in"
    array = np.arange(1, 10_001, dtype="uint16").reshape(100, 100)
    write_image(folder / "t.tif", array, nodata=1)
    write_image(folder / "c.tif", (array % 3).astype("uint8"), nodata=0)
    write_image(folder / "rgb.tif", np.stack([(array // n % 256).astype("uint8") for n in (1, 2, 3)]))
    kelvin = [{"name": "surface", "unit": "K", "raster:scale": 0.1}]
    assets = {
        "t": {"href": "t.tif", "type": "image/tiff", "bands": kelvin},
        "c": {
            "href": "c.tif",
            "type": "image/tiff",
            "bands": [{"name": "cover", "classification:classes": CLASSES}],
        },
        "rgb": {"href": "rgb.tif", "type": "image/tiff"},
    }
    write_item(folder / "one.json", bbox=(8.9, 45.0, 9.1, 45.2), assets=assets)
    return collections.open(folder)


def test_statistics_and_units_are_those_of_the_values(scene, tmp_path):
    chain = scene["t"]
    path = write_product(chain, scene.items[0], tmp_path / "out", dtype="int16", scale=0.1)
    values = np.arange(2, 10_001) * 0.1
    (band,) = bands_of(path)
    found = band["statistics"]
    assert (band["name"], band["unit"], found["count"], found["valid_percent"]) == ("t", "K", 9999, 99.99)
    for name, expected in (
        ("minimum", 0.2),
        ("maximum", 1000),
        ("mean", values.mean()),
        ("stddev", values.std()),
    ):
        assert found[name] == pytest.approx(expected, rel=1e-5)
    with rasterio.open(path) as product:
        assert (product.descriptions, product.units) == (("t",), ("K",))
        # In the file statistics are of the stored numbers, as other programs expect.
        assert float(product.tags(1)["STATISTICS_MAXIMUM"]) == pytest.approx(10_000, rel=1e-5)
    assert "unit" not in bands_of(write_product(chain * 2, scene.items[0], tmp_path / "other"))[0]


def test_statistics_of_far_values_and_of_none(tmp_path, write_image):
    array = np.random.default_rng(2).normal(100_000, 3, (1300, 900)).astype("float32")
    array[:50] = np.nan
    image = collections.open(write_image(tmp_path / "far.tif", array, nodata=np.nan, tiled=True))
    (band,) = bands_of(write_product(image["b1"], image.items[0], tmp_path / "out"))
    assert band["statistics"]["stddev"] == pytest.approx(np.nanstd(array, dtype="float64"), rel=1e-4)
    (band,) = bands_of(write_product(image["b1"] * np.nan, image.items[0], tmp_path / "none"))
    assert band["statistics"] == {"count": 0, "valid_percent": 0.0}


def test_bands_have_the_name_of_the_function_that_made_them(scene, tmp_path):
    def warm(band):
        return band > 300, band

    assert [
        one["name"] for one in bands_of(write_product(scene["t"].map(warm), scene.items[0], tmp_path))
    ] == [
        "warm-1",
        "warm-2",
    ]
    path = write_product(scene["t"].map(lambda band: band), scene.items[0], tmp_path / "lambda")
    assert [one["name"] for one in bands_of(path)] == ["data"]


def test_three_bands_of_bytes_are_a_colour_picture(scene, tmp_path):
    path = write_product(scene["rgb"], scene.items[0], tmp_path, dtype="uint8", nodata=0)
    with rasterio.open(path) as product:
        assert product.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    path = write_product(scene["rgb"], scene.items[0], tmp_path / "wide", dtype="uint16")
    with rasterio.open(path) as product:
        assert product.colorinterp[0] != ColorInterp.red


def test_classes_keep_names_and_colours_until_they_are_computed_with(scene, tmp_path):
    path = write_product(scene["c"], scene.items[0], tmp_path / "a", dtype="uint8")
    assert bands_of(path)[0]["classification:classes"] == CLASSES
    assert any("classification" in one for one in said_of(path)["stac_extensions"])
    with rasterio.open(path) as product:
        assert product.colormap(1)[1] == (0, 0, 255, 255)
        assert product.colormap(1)[2] == (0, 255, 0, 255)
    for number, chain in enumerate((scene["c"] * 2, scene["c"].mean())):
        written = (
            write_piece(chain, plan(chain), (0, 0), tmp_path / f"b{number}", dtype="uint8")
            if chain.reduced
            else write_product(chain, scene.items[0], tmp_path / f"b{number}", dtype="uint8")
        )
        assert "classification:classes" not in bands_of(written)[0]
    mosaic = scene["c"].mosaic()
    written = write_piece(mosaic, plan(mosaic), (0, 0), tmp_path / "c", dtype="uint8")
    assert bands_of(written)[0]["classification:classes"] == CLASSES


def test_many_bands_are_stored_one_after_another(tmp_path, write_image):
    array = np.random.default_rng(3).integers(1, 99, (6, 600, 700)).astype("uint16")
    image = collections.open(write_image(tmp_path / "many.tif", array))
    chain = image[tuple(f"b{number}" for number in range(1, 7))]
    path = write_product(chain, image.items[0], tmp_path / "out", dtype="uint16")
    with rasterio.open(path) as product:
        assert (product.profile["interleave"], product.block_shapes[0]) == ("band", (256, 256))
        assert product.overviews(1) == [2, 4]
        assert np.array_equal(product.read(), array)
        assert product.overviews(6) == [2, 4]


def test_what_another_collection_adds_is_an_input_too(scene, tmp_path, write_image):
    land = collections.open(write_image(tmp_path / "land" / "land.tif", np.tri(100, dtype="uint8")))
    chain = scene["t"].mask(land["b1"].mosaic() > 0)
    path = write_product(chain, scene.items[0], tmp_path / "out")
    with rasterio.open(path) as product:
        kept = np.tri(100) > 0
        kept[0, 0] = False  # no data in the scene
        assert np.array_equal(np.isfinite(product.read(1)), kept)
    assert [one["item"] for one in said_of(path)["properties"]["cupola:inputs"]] == ["one", "land"]
    assert reproduce(path).identical
    before = path.stat().st_ino
    write_product(chain, scene.items[0], tmp_path / "out", keep=True)
    assert path.stat().st_ino == before
    write_image(tmp_path / "land" / "land.tif", np.ones((100, 100), "uint8"))
    assert reproduce(path).state == "inputs-changed"


# Swaths and the sky


@pytest.fixture(scope="module")
def swaths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s5p")
    list(sentinel5p.write(folder, scanlines=80, pixels=50))
    return folder


def test_a_swath_becomes_a_regular_grid(swaths, tmp_path):
    collection = collections.open(swaths)
    item = collection.items[0]
    chain = collection["nitrogendioxide_tropospheric_column"] * 1e6
    path = write_product(chain, item, tmp_path / "out")
    with rasterio.open(path) as product:
        assert product.crs == "EPSG:4087"
        assert 3_000 < product.res[0] == product.res[1] < 40_000
        assert product.overviews(1) or max(product.shape) <= 256
        values = product.read(1)
    assert 0.2 < np.isfinite(values).mean() < 0.9
    made = collections.open(tmp_path / "out").items[0]
    west, south, east, north = item.bbox
    assert made.bbox == pytest.approx((west, south, east, north), abs=0.5)
    assert made.body == bodies.EARTH
    assert reproduce(path).identical


def test_a_mean_of_swaths(swaths, tmp_path):
    chain = collections.open(swaths)["nitrogendioxide_tropospheric_column"].mean()
    grid = plan(chain, resolution=50_000)
    (piece,) = pieces_with_items(grid, [item.bbox for item in chain.collection])
    path = write_piece(chain, grid, piece, tmp_path / "mean")
    assert len(said_of(path)["properties"]["cupola:inputs"]) == len(chain.collection)
    assert reproduce(path).identical


def stars(path, value, centre=(30.0, 20.0), **more):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (
        ["RA---TAN", "DEC--TAN"],
        list(centre),
        [25.5, 20.5],
        [-0.001, 0.001],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(value, wcs.to_header()).writeto(path, **more)
    return path


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", "uint8"])
def test_a_product_of_the_sky_is_a_fits_file_with_the_same_coordinates(tmp_path, dtype):
    values = np.arange(1, 2001, dtype="float32").reshape(40, 50)
    values[3, 4] = np.nan
    source = stars(tmp_path / "in" / "field.fits", values)
    image = collections.open(source)
    chain = image[image.bands[0]] * 0.1
    scale = {} if dtype == "float32" else {"scale": 1.0 if dtype == "uint8" else 0.1}
    path = write_product(chain, image.items[0], tmp_path / "out", dtype=dtype, **scale)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        written, coordinates = hdus[0].data, WCS(hdus[0].header)
        assert np.isnan(written[3, 4])
        assert np.allclose(written, values * 0.1, atol=0.51 if dtype == "uint8" else 1e-4, equal_nan=True)
    expected = WCS(fits.getheader(source)).pixel_to_world_values(7, 9)
    assert np.allclose(coordinates.pixel_to_world_values(7, 9), expected, rtol=0, atol=1e-9)
    made = collections.open(tmp_path / "out")
    assert made.items[0].body == bodies.SKY
    assert made.items[0].bbox == pytest.approx(image.items[0].bbox)
    assert said_of(path)["assets"]["data"]["type"] == "image/fits"
    assert np.allclose(made["data"].compute().values[0], written, equal_nan=True)
    assert reproduce(path).identical


def test_a_sky_product_that_was_changed_is_told(tmp_path):
    image = collections.open(stars(tmp_path / "in" / "field.fits", np.ones((40, 50), "float32")))
    path = write_product(image[image.bands[0]], image.items[0], tmp_path / "out")
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[5:7, 10:13] = 4
    found = reproduce(path).comparison
    assert (found.different, found.largest, found.window) == (6, 3.0, (10, 5, 3, 2))
    assert 29.9 < found.box[0] < found.box[2] < 30.1


def test_planes_of_the_sky_keep_names_and_lookup_tables_come_along(data, tmp_path):
    image = collections.open(data / "fits" / "m31.fits")
    path = write_product(image["red", "green", "blue"], image.items[0], tmp_path / "m31", dtype="uint8")
    with fits.open(path) as hdus:
        assert hdus[0].data.shape[0] == 3
        assert [hdus[0].header[f"BAND{number}"] for number in (1, 2, 3)] == ["red", "green", "blue"]
    hst = collections.open(data / "fits" / "sample_svm_flc.fits")
    path = write_product(hst["SCI,1"], hst.items[0], tmp_path / "hst")
    with fits.open(path) as hdus:
        assert {"D2IMARR", "WCSDVARR"} <= {hdu.name for hdu in hdus}
    before = describe(f"{data}/fits/sample_svm_flc.fits#SCI,1").placement.lonlat(
        np.array([3.0]), np.array([7.0])
    )
    after = describe(str(path)).placement.lonlat(np.array([3.0]), np.array([7.0]))
    assert np.allclose(before, after, rtol=0, atol=1e-9)


def test_a_mean_on_the_sky(tmp_path):
    for number, right_ascension in enumerate((0.0, 0.02)):
        stars(
            tmp_path / "in" / f"{number}.fits",
            np.full((40, 50), number + 1, "float32"),
            (right_ascension, 20),
        )
    collection = collections.open(tmp_path / "in")
    chain = collection[collection.bands[0]].mean()
    grid = plan(chain)
    assert grid.width < 100
    path = write_piece(chain, grid, (0, 0), tmp_path / "mean")
    assert path.suffix == ".fits"
    with fits.open(path) as hdus:
        column, row = WCS(hdus[0].header).world_to_pixel_values(0.01, 20.0)
        assert hdus[0].data[round(float(row)), round(float(column))] == 1.5
        column, row = WCS(hdus[0].header).world_to_pixel_values(359.99, 20.0)
        assert hdus[0].data[round(float(row)), round(float(column))] == 1.0
    assert reproduce(path).identical


def test_full_disk_is_told_for_fits_files_too(tmp_path, monkeypatch):
    image = collections.open(stars(tmp_path / "in" / "field.fits", np.ones((40, 50), "float32")))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(LimitError, match="is full"):
        write_product(image[image.bands[0]], image.items[0], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["collection.json"]


def test_bands_that_change_their_number_are_told(tmp_path, monkeypatch):
    values = np.ones((40, 50), "float32")
    values[0, 0] = 2
    image = collections.open(stars(tmp_path / "in" / "field.fits", values))
    monkeypatch.setattr("cupola.lab.chains.runs.fullres._HELD", 1)
    monkeypatch.setattr("cupola.lab.chains.runs.fullres._WINDOWS", (16,))
    chain = image[image.bands[0]].map(lambda band: (band, band) if np.nanmax(band) > 1 else band)
    with pytest.raises(InputError, match="2 bands for one window and 1 for another"):
        write_product(chain, image.items[0], tmp_path / "out")


# Memory

PEAK = """
import sys
import numpy as np
from cupola.lab import collections
from cupola.lab.chains.runs.fullres import write_product

image = collections.open(sys.argv[1])
chain = image[tuple(f"b{number}" for number in range(1, 61))].map(lambda *bands: np.stack(bands) + 1)
write_product(chain, image.items[0], sys.argv[2])
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000)
"""


def test_sixty_bands_take_less_than_600_mb(tmp_path):
    """Larger images and composites of a hundred are measured by the benchmarks."""
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "transform": from_origin(4e5, 5e6, 10, 10)}
    profile = {"count": 60, "dtype": "uint16", "nodata": 9, "crs": "EPSG:32632", "sparse_ok": True, **layout}
    # Sparse: blocks that were never written read as no data and cost nothing on the disk.
    with rasterio.open(tmp_path / "many.tif", "w", driver="GTiff", width=600, height=600, **profile) as image:
        image.write(np.full((60, 1, 600), 5, "uint16"), window=((0, 1), (0, 600)))
    command = [sys.executable, "-W", "ignore", "-c", PEAK, str(tmp_path / "many.tif"), str(tmp_path / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 600

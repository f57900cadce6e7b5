"""Resampling against its definitions, on grids of all kinds."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from scipy import ndimage

from cupola.exceptions import ImageError, InputError
from cupola.lab import collections
from cupola.lab.chains.pixels.grids import Grid, ImageGrid
from cupola.lab.chains.pixels.places import image_pixels
from cupola.lab.chains.pixels.resampling import between, gather
from cupola.lab.chains.pixels.sampling import Sampler
from cupola.lab.collections.images import describe
from cupola.lab.projection import lonlat_of_wkt


@pytest.fixture
def noisy(tmp_path, write_image):
    """64 x 96 pixels of 10 m in UTM, some of them missing."""
    values = np.random.default_rng(4).integers(1, 200, (64, 96)).astype("uint8")
    values[20:24, 30:35] = 0
    path = write_image(tmp_path / "noisy.tif", values, nodata=0)
    return collections.open(path).items[0].band("b1")[0], np.where(
        values == 0, np.nan, values.astype(np.float32)
    )


def utm(image, step, width, height, shift=0.0):
    """Return a grid on the image's own plane, with pixels of `step` of its own."""
    a, _, left, _, _, top = image.transform[:6]
    return Grid(
        lonlat_of_wkt(image.wkt), left + shift * a, top - shift * a, step * a, step * a, width, height
    )


def test_own_grid_gives_the_pixels_themselves(noisy):
    band, values = noisy
    image = describe(band.path)
    for grid in (ImageGrid.of(image), utm(image, 1, 96, 64)):
        for method in ("nearest", "bilinear", "average", "mode"):
            assert np.array_equal(Sampler(grid).read(band, method), values, equal_nan=True)
        assert np.allclose(Sampler(grid).read(band, "cubic"), values, equal_nan=True)
    part = ImageGrid.of(image).window(-3, 60, 10, 10)
    found = Sampler(part).read(band)
    assert np.array_equal(found[:4, 3:], values[60:64, :7], equal_nan=True)
    assert np.isnan(found[4:]).all()
    assert np.isnan(found[:, :3]).all()


@pytest.mark.parametrize("times", [2, 4, 8])
def test_average_and_mode_of_whole_blocks(noisy, times):
    band, values = noisy
    grid = ImageGrid.of(describe(band.path), float(times))
    blocks = values.reshape(64 // times, times, 96 // times, times)
    with np.errstate(invalid="ignore"):
        expected = np.nansum(blocks, axis=(1, 3)) / np.isfinite(blocks).sum(axis=(1, 3))
    assert np.allclose(Sampler(grid).read(band, "average"), expected, equal_nan=True)
    modes = Sampler(grid).read(band, "mode")
    for row in range(0, 64 // times, 3):
        for column in range(0, 96 // times, 3):
            block = blocks[row, :, column]
            known, count = np.unique(block[np.isfinite(block)], return_counts=True)
            assert (
                modes[row, column] == known[np.argmax(count)] if len(known) else np.isnan(modes[row, column])
            )


def test_bilinear_is_scipys_where_nothing_is_missing(noisy):
    band, values = noisy
    image = describe(band.path)
    grid = utm(image, 0.4, 100, 80, shift=5.3)
    found = Sampler(grid).read(band, "bilinear")
    columns, rows, _ = image_pixels(grid, image)
    rows, columns = np.broadcast_arrays(rows, columns)
    expected = ndimage.map_coordinates(
        np.nan_to_num(values), [rows - 0.5, columns - 0.5], order=1, mode="nearest"
    )
    good = (
        ndimage.map_coordinates(np.isnan(values).astype(float), [rows - 0.5, columns - 0.5], order=1) < 1e-9
    )
    assert good.mean() > 0.9
    assert np.allclose(found[good], expected[good], atol=1e-3)


def test_cubic_is_exact_for_parabolas_and_bilinear_for_planes():
    rows, columns = np.mgrid[0:20, 0:30].astype(np.float32) + 0.5
    plane, parabola = 3 * rows - columns, rows**2 / 10 + columns
    at_x, at_y = (part.ravel() for part in np.meshgrid(np.linspace(4, 25, 17), np.linspace(4, 15, 13)))
    assert np.allclose(between(plane, at_x, at_y, "bilinear"), 3 * at_y - at_x, atol=1e-4)
    assert np.allclose(between(plane, at_x, at_y, "cubic"), 3 * at_y - at_x, atol=1e-4)
    assert np.allclose(between(parabola, at_x, at_y, "cubic"), at_y**2 / 10 + at_x, atol=1e-3)


def test_missing_pixels_spread_nothing(noisy):
    """A place is missing where its own pixel is, and nowhere else."""
    band, _ = noisy
    grid = utm(describe(band.path), 0.25, 200, 150, shift=15.0)
    nearest = Sampler(grid).read(band)
    for method in ("bilinear", "cubic"):
        found = Sampler(grid).read(band, method)
        assert np.array_equal(np.isnan(found), np.isnan(nearest))
        assert np.nanmax(found) < 300
    assert np.isnan(gather(np.full((4, 4), np.nan, np.float32), 2, "average")).all()
    assert np.array_equal(
        gather(np.array([[1, np.nan], [1, 2]], np.float32), 2, "average"), np.array([[4 / 3]], np.float32)
    )
    assert gather(np.array([[3, np.nan], [2, 3]], np.float32), 2, "mode") == 3


def test_average_of_a_big_step_without_a_pyramid_is_unbiased(tmp_path, write_image):
    """40 pixels to a side: an even choice of them is looked at."""
    values = np.add.outer(np.arange(400), np.arange(400)).astype("float32")
    band = collections.open(write_image(tmp_path / "ramp.tif", values)).items[0].band("b1")[0]
    found = Sampler(ImageGrid.of(describe(band.path), 40.0)).read(band, "average")
    expected = values.reshape(10, 40, 10, 40).mean(axis=(1, 3))
    assert np.abs(found - expected).max() < 1.5


def test_unknown_method_and_images_that_do_not_fit(tmp_path, write_image, noisy):
    band, _ = noisy
    with pytest.raises(InputError, match=r"no resampling 'lanczos'; choose one of nearest, bilinear"):
        Sampler(ImageGrid.of(describe(band.path))).read(band, "lanczos")
    small, large = (
        collections.open(write_image(tmp_path / f"{size}.tif", np.ones((size, size), "uint8"), crs=None))
        .items[0]
        .band("b1")[0]
        for size in (8, 9)
    )
    with pytest.raises(
        InputError, match=r"8\.tif \(8 x 8\) and .*9\.tif \(9 x 9\).*no common coordinate system"
    ):
        Sampler(ImageGrid.of(describe(small.path))).read(large)


@pytest.mark.parametrize("method", ["nearest", "bilinear", "average"])
def test_damaged_file_is_named(tmp_path, write_image, method):
    path = write_image(tmp_path / "cut.tif", np.ones((512, 512), "uint8"), tiled=True, compress="deflate")
    values = np.random.default_rng(0).integers(0, 255, (1, 512, 512)).astype("uint8")
    with rasterio.open(path, "r+") as dataset:
        dataset.write(values)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    band = collections.open(path).items[0].band("b1")[0]
    with pytest.raises(ImageError, match=r"cut\.tif .*damaged or cut off"):
        Sampler(ImageGrid.of(describe(str(path)), 2.0)).read(band, method)


def test_grids_of_an_image_without_a_place(tmp_path, write_image):
    image = describe(str(write_image(tmp_path / "raw.tif", np.ones((8, 6), "uint8"), crs=None)))
    grid = ImageGrid.of(image, 4.0)
    assert (grid.width, grid.height) == (2, 2)
    assert np.isnan(grid.lonlat(np.zeros(3), np.zeros(3))).all()
    assert np.isnan(grid.pixels(np.zeros(3), np.zeros(3))).all()
    assert grid.of_image(np.array([1.0]), np.array([0.5])) == (4.0, 2.0)


@pytest.mark.parametrize("size", [2, 16, 40, 300])
def test_net_of_places_keeps_its_tolerance(tmp_path, write_image, size):
    """Whatever the size of the grid, places are within an eighth of a pixel of where PROJ has them."""
    band = (
        collections.open(write_image(tmp_path / "utm.tif", np.ones((900, 900), "uint8")))
        .items[0]
        .band("b1")[0]
    )
    image = describe(band.path)
    import pyproj

    plane = lonlat_of_wkt(pyproj.CRS.from_epsg(3857).to_wkt())
    x, y = plane.forward([9.0], [45.12])
    grid = Grid(plane, x[0], y[0], 2500 / size, 2500 / size, size, size)
    columns, rows, factor = image_pixels(grid, image)
    exact = image.placement.pixels(*grid.lonlat(*np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)))
    assert max(np.abs(columns - exact[0]).max(), np.abs(rows - exact[1]).max()) < 0.13 * factor

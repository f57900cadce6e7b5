from __future__ import annotations

import shutil
from datetime import UTC, datetime

import h5netcdf
import h5py
import numpy as np
import pytest
import zarr
from scipy.io import netcdf_file

from cupola.exceptions import BandError, ImageError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.collections.images import Band, describe, is_image_name, open_image, parts, physical
from cupola.lab.collections.placement import Swath
from cupola.lab.samples import sentinel5p

EARTH = "WebMercatorQuad"


def values_of(path, index=1):
    image = describe(str(path))
    with open_image(str(path)) as dataset:
        return physical(dataset.read(index), Band("b", str(path), index), image)


@pytest.fixture(scope="session")
def swath(tmp_path_factory):
    """A swath in the groups of the real product."""
    folder = tmp_path_factory.mktemp("s5p")
    for _ in sentinel5p.write(folder, scanlines=160, pixels=120):
        pass
    return min(folder.rglob("*.nc"))


def test_sentinel5p_variables_are_bands(swath):
    collection = collections.open(swath)
    assert collection.bands[0] == "nitrogendioxide_tropospheric_column"
    assert {"qa_value", "cloud_fraction_crb_nitrogendioxide_window", "surface_pressure"} <= set(
        collection.bands
    )
    assert not {"latitude", "longitude", "latitude_bounds", "delta_time"} & set(collection.bands)
    image = describe(str(swath))
    assert isinstance(image.placement, Swath)
    assert (image.body, image.units) == (bodies.EARTH, ("mol m-2",))
    assert image.start is not None
    assert image.start.tzinfo is UTC
    assert image.end > image.start
    with pytest.raises(BandError, match="no band 'no3'"):
        collection["no3"]


def test_sentinel5p_scales_fill_values_and_quality(swath):
    column, quality = values_of(swath), values_of(f"{swath}#PRODUCT/qa_value")
    with h5py.File(swath) as file:
        raw = file["PRODUCT/nitrogendioxide_tropospheric_column"][0]
        stored = file["PRODUCT/qa_value"][0]
    assert np.array_equal(np.isnan(column), raw > 9e36)
    assert np.isnan(column).any()
    assert np.allclose(quality, stored / 100, atol=1e-6)
    assert 0 <= np.nanmin(quality) < np.nanmax(quality) <= 1


def test_sentinel5p_tile_holds_the_pixels_that_cover_it(swath):
    """Beside the nearest pixel of all by brute force."""
    from scipy.spatial import cKDTree

    from cupola.lab.collections.formats.swath import unit_vectors

    collection = collections.open(swath)
    chain = collection["nitrogendioxide_tropospheric_column"].where(collection["qa_value"] > 0.5)
    where = (31, 21, 6)
    found = tile(chain, EARTH, *where)
    with h5py.File(swath) as file:
        longitude, latitude = (file[f"PRODUCT/{name}"][0] for name in ("longitude", "latitude"))
    column = values_of(swath)
    column[~(values_of(f"{swath}#PRODUCT/qa_value") > 0.5)] = np.nan
    grid = bodies.tile_matrix_set(EARTH).bounds(*where)
    steps = (np.arange(256) + 0.5) / 256
    lon = grid.left + (grid.right - grid.left) * steps
    top, bottom = (np.arctanh(np.sin(np.radians(value))) for value in (grid.top, grid.bottom))
    lat = np.degrees(np.arcsin(np.tanh(top + (bottom - top) * steps)))
    places = unit_vectors(*(part.ravel() for part in np.meshgrid(lon, lat)))
    distance, nearest = cKDTree(unit_vectors(longitude, latitude).reshape(-1, 3)).query(places)
    expected = np.where(distance < 0.03, column.ravel()[nearest], np.nan).reshape(256, 256)
    same = (found.data[0] == expected) | (np.isnan(found.data[0]) & np.isnan(expected))
    assert found.valid.mean() > 0.3
    assert same.mean() > 0.9


def test_sentinel5p_chain_over_all_of_a_file_and_product(swath, tmp_path):
    collection = collections.open(swath)
    path = write_product(
        collection["nitrogendioxide_tropospheric_column"] * 1e6, collection.items[0], tmp_path
    )
    written = values_of(path)
    column = values_of(swath) * np.float32(1e6)
    assert np.isfinite(written).any()
    assert np.nanmin(written) >= np.nanmin(column) - 1e-3
    assert np.nanmax(written) <= np.nanmax(column) + 1e-3


def test_full_size_swath_is_found_quickly_enough_to_be_cached(swath):
    """The geolocation is read and indexed once for a file, not once for a tile."""
    from cupola.lab.collections.formats.swath import net_of

    placement = describe(str(swath)).placement
    assert net_of(placement) is net_of(describe(f"{swath}#PRODUCT/qa_value").placement)


def grid_file(path, *, latitudes, longitudes, **more):
    """Write a map of three times in the ways of CF: packed, with fill value and valid range."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"time": 3, "lat": len(latitudes), "lon": len(longitudes)}
        for name, values, units in (("lat", latitudes, "degrees_north"), ("lon", longitudes, "degrees_east")):
            file.create_variable(name, (name,), "f8", data=values).attrs["units"] = units
        time = file.create_variable("time", ("time",), "f8", data=[0.0, 31.0, 60.0])
        time.attrs.update(units="days since 2020-01-01 00:00:00", standard_name="time")
        raw = np.arange(3 * len(latitudes) * len(longitudes), dtype="i2").reshape(3, len(latitudes), -1)
        raw[0, 0, 0], raw[0, 0, 1] = -32768, 20_000
        packed = file.create_variable(
            "t2m", ("time", "lat", "lon"), "i2", fillvalue=np.int16(-32768), data=raw
        )
        packed.attrs.update(scale_factor=0.5, add_offset=10.0, units="K", valid_max=np.int16(19_999), **more)
    return raw


def test_regular_map_of_several_times(tmp_path):
    path = tmp_path / "map.nc"
    raw = grid_file(path, latitudes=np.arange(40, 50, 0.5), longitudes=np.arange(350, 370, 0.5))
    image = describe(str(path))
    assert (image.count, image.driver, image.units) == (3, "netCDF", ("K",) * 3)
    assert (image.start, image.end) == (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 3, 1, tzinfo=UTC))
    found = values_of(path)
    assert np.isnan(found[0, :2]).all()
    assert np.allclose(found[1:], raw[0, 1:] * 0.5 + 10)
    collection = collections.open(path)
    # Rows go north here, and longitude beyond 360.
    assert collection.bbox == pytest.approx((-10.25, 39.75, 9.75, 49.75))
    pixels = tile(collection["b2"], EARTH, 31, 22, 6)
    assert pixels.valid.any()
    west = image.placement.pixels(np.array([-9.9]), np.array([40.1]))
    assert (int(west[0][0]), int(west[1][0])) == (0, 0)


def test_uneven_latitudes_are_a_swath(tmp_path):
    """A Gaussian grid has no even steps."""
    latitudes = np.degrees(np.arcsin(np.polynomial.legendre.leggauss(32)[0]))[::-1]
    grid_file(tmp_path / "gauss.nc", latitudes=latitudes, longitudes=np.arange(-180, 180, 5.0))
    image = describe(str(tmp_path / "gauss.nc"))
    assert isinstance(image.placement, Swath)
    columns, rows = image.placement.pixels(np.array([0.0, 100.0]), latitudes[[10, 20]])
    assert np.allclose(columns, [36.5, 56.5], atol=1e-6)
    assert np.allclose(rows, [10.5, 20.5], atol=0.01)


def test_projected_map_with_grid_mapping(tmp_path):
    path = tmp_path / "polar.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"y": 30, "x": 40}
        file.create_variable("x", ("x",), "f8", data=np.arange(40) * 25.0 - 500).attrs.update(
            standard_name="projection_x_coordinate", units="km"
        )
        file.create_variable("y", ("y",), "f8", data=500 - np.arange(30) * 25.0).attrs.update(
            standard_name="projection_y_coordinate", units="km"
        )
        mapping = file.create_variable("crs", (), "i4", data=0)
        mapping.attrs.update(
            grid_mapping_name="polar_stereographic", latitude_of_projection_origin=90.0, standard_parallel=70.0,
            straight_vertical_longitude_from_pole=-45.0, false_easting=0.0, false_northing=0.0,
            semi_major_axis=6378273.0, semi_minor_axis=6356889.449,
        )  # fmt: skip
        ice = file.create_variable("ice", ("y", "x"), "f4", data=np.ones((30, 40), "f4"))
        ice.attrs["grid_mapping"] = "crs"
    image = describe(str(path))
    assert image.transform[:6] == (25_000, 0, -512_500, 0, -25_000, 512_500)
    _, latitude = image.placement.lonlat(np.array([20.5]), np.array([20.5]))
    assert latitude[0] == pytest.approx(90, abs=0.01)
    collection = collections.open(path)
    assert bodies.best_projection(collection.bbox) == "npolar"
    assert tile(collection["ice"], "Earth2015npolar", 0, 0, 0).valid.any()


def test_classic_netcdf(tmp_path):
    path = tmp_path / "old.nc"
    with netcdf_file(path, "w") as file:
        file.createDimension("lat", 4)
        file.createDimension("lon", 6)
        for name, values, units in (
            ("lat", [3.0, 2.0, 1.0, 0.0], "degrees_north"),
            ("lon", np.arange(6.0), "degrees_east"),
        ):
            axis = file.createVariable(name, "d", (name,))
            axis[:] = values
            axis.units = units
        data = file.createVariable("depth", "f", ("lat", "lon"))
        data[:] = np.arange(24).reshape(4, 6)
        data._FillValue = np.float32(5)
    found = values_of(path)
    assert np.isnan(found[0, 5])
    assert found[3, 5] == 23
    assert collections.open(path).bbox == pytest.approx((-0.5, -0.5, 5.5, 3.5))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    path = tmp_path / "cube.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=version)
    names = {"dimension_names": None} if version == 2 else {}

    def put(name, values, dimensions, **attributes):
        if version == 3:
            names["dimension_names"] = dimensions
        array = group.create_array(name, data=values, **({} if version == 2 else names))
        array.attrs.update(attributes | ({"_ARRAY_DIMENSIONS": dimensions} if version == 2 else {}))

    put("latitude", np.array([12.0, 11.0, 10.0]), ["latitude"], units="degrees_north")
    put("longitude", np.array([20.0, 21.0, 22.0, 23.0]), ["longitude"], units="degrees_east")
    put(
        "rain",
        np.arange(12, dtype="i4").reshape(3, 4),
        ["latitude", "longitude"],
        scale_factor=0.1,
        units="mm",
    )
    assert is_image_name(str(path))
    collection = collections.open(path)
    assert collection.bands == ["rain"]
    assert np.allclose(values_of(path), np.arange(12).reshape(3, 4) * 0.1)
    assert collection.bbox == pytest.approx((19.5, 9.5, 23.5, 12.5))
    before = describe(str(path))
    group["rain"].attrs["units"] = "cm"
    shutil.copystat(tmp_path, path)
    assert before.units == ("mm",)
    assert describe(str(path)).units == ("cm",)


def test_plain_arrays_are_in_image_space(tmp_path):
    path = tmp_path / "camera.h5"
    frames = np.arange(2 * 20 * 30, dtype="u2").reshape(2, 20, 30)
    with h5py.File(path, "w") as file:
        file["entry/data/frames"] = frames
        file["entry/data/dark"] = frames[0]
        file["entry/name"] = "camera"
    collection = collections.open(path)
    assert collection.body is None
    assert set(collection.bands) == {"frames", "dark"}
    assert set(parts(str(path))) == {"entry/data/frames", "entry/data/dark"}
    found = tile(collection["dark"], "ImageSpace", 0, 0, 12)
    assert np.array_equal(found.data[0, :20, :30], frames[0])
    assert found.valid.sum() == 600
    assert np.array_equal(values_of(f"{path}#entry/data/frames", 2), frames[1])


def test_hdf4_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "MOD09GA.hdf"
    path.write_bytes(b"\x0e\x03\x13\x01" + bytes(100))
    with pytest.raises(ImageError, match=r"MOD09GA\.hdf is HDF4.*convert it to netCDF"):
        collections.open(path)


@pytest.mark.parametrize(
    "content", [b"", b"plain text", b"\x89HDF\r\n\x1a\n" + bytes(50), b"CDF\x01" + bytes(9)]
)
def test_other_and_damaged_files(tmp_path, content):
    path = tmp_path / "wrong.nc"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"wrong\.nc (cannot be read|is neither|holds no)"):
        collections.open(path)


def test_file_that_was_cut_off(swath, tmp_path):
    cut = tmp_path / "cut.nc"
    cut.write_bytes(swath.read_bytes()[: swath.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"cut\.nc"):
        values_of(cut)


def test_replaced_file_is_seen(tmp_path):
    path = tmp_path / "map.nc"
    grid_file(path, latitudes=np.arange(0, 10, 0.5), longitudes=np.arange(0, 10, 0.5))
    first = values_of(path, 2)
    grid_file(tmp_path / "new.nc", latitudes=np.arange(0, 20, 0.5), longitudes=np.arange(0, 10, 0.5))
    (tmp_path / "new.nc").replace(path)
    assert values_of(path, 2).shape == (40, 20)
    assert first.shape == (20, 20)

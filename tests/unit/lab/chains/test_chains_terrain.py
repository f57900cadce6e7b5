from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from cupola.exceptions import InputError
from cupola.lab import collections
from cupola.lab.bodies import tile_matrix_set
from cupola.lab.chains import Chain
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.chains.graph import relief
from cupola.lab.projection import lonlat_of_wkt

ROWS, COLUMNS = np.mgrid[0:21, 0:31].astype("float64")


def plane(right, up, across, down):
    """Heights of a plane that rises by `right` and `up` per metre."""
    return (ROWS * -down * up + COLUMNS * across * right).astype("float32")


slopes = st.floats(-2, 2).map(lambda number: round(number, 3))


@settings(max_examples=40, deadline=None)
@given(slopes, slopes, st.sampled_from([(1.0, 1.0), (30.0, 25.0), (463.0, 231.5)]))
def test_a_plane_has_one_slope_up_to_its_edges(right, up, spacing):
    across, down = spacing
    heights = plane(right, up, across, down)
    found = relief.gradient(heights, across, down)
    assert np.allclose(found[0], right, atol=1e-3)
    assert np.allclose(found[1], up, atol=1e-3)
    steep = np.hypot(right, up)
    assert np.allclose(relief.slope(heights, across, down), np.degrees(np.arctan(steep)), atol=0.1)
    assert np.allclose(relief.slope(heights, across, down, "percent"), steep * 100, atol=0.2)


@pytest.mark.parametrize(
    ("right", "up", "falls"),
    [(0, -0.1, 0), (-0.1, 0, 90), (0, 0.1, 180), (0.1, 0, 270), (-0.1, -0.1, 45), (0.1, 0.1, 225)],
)
def test_aspect_is_where_the_slope_falls_to(right, up, falls):
    aspect = relief.aspect(plane(right, up, 10, 20), 10, 20)
    assert np.allclose(np.cos(np.radians(aspect - falls)), 1, atol=1e-5)
    assert aspect.max() < 360
    turned = relief.aspect(plane(right, up, 10, 20), 10, 20, north=30.0)
    assert np.allclose(np.cos(np.radians(turned - falls + 30)), 1, atol=1e-5)


def test_level_ground_has_no_aspect():
    assert np.isnan(relief.aspect(np.full((4, 4), 7, "float32"), 1, 1)).all()


def cone(pixel=10.0, steep=0.5):
    rows, columns = np.mgrid[-30:31, -30:31]
    return (-np.hypot(rows, columns) * pixel * steep).astype("float32"), rows, columns


def test_a_cone_falls_outwards_everywhere():
    heights, rows, columns = cone()
    away = np.hypot(rows, columns) > 5
    assert np.allclose(relief.slope(heights, 10, 10)[away], np.degrees(np.arctan(0.5)), atol=0.6)
    outwards = np.degrees(np.arctan2(columns, -rows))
    off = np.cos(np.radians(relief.aspect(heights, 10, 10) - outwards))
    assert off[away].min() > np.cos(np.radians(1.5))


def gdal_hillshade(heights, across, down, light, z):
    """The formula of gdaldem (Horn), written pixel by pixel for the inside."""
    shade = np.full(heights.shape, np.nan)
    azimuth, altitude = np.radians(light)
    for r in range(1, heights.shape[0] - 1):
        for c in range(1, heights.shape[1] - 1):
            w = heights[r - 1 : r + 2, c - 1 : c + 2].ravel()
            x = ((w[0] + 2 * w[3] + w[6]) - (w[2] + 2 * w[5] + w[8])) / (8 * across) * z
            y = ((w[6] + 2 * w[7] + w[8]) - (w[0] + 2 * w[1] + w[2])) / (8 * down) * z
            tilt, light = np.arctan(np.hypot(x, y)), np.pi / 2 - azimuth
            cosine = np.sin(altitude) * np.cos(tilt)
            cosine += np.cos(altitude) * np.sin(tilt) * np.cos(light - np.arctan2(y, x))
            shade[r, c] = 1 if cosine <= 0 else 1 + 254 * cosine
    return shade


@pytest.mark.parametrize(("azimuth", "altitude", "z"), [(315, 45, 1), (100, 20, 3), (0, 90, 1)])
def test_hillshade_is_that_of_gdaldem(azimuth, altitude, z):
    heights = np.random.default_rng(1).normal(100, 8, (20, 25)).astype("float32")
    found = relief.hillshade(heights, 30, 25, azimuth, altitude, z)
    wanted = gdal_hillshade(heights.astype("float64"), 30, 25, (azimuth, altitude), z)
    inside = np.s_[1:-1, 1:-1]
    assert np.allclose(found[inside], wanted[inside], atol=0.01)
    assert np.isfinite(found).all()


def test_slopes_that_face_the_light_are_bright():
    towards = relief.hillshade(plane(0.7071, -0.7071, 10, 10), 10, 10)
    away = relief.hillshade(plane(-0.7071, 0.7071, 10, 10), 10, 10)
    assert np.allclose(towards, 255, atol=0.5)
    assert np.allclose(away, 1, atol=0.5)


def test_spacing_may_change_from_row_to_row():
    across = np.linspace(10, 40, 21).reshape(-1, 1)
    heights = (COLUMNS * across * 0.2).astype("float32")
    right, _ = relief.gradient(heights[10:11], across[10:11], 5)
    assert np.allclose(right, 0.2, atol=1e-4)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: relief.hillshade(z, 30, 25),
        lambda z: relief.slope(z, 30, 25),
        lambda z: relief.aspect(z, 30, 25),
        lambda z: relief.curvature(z, 30, 25),
        relief.position_index,
        relief.ruggedness,
        relief.roughness,
        lambda z: relief.contour_lines(z, 10),
    ],
)
def test_gaps_stay_gaps_and_windows_give_what_the_whole_gives(function):
    heights = np.random.default_rng(2).normal(100, 20, (24, 24)).astype("float32")
    heights[9:12, 13] = np.nan
    whole = function(heights)
    assert np.isnan(whole[9:12, 13]).all()
    for top, left in ((0, 0), (0, 12), (12, 0), (12, 12)):
        rows = slice(max(0, top - 1), top + 13)
        columns = slice(max(0, left - 1), left + 13)
        part = function(heights[rows, columns])
        part = part[top - rows.start :, left - columns.start :][:12, :12]
        assert np.array_equal(part, whole[top : top + 12, left : left + 12], equal_nan=True)
    widened = function(np.pad(heights, 3, constant_values=np.nan))[3:-3, 3:-3]
    assert np.allclose(widened, whole, equal_nan=True, atol=1e-4)


def test_curvature_and_position_know_tops_from_hollows():
    bowl = ((ROWS - 10) ** 2 + (COLUMNS - 15) ** 2).astype("float32")
    inside = np.s_[1:-1, 1:-1]
    assert np.allclose(relief.curvature(bowl, 2, 2)[inside], -1.0)  # second derivatives of 2 / 2² each
    assert np.allclose(relief.position_index(bowl)[inside], -1.5)
    assert np.allclose(relief.curvature(plane(0.3, 0.1, 5, 5), 5, 5), 0, atol=1e-5)


def test_ruggedness_and_roughness_of_one_peak():
    peak = np.zeros((5, 5), "float32")
    peak[2, 2] = 3
    assert relief.ruggedness(peak)[2, 2] == pytest.approx(3 * np.sqrt(8))
    assert relief.roughness(peak)[2, 2] == 3
    assert relief.roughness(peak)[0, 0] == 0


def test_contour_lines_lie_on_the_upper_side():
    slope = np.tile(np.arange(0, 35, dtype="float32"), (4, 1))
    lines = relief.contour_lines(slope, 10, base=5)
    assert [(int(c), float(lines[0, c])) for c in np.flatnonzero(np.isfinite(lines[0]))] == [
        (5, 5), (15, 15), (25, 25),
    ]  # fmt: skip
    cliff = np.array([[0, 0, 97, 97]], "float32")
    assert relief.contour_lines(cliff, 10)[0, 2] == 90
    assert np.isnan(relief.contour_lines(np.full((3, 3), 50, "float32"), 10)).all()


# As steps of chains, on images that have a place


def opened(path):
    collection = collections.open(path)
    return collection[collection.items[0].bands[0]]


def inside(array, edge=2):
    return array[edge:-edge, edge:-edge]


def test_slope_of_a_plane_in_metres(tmp_path, write_image):
    path = write_image(
        tmp_path / "plane.tif", plane(0.3, -0.4, 25, 25), origin=(500_000, 5_000_000), pixel=25
    )
    found = opened(path).slope("percent").compute().values[0]
    assert np.allclose(found, 50, rtol=2e-3)  # UTM is 0.04 % too short in its middle
    aspect = opened(path).aspect().compute().values[0]
    # It falls to the north-west: the gradient points east and south.
    assert np.allclose(aspect, np.degrees(np.arctan2(-0.3, 0.4)) % 360, atol=0.3)


@pytest.mark.parametrize("crs", ["IAU_2015:49900", "IAU_2015:49910", "IAU_2015:49930"])
def test_slopes_are_true_on_geographic_equirectangular_and_polar_grids(tmp_path, write_image, crs):
    """The cone h = (90 - latitude) of the north pole falls due south by the same amount everywhere."""
    radius = 3_396_190.0
    metres = np.pi * radius / 180
    if crs.endswith("900"):
        origin, pixel, size = (20, 80), 0.05, (60, 80)
    elif crs.endswith("910"):
        origin, pixel, size = (20 * metres, 80 * metres), 0.05 * metres, (60, 80)
    else:
        origin, pixel, size = (-200_000, 700_000), 5_000, (60, 80)
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    plane = lonlat_of_wkt(CRS.from_user_input(crs).to_wkt())
    _, latitude = plane.inverse((origin[0] + columns * pixel).ravel(), (origin[1] - rows * pixel).ravel())
    heights = (np.radians(latitude) * radius * 0.1).reshape(size).astype("float32")
    path = write_image(tmp_path / "cone.tif", heights, crs=crs, origin=origin, pixel=pixel)
    steep = opened(path).slope("percent").compute().values[0]
    assert np.allclose(inside(steep), 10, rtol=0.01)
    aspect = inside(opened(path).aspect().compute().values[0])
    assert np.allclose(aspect, 180, atol=0.6)
    if crs.endswith("900"):
        # Heights may be counted from the body's centre: there pixels are as large as they are at that height.
        path = write_image(tmp_path / "radii.tif", heights + radius, crs=crs, origin=origin, pixel=pixel)
        steep = opened(path).slope("percent").compute().values[0]
        assert np.nanmean(inside(steep)) == pytest.approx(10 * radius / np.mean(heights + radius), rel=0.01)


def test_rows_that_run_up_give_the_same_picture(tmp_path, write_image):
    heights = np.random.default_rng(3).normal(100, 5, (30, 40)).astype("float32")
    down = write_image(tmp_path / "down.tif", heights, origin=(500_000, 5_000_000), pixel=25)
    up = tmp_path / "up.tif"
    with rasterio.open(
        up, "w", driver="GTiff", dtype="float32", count=1, width=40, height=30, crs="EPSG:32632",
        transform=Affine(25, 0, 500_000, 0, 25, 5_000_000 - 30 * 25),
    ) as file:  # fmt: skip
        file.write(heights[::-1], 1)
    for of in (lambda chain: chain.hillshade(), lambda chain: chain.aspect()):
        one, other = (of(opened(path)).compute().values[0] for path in (down, up))
        assert np.allclose(one, other[::-1], atol=0.02, equal_nan=True)


def test_viewport_and_run_agree_on_real_terrain(data):
    chain = opened(data / "dem" / "los_angeles_dem_geoid.tif").hillshade()
    whole = chain.compute()
    place = tile_matrix_set("WebMercatorQuad").tile(-118.0, 34.0, 15)
    pixels = tile(chain, "WebMercatorQuad", place.x, place.y, place.z)
    box = tile_matrix_set("WebMercatorQuad").bounds(place)
    assert pixels.valid.all()
    assert pixels.exact
    a, _, c, _, e, f = whole.attrs["transform"]
    rows, columns = (
        (int((box.top - f) / e) + 2, int((box.bottom - f) / e) - 2),
        (int((box.left - c) / a) + 2, int((box.right - c) / a) - 2),
    )
    part = whole.values[0][slice(*rows), slice(*columns)]
    assert set(np.unique(part)) <= set(np.unique(pixels.data))


def test_chains_of_terrain_survive_json_and_tell_what_they_do(data):
    dem = opened(data / "dem" / "los_angeles_dem_geoid.tif")
    for chain in (
        dem.hillshade(100, 30, 2), dem.slope("percent"), dem.aspect(), dem.contour(50, 5), dem.curvature(),
        dem.position_index(), dem.roughness(), dem.ruggedness(), dem.at(120).slope(),
    ):  # fmt: skip
        again = Chain.from_json(chain.to_json())
        assert again.hash == chain.hash
        assert again.halo == chain.halo
        assert chain.label in repr(chain)
    assert "lit from 100° at 30°" in dem.hillshade(100, 30, 2).explain()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda dem: dem.hillshade(altitude=0), "altitude is above 0"),
        (lambda dem: dem.hillshade(azimuth="north"), "azimuth is an angle"),
        (lambda dem: dem.hillshade(z=0), "other than 0"),
        (lambda dem: dem.slope("radians"), "'degrees' or 'percent'"),
        (lambda dem: dem.contour(0), "positive number"),
        (lambda dem: dem.contours(-1), "positive number"),
        (lambda dem: dem.profile([(0, 0)]), "at least two places"),
        (lambda dem: dem.profile("here"), "list of"),
        (lambda dem: dem.viewshed(0, 100), "latitude is a number"),
        (lambda dem: dem.viewshed(-118, 34, radius=-5), "how far to look"),
        (
            lambda dem: Chain.from_json(dem.slope().to_json().replace("degrees", "gon")),
            "'degrees' or 'percent'",
        ),
    ],
)
def test_wrong_use_is_told(data, use, words):
    with pytest.raises(InputError, match=words):
        use(opened(data / "dem" / "los_angeles_dem_geoid.tif"))


def test_images_without_a_place_have_no_slope(tmp_path, write_image):
    path = write_image(tmp_path / "raw.tif", np.ones((8, 8), "float32"), crs=None)
    with pytest.raises(InputError, match="without a coordinate system"):
        opened(path).slope().compute()


@pytest.mark.parametrize(
    ("file", "steepest"),
    [
        ("WAC_GLD100_V1.0_GLOBAL_with_LOLA_30M_POLE.16bit.reduced.cub", 25),  # radii, 12.8 km
        ("ldem_4_reduced.cub", 30),  # radii, 22.7 km
        ("ulcn2005_lpo_downsampled.cub", 40),  # radii, 25 km
        ("vest64_dtm_specialpixels_downsampled.cub", 60),  # radii of a body that is no sphere
    ],
)
def test_models_of_other_bodies_have_slopes_as_they_are_known(data, file, steepest):
    dem = opened(data / "isis3" / file)
    slope, shade = dem.slope().compute().values, dem.hillshade().compute().values
    assert np.isfinite(slope).any()
    # Beside the poles, rows of such grids have pixels of a few metres, and what was spread along them becomes steep.
    middle = slope[0, slope.shape[1] // 6 : -slope.shape[1] // 6]
    assert 0 <= np.nanmin(middle) < np.nanmax(middle) < steepest
    assert np.nanmedian(middle) < 15
    assert 1 <= np.nanmin(shade) < 160 < np.nanmax(shade) <= 255
    assert np.array_equal(np.isfinite(slope), np.isfinite(dem.compute().values))

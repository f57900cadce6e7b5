from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupola.lab.chains import relief

ROWS, COLUMNS = np.mgrid[0:21, 0:31].astype("float64")


def plane(right, up, across, down):
    """Heights of a plane that rises by `right` and `up` per metre."""
    return (ROWS * -down * up + COLUMNS * across * right).astype("float32")


slopes = st.floats(-2, 2).map(lambda number: round(number, 3))


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

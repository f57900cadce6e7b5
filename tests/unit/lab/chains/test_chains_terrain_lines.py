from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Geod

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains.analysis import contours, views

MOON = 1_737_400.0
DEGREE = np.pi * MOON / 180


def opened(path):
    collection = collections.open(path)
    return collection[collection.items[0].bands[0]]


@pytest.fixture
def moon(tmp_path, write_image):
    """A hill 1000 m high on the Moon: a cone around 5.005 E 2.995 N that falls by 50 m per hundredth of a degree."""

    def write(array=None, **more):
        rows, columns = np.mgrid[0:300, 0:400] + 0.5
        longitude, latitude = 3 + columns / 100, 4.5 - rows / 100
        cone = 1000 - 50 * np.hypot(longitude - 5.005, latitude - 2.995) * 100
        values = (cone if array is None else array).astype("float32")
        options = {
            "crs": "IAU_2015:30110",
            "origin": (3 * DEGREE, 4.5 * DEGREE),
            "pixel": DEGREE / 100,
            **more,
        }
        return opened(write_image(tmp_path / "moon.tif", values, **options))

    return write


@pytest.mark.parametrize("wide", [2048, 64])
def test_contour_lines_of_a_cone_are_closed_rings(moon, monkeypatch, wide):
    monkeypatch.setattr(contours, "_WIDE", wide)
    lines = moon().contours(250, base=100, bbox=(4.7, 2.7, 5.3, 3.3))
    assert sorted(level for level in set(lines["level"]) if level >= -150) == [-150, 100, 350, 600, 850]
    assert "Moon" in lines.crs.name
    for level, group in lines[lines["level"] >= -150].groupby("level"):
        (ring,) = group.geometry  # the parts of windows are one line again
        assert ring.is_ring
        radius = (1000 - level) / 50 / 100
        away = np.hypot(*(np.array(ring.coords) - (5.005, 2.995)).T)
        assert np.allclose(away, radius, atol=2e-4)
        assert shapely.is_ccw(ring)  # higher ground on the left


def test_contour_lines_are_cut_at_gaps_and_at_the_antimeridian(moon):
    slope = np.mgrid[0:300, 0:400][0] + 0.5
    slope[100:200, 190:210] = np.nan
    lines = moon(slope, origin=(178 * DEGREE, 1.5 * DEGREE)).contours(100, base=50)
    assert lines.groupby("level").size().to_dict() == {50: 2, 150: 2, 250: 2}
    for line in lines.geometry:
        assert np.ptp(np.array(line.coords)[:, 0]) < 3
    assert shapely.total_bounds(lines.geometry)[[0, 2]] == pytest.approx([-180, 180], abs=0.02)


def test_too_many_lines_or_pixels_are_refused(moon, monkeypatch):
    with pytest.raises(LimitError, match="take a larger one"):
        moon().contours(0.01)
    monkeypatch.setattr(contours, "_MOST_PIXELS", 1000)
    with pytest.raises(LimitError, match="larger pixels with metres="):
        moon().contours(100)
    assert len(moon().contours(500, metres=20_000)) > 0
    with pytest.raises(NotFoundError, match="touches"):
        moon().contours(100, bbox=(100, 0, 101, 1))
    with pytest.raises(InputError, match="one band"):
        moon().map(lambda band: (band, band)).contours(100, metres=50_000)


def test_profile_goes_along_great_circles_at_full_resolution(moon):
    table = moon().profile([(4.0, 3.0), (5.0, 3.0), (5.0, 4.0)])
    globe = Geod(a=MOON, b=MOON)
    length = globe.line_length([4, 5, 5], [3, 3, 4])
    assert table["distance"].iloc[-1] == pytest.approx(length)
    assert np.allclose(np.diff(table["distance"])[:50], DEGREE / 100, rtol=0.01)
    away = np.hypot(table["longitude"] - 5.005, table["latitude"] - 2.995) * 100
    assert np.allclose(table["value"], 1000 - 50 * away, atol=50)  # within one pixel
    assert table["value"].max() >= 950
    coarse = moon().profile(shapely.LineString([(4, 3), (5, 3)]), metres=5000)
    assert np.diff(coarse["distance"])[0] == pytest.approx(5000)


def test_profile_of_several_bands_and_beyond_the_image(moon, monkeypatch):
    table = moon().map(lambda band: (band, band * 2)).profile([(6.5, 3.0), (8.0, 3.0)])
    assert np.allclose(table["value_1"] * 2, table["value_2"], equal_nan=True)
    assert table["value_1"].isna().iloc[-1]
    assert table["value_1"].notna().iloc[0]
    with pytest.raises(NotFoundError, match="lies at 100, 0"):
        moon().profile([(100, 0), (101, 0)])
    monkeypatch.setattr(views, "_MOST_POINTS", 100)
    with pytest.raises(LimitError, match="larger steps"):
        moon().profile([(4, 3), (6, 3)])


# Views


def level(size=401):
    return np.zeros((size, size), "float32")


@pytest.mark.parametrize("height", [2.0, 10.0, 50.0])
def test_level_ground_is_seen_up_to_the_horizon(height):
    radius, pixel = 100_000.0, 25.0
    seen = views.seen_from(level(), pixel, radius, height=height)
    rows, columns = np.mgrid[-200:201, -200:201]
    away = np.hypot(rows, columns) * pixel
    horizon = radius * np.arccos(radius / (radius + height))
    looked = np.isfinite(seen)
    assert looked[away < 200 * pixel].mean() > 0.999
    assert (seen[looked & (away < horizon - 2 * pixel)] == 1).all()
    assert (seen[looked & (away > horizon + 2 * pixel)] == 0).all()


def test_higher_targets_are_seen_beyond_the_horizon():
    near = np.nansum(views.seen_from(level(), 25, 1e5, height=10))
    assert np.nansum(views.seen_from(level(), 25, 1e5, height=10, target=10)) > 3 * near


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 40), st.floats(3, 30))
def test_a_wall_hides_what_lies_behind_it(place, high):
    heights = level(121)
    heights[:, 60 + place] = high
    row = views.seen_from(heights, 10, 1e9, height=2)[60]
    assert row[: 60 + place + 1].min() == 1
    assert np.nanmax(row[60 + place + 1 :]) == 0


def test_a_top_sees_all_of_its_own_slope_and_a_hollow_sees_its_rim():
    rows, columns = np.mgrid[-60:61, -60:61]
    cone = (-np.hypot(rows, columns) * 5).astype("float32")
    assert np.nanmin(views.seen_from(cone, 10, 1e9)) == 1
    bowl = (np.hypot(rows, columns) ** 2 / 10).astype("float32")
    assert np.nanmin(views.seen_from(bowl, 10, 1e9)) == 1


def test_view_from_a_hill_of_the_moon(moon):
    # From a top whose slope becomes gentler all is seen; from its foot, not what lies behind it.
    rows, columns = np.mgrid[0:300, 0:400]
    hill = 1000 / (1 + np.hypot(rows - 150, columns - 200) / 10)
    top = moon(hill).viewshed(5.005, 2.995, radius=15_000)
    assert "Azimuthal Equidistant" in top.attrs["crs"]
    assert np.nanmean(top.values) > 0.97
    foot = moon(hill).viewshed(4.7, 2.995, radius=15_000)
    east = foot.values[0][:, foot.sizes["x"] * 7 // 8]
    assert np.nanmean(east) < np.nanmean(top.values)
    radii = moon(hill + MOON).viewshed(5.005, 2.995, radius=15_000)
    looked = np.isfinite(top.values)
    assert np.mean(radii.values[looked] == top.values[looked]) > 0.9


def test_views_without_a_height_or_with_too_many_pixels(moon, monkeypatch):
    with pytest.raises(NotFoundError, match="lies at 50, 3"):
        moon().viewshed(50, 3)
    holed = np.full((300, 400), np.nan)
    holed[0] = 1
    with pytest.raises(NotFoundError, match="no height at 5, 3"):
        moon(holed).viewshed(5, 3, radius=3000)
    monkeypatch.setattr(views, "_MOST_PIXELS", 100)
    with pytest.raises(LimitError, match="look less far"):
        moon().viewshed(5, 3, radius=15_000)

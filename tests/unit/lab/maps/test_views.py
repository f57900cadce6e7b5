from __future__ import annotations

import math

import pytest

from cupola.lab import bodies, collections
from cupola.lab.maps.views import View, native_resolution

EARTH = View(bodies.EARTH)
MOON = View(bodies.body_named("Moon"))


def test_the_earth_is_drawn_on_web_mercator_and_others_in_metres() -> None:
    assert EARTH.tms == "WebMercatorQuad"
    assert EARTH.crs() == {"name": "EPSG3857", "custom": False}
    assert MOON.tms == "Moon2015eqc"
    assert MOON.crs()["resolutions"] == MOON.resolutions()
    assert MOON.resolutions()[0] == pytest.approx(2 * math.pi * 1_737_400 / 512)


def test_a_box_is_centred_at_the_largest_scale_that_shows_it_whole() -> None:
    (latitude, longitude), zoom = MOON.fit((10, -5, 20, 5))
    assert (latitude, longitude) == pytest.approx((0, 15))
    width = math.radians(10) * 1_737_400
    assert width / MOON.resolutions()[zoom] <= 420
    assert width / MOON.resolutions()[zoom + 1] > 420


def test_the_middle_of_a_mercator_map_is_not_the_middle_latitude() -> None:
    (latitude, longitude), _ = EARTH.fit((0, 0, 10, 80))
    assert longitude == 5
    assert latitude == pytest.approx(57.5, abs=1)


def test_a_box_across_the_antimeridian_is_shown_in_one_piece() -> None:
    (latitude, longitude), zoom = EARTH.fit((179, -18, -179, -16))
    assert abs(longitude) == 180
    assert latitude == pytest.approx(-17, abs=0.1)
    assert zoom >= 7


def test_the_whole_world_and_a_point_can_be_shown() -> None:
    assert EARTH.fit((-180, -90, 180, 90))[1] <= 1
    assert MOON.fit((-180, -90, 180, 90)) == ((0, 0), 0)
    assert MOON.fit((5, 5, 5, 5))[1] == 24


def test_around_a_pole_the_middle_is_the_pole() -> None:
    south = View(bodies.body_named("Mars"), "spolar")
    (latitude, _), zoom = south.fit((-180, -90, 180, -60))
    assert latitude == pytest.approx(-90, abs=0.1)
    assert 0 <= zoom <= 3


def test_levels_beyond_the_pixels_of_the_images_are_not_computed() -> None:
    # 10 m pixels at 45 degrees: level 13 has 13.5 m there, 14 has 6.8.
    assert EARTH.native_zoom(10, 45) == 14
    assert EARTH.native_zoom(19.2, 0) == 13
    assert MOON.native_zoom(MOON.resolutions()[5], 80) == 5


@pytest.mark.parametrize(
    ("crs", "step", "metres"),
    [
        ("EPSG:32632", 10, 10),
        ("EPSG:4326", 0.01, math.radians(0.01) * 6_378_137),
        ("+proj=eqc +R=1737400 +units=m", 500, 500),
        ("EPSG:2263", 100, 30.48),
    ],
)
def test_resolution_is_in_metres_whatever_the_units(write, crs: str, step: float, metres: float) -> None:
    left, top = (0, 10) if crs == "EPSG:4326" else (300_000, 50_000)
    path = write("a.tif", crs=crs, step=step, left=left, top=top)
    assert native_resolution(collections.open(path)["b1"]) == pytest.approx(metres, rel=0.002)

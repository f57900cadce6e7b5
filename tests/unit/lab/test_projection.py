from __future__ import annotations

import math

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.warp import transform

from cupola.lab.projection import lonlat_of


def test_earth_agrees_with_gdal():
    crs = CRS.from_epsg(32629)
    longitudes, latitudes = [-11.5, -10.9], [24.5, 25.2]
    x, y = lonlat_of(crs).forward(longitudes, latitudes)
    assert np.allclose((x, y), transform(CRS.from_epsg(4326), crs, longitudes, latitudes), atol=1e-3)
    assert np.allclose(lonlat_of(crs).inverse(x, y), (longitudes, latitudes))


def test_local_radii_of_one_body_meet_in_degrees():
    """PROJ takes spheres of 3,396 and 3,376 km for different bodies and refuses."""
    one = lonlat_of(CRS.from_proj4("+proj=eqc +R=3396190 +units=m"))
    other = lonlat_of(CRS.from_proj4("+proj=stere +lat_0=90 +R=3376200 +units=m"))
    x, y = one.forward([10.0], [85.0])
    assert np.allclose(other.inverse(*other.forward(*one.inverse(x, y))), [[10.0], [85.0]])


def test_latitude_is_planetocentric_on_a_flattened_body():
    flattened = lonlat_of(CRS.from_proj4("+proj=longlat +a=3396190 +b=3376200"))
    _, graphic = flattened.forward([0.0], [45.0])
    ratio = (3376200 / 3396190) ** 2
    assert graphic[0] == pytest.approx(math.degrees(math.atan(math.tan(math.radians(45.0)) / ratio)))
    assert flattened.inverse([0.0], graphic)[1][0] == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("crs", "period"),
    [
        ("EPSG:4326", 360.0),
        ("EPSG:3857", 2 * math.pi * 6378137),
        ("+proj=eqc +lat_ts=60 +lon_0=180 +R=1000", math.pi * 1000),
        ("EPSG:32629", None),
        ("+proj=stere +lat_0=90 +R=1000", None),
    ],
)
def test_systems_that_go_once_around_have_a_period(crs, period):
    found = lonlat_of(CRS.from_user_input(crs)).period
    assert found == (None if period is None else pytest.approx(period, rel=1e-6))


@pytest.mark.parametrize("code", ["49901", "49911", "49931", "49936"])
def test_longitude_that_counts_westwards(code):
    """The IAU's planetographic systems: latitude from the normal, longitude to the west."""
    plane = lonlat_of(CRS.from_user_input(f"IAU_2015:{code}"))
    east = lonlat_of(CRS.from_user_input(f"IAU_2015:{int(code) + 1}"))
    latitude = 50.0 if code != "49936" else -50.0
    x, y = plane.forward([30.0], [latitude])
    mirrored, same = east.forward([30.0], [latitude])
    assert x[0] == pytest.approx(-mirrored[0])
    if code != "49901":
        assert y[0] == pytest.approx(same[0])
    assert np.allclose(plane.inverse(x, y), [[30.0], [latitude]])


def test_place_outside_of_the_projection_is_not_finite():
    x, _ = lonlat_of(CRS.from_proj4("+proj=ortho +lat_0=0 +lon_0=0 +R=1000")).forward([170.0], [0.0])
    assert not np.isfinite(x[0])

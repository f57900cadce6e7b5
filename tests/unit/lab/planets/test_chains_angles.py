from __future__ import annotations

import numpy as np
import pytest

from cupola.exceptions import InputError, NotFoundError
from cupola.lab import bodies, collections
from cupola.lab.chains import Chain
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.planets import Kernels, photometry

MOON = "IAU_2015:30110"
WHEN = "2010-11-09T13:06:40.356000Z"
ALBEDO = np.tile(np.linspace(0.1, 0.4, 60, dtype="float32"), (40, 1))


@pytest.fixture
def moon(tmp_path, write_image, write_item):
    """An image of 60 x 40 pixels of half a degree, from 10 W and 20 N."""
    degree = np.pi * 1737400 / 180
    folder = tmp_path / "moon"
    write_image(folder / "a.tif", ALBEDO, crs=MOON, origin=(-10 * degree, 20 * degree), pixel=degree / 2)
    write_item(
        folder / "a.json",
        bbox=(-10, 0, 20, 20),
        datetime=WHEN,
        assets={"image": {"href": "a.tif", "roles": ["data"]}},
        properties={"ssys:targets": ["Moon"]},
    )
    collection = collections.open(folder)
    return collection[collection.items[0].bands[0]]


LON, LAT = np.meshgrid(-9.75 + np.arange(60) / 2, 19.75 - np.arange(40) / 2)


def test_incidence_is_the_arc_to_the_subsolar_point(moon):
    found = moon.angle(sun=(40.0, -5.0)).compute().values[0]
    lat, dlon = np.radians(LAT), np.radians(LON - 40)
    south = np.radians(-5)
    arc = np.arccos(np.sin(lat) * np.sin(south) + np.cos(lat) * np.cos(south) * np.cos(dlon))
    assert np.allclose(found, np.degrees(arc), atol=1e-3)


def test_photometry_gives_back_the_surface(moon):
    angles = {
        name: moon.angle(name, sun=(40, -5), observer=(0, 10, 20e6))
        for name in ("incidence", "emission", "phase")
    }
    lit = {name: chain.compute().values[0] for name, chain in angles.items()}
    assert lit["emission"].max() > 20
    for model in photometry.MODELS:
        flat = moon.photometry(model, sun=(40, -5), observer=(0, 10, 20e6)).compute().values[0]
        bright = photometry.model(model, lit["incidence"], lit["emission"], lit["phase"])
        assert np.allclose(flat * bright, ALBEDO, rtol=1e-4)
        given = moon.photometry(model, **angles)
        assert np.array_equal(given.compute().values[0], flat)


def test_angles_by_kernels_at_the_time_of_the_item(moon, kernels_folder):
    chain = moon.angle("phase", kernels=kernels_folder, spacecraft="LRO")
    wanted = Kernels(kernels_folder).angles("Moon", LON, LAT, WHEN, "LRO")["phase"]
    assert np.allclose(chain.compute().values[0], wanted, atol=1e-3)
    again = Chain.from_json(chain.to_json())
    assert again.hash == chain.hash
    place = bodies.tile_matrix_set("Moon2015eqc").tile(5, 10, 4)
    pixels = tile(chain, "Moon2015eqc", place.x, place.y, place.z)
    assert (
        np.nanmin(wanted) - 0.5 <= np.nanmin(pixels.data) <= np.nanmax(pixels.data) <= np.nanmax(wanted) + 0.5
    )
    assert pixels.valid.any()


def test_time_comes_from_the_label_of_a_bare_image(data, kernels_folder):
    cube = collections.open(data / "isis3" / "WAC_GLD100_V1.0_GLOBAL_with_LOLA_30M_POLE.10km_cropped.cub")
    chain = cube[cube.items[0].bands[0]].angle(kernels=kernels_folder)
    with pytest.raises(InputError, match=r"Neither the image .* nor its label says when it was taken"):
        chain.compute()


def test_missing_kernels_are_named_at_the_computing(moon, tmp_path):
    with pytest.raises(NotFoundError, match="no SPICE kernels at"):
        moon.angle(kernels=tmp_path / "none").compute()


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda chain: chain.angle("azimuth", sun=(0, 0)), "no angle 'azimuth'"),
        (lambda chain: chain.angle(), "Angles need the Sun"),
        (lambda chain: chain.angle(sun=(1, 2, 3, 4)), "The Sun is given as"),
        (lambda chain: chain.angle(sun="noon"), "The Sun is given as"),
        (lambda chain: chain.angle(sun=(0, 0), spacecraft="LRO"), "kernels="),
        (lambda chain: chain.photometry(), "needs the angle of incidence"),
        (lambda chain: chain.photometry("hapke", incidence=10), "no photometric model 'hapke'"),
        (lambda chain: chain.photometry("lunar-lambert", incidence=10), "needs the phase"),
        (lambda chain: chain.photometry(incidence="high"), "incidence is an angle"),
        (lambda chain: chain.photometry(incidence=10, reference=(1, 2)), "reference is"),
    ],
)
def test_wrong_use_is_told(moon, use, words):
    with pytest.raises(InputError, match=words):
        use(moon)


def test_numbers_of_the_label_need_no_place_on_the_ground(data):
    cube = collections.open(data / "isis3" / "M143947267L.cal.echo.crop.cub")
    raw = cube[cube.items[0].bands[0]]
    flat = raw.photometry("lambert", incidence=60.0).compute().values
    assert np.allclose(flat, raw.compute().values * 2, rtol=1e-5)
    with pytest.raises(InputError, match="has no coordinate system"):
        raw.angle(sun=(0, 0)).compute()

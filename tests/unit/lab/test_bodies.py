from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from morecantile import Tile
from rasterio.crs import CRS

from cupola.exceptions import InputError, NotFoundError
from cupola.lab import bodies

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def sphere(radius, name="unknown"):
    return CRS.from_wkt(
        f'GEOGCS["GCS_{name}",DATUM["D_{name}",SPHEROID["{name}_localRadius",{radius},0]],'
        'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'
    )


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        (CRS.from_epsg(32629), "Earth"),
        (CRS.from_epsg(3857), "Earth"),
        (CRS.from_user_input("IAU_2015:49910"), "Mars"),
        (CRS.from_user_input("IAU_2015:30100"), "Moon"),
        (CRS.from_user_input("IAU_2015:60600"), "Titan"),
        (sphere(3376200), "Mars"),  # the radius at a pole, and no name
        (sphere(3392593.611, "Mars"), "Mars"),
        (sphere(1737400), "Moon"),
        (sphere(289000, "Vesta"), "Vesta"),
        (sphere(1560800, "EUROPA"), "Europa"),
        (sphere(763800), "Rhea"),
        (sphere(761400), "Oberon"),
        (sphere(2410300), "Callisto"),
        (sphere(3000000), "Body3000000"),
        (sphere(1737400, "Mars"), "Moon"),  # a name that cannot be: the radius decides
    ],
)
def test_body_is_told_by_name_or_radius(crs, name):
    assert bodies.body_of_crs(crs).name == name


def test_no_coordinate_system_no_body():
    assert bodies.body_of_crs(None) is None


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real sample data (../shared/data) is not here")
@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("isis3/ulcn2005_lpo_downsampled.cub", "Moon"),
        ("isis3/vest64_dtm_specialpixels_downsampled.cub", "Vesta"),
        ("isis3/DTM_2Bands_cropped.cub", "Mars"),
        ("cog/Mars_MGS_MOLA_ClrShade_MAP2_90.0N0.0_POLA.tif", "Mars"),
        ("cog/cog_hirise_mars.tif", "Mars"),
        ("pds4/oblique_cylindrical.xml", "Titan"),
        ("s2/B04.tif", "Earth"),
    ],
)
def test_bodies_of_real_files(file, name):
    with rasterio.open(DATA / file) as dataset:
        assert bodies.body_of_crs(dataset.crs).name == name


def test_unknown_name_offers_near_ones():
    with pytest.raises(NotFoundError, match="did you mean Mars"):
        bodies.body_named("Marz")
    with pytest.raises(NotFoundError, match="'Mars2015eqc'"):
        bodies.tile_matrix_set("MarsMercator")
    with pytest.raises(InputError, match="eqc"):
        bodies.tms_name(bodies.EARTH, "conic")


@pytest.mark.parametrize("name", ["Mars2015eqc", "Moon2015npolar", "Vesta2015spolar", "Body1234562015eqc"])
def test_names_lead_back_to_their_body(name):
    body = bodies.body_of_tms(name)
    projection = name.removeprefix(f"{body.name}2015")
    assert bodies.tms_name(body, projection) == name
    assert bodies.tile_matrix_set(name).id == name


def test_earth_is_web_mercator():
    assert bodies.tms_name(bodies.EARTH) == "WebMercatorQuad"
    assert bodies.leaflet_crs(bodies.EARTH) == {"name": "EPSG3857", "custom": False}


@pytest.mark.parametrize("projection", bodies.PROJECTIONS)
@pytest.mark.parametrize("name", ["Mars", "Bennu"])
def test_leaflet_draws_the_tiles_where_the_grid_has_them(name, projection):
    body = bodies.body_named(name)
    grid = bodies.tile_matrix_set(bodies.tms_name(body, projection))
    leaflet = bodies.leaflet_crs(body, projection)
    plane = pyproj.Transformer.from_crs(
        pyproj.CRS.from_proj4(f"+proj=longlat +R={body.radius:.3f}"),
        pyproj.CRS.from_proj4(leaflet["proj4def"]),
        always_xy=True,
    )
    x, y = plane.transform(30.0, 60.0 if projection != "spolar" else -60.0)
    for zoom in (0, 3, 7):
        # What Leaflet does: pixels from the origin, at the zoom's resolution, 256 to a tile.
        column = (x - leaflet["origin"][0]) / leaflet["resolutions"][zoom] // 256
        row = (leaflet["origin"][1] - y) / leaflet["resolutions"][zoom] // 256
        box = grid.xy_bounds(Tile(int(column), int(row), zoom))
        assert box.left <= x <= box.right
        assert box.bottom <= y <= box.top
    left, bottom = leaflet["bounds"][0]
    assert (left, -left) == pytest.approx((leaflet["origin"][0], leaflet["bounds"][1][0]))
    assert np.allclose(np.diff(np.log2(leaflet["resolutions"])), -1)
    assert bottom < 0


@pytest.mark.parametrize("name", ["Earth", "Bennu", "Ryugu", "Kleopatra", "Moon"])
@pytest.mark.parametrize("projection", ["npolar", "spolar", "merc", "eqc"])
def test_grids_have_the_radius_of_their_body(name, projection):
    """morecantile takes the system that PROJ finds most alike: for some bodies that of the asteroid 52 Europa."""
    body = bodies.body_named(name)
    system = bodies.tile_matrix_set(f"{name}2015{projection}").crs._pyproj_crs
    assert system.ellipsoid.semi_major_metre == pytest.approx(body.radius)


@pytest.mark.parametrize(
    ("crs", "code"),
    [
        ("+proj=eqc +lat_ts=0 +lon_0=180 +R=3396190", "IAU_2015:49915"),
        ("+proj=stere +lat_0=-90 +lon_0=0 +k=1 +R=1737400", "IAU_2015:30135"),
        ("+proj=stere +lat_0=90 +lat_ts=90 +lon_0=0 +a=3396190 +b=3376200", "IAU_2015:49932"),
        ("+proj=longlat +R=2575000", "IAU_2015:60600"),
        ("+proj=sinu +lon_0=0 +R=1737400", "IAU_2015:30120"),
        ("+proj=merc +lon_0=0 +R=3396190", "IAU_2015:49990"),
        ("IAU_2015:49911", "IAU_2015:49911"),
        ("+proj=eqc +lat_ts=0 +lon_0=90 +R=3396190", None),
        ("+proj=eqc +lat_ts=20 +lon_0=0 +R=3396190", None),
        ("+proj=eqc +lat_ts=0 +lon_0=0 +R=3394813.858", None),
        ("EPSG:32629", None),
    ],
)
def test_systems_without_a_name_have_the_code_of_what_they_do(crs, code):
    assert bodies.iau_code(CRS.from_user_input(crs)) == code


def test_every_body_of_the_report_has_its_grids():
    found = bodies.all_bodies()
    assert len(found) >= 99
    for name in ("Sun", "Enceladus", "Churyumov-Gerasimenko", "Hartley 2", "52 Europa", "Psyche", "Bennu"):
        body = found[name]
        for projection in bodies.PROJECTIONS:
            assert bodies.body_of_tms(bodies.tms_name(body, projection)) == body
    assert bodies.body_named("hartley2").name == "Hartley 2"
    assert found["Europa"].radius == 1560800


@pytest.mark.parametrize(
    ("box", "projection"),
    [
        (None, "eqc"),
        ((-180, -90, 180, 90), "eqc"),
        ((10, 62, 20, 70), "npolar"),
        ((-180, 40, 180, 90), "npolar"),
        ((-180, -90, 180, -80), "spolar"),
        ((-10, -70, 10, -61), "spolar"),
        ((-180, 20, 180, 90), "eqc"),
        ((0, 0, 10, 10), "eqc"),
    ],
)
def test_data_around_a_pole_are_shown_around_it(box, projection):
    assert bodies.best_projection(box) == projection


def test_metres_of_the_sky_are_arcseconds():
    assert bodies.tms_name(bodies.SKY) == "Sky2015car"
    assert bodies.body_of_tms("Sky2015car") is bodies.SKY
    grid = bodies.tile_matrix_set("Sky2015car")
    assert grid.matrix(0).cellSize * 512 == pytest.approx(360 * 3600)


def test_equirectangular_grid_covers_the_globe_with_two_tiles():
    mars = bodies.body_named("mars")
    grid = bodies.tile_matrix_set("Mars2015eqc")
    assert (grid.matrix(0).matrixWidth, grid.matrix(0).matrixHeight) == (2, 1)
    assert grid.xy_bounds(Tile(0, 0, 0)).left == pytest.approx(-math.pi * mars.radius)
    assert grid.matrix(0).cellSize == pytest.approx(math.pi * mars.radius / 256)

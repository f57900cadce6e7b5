from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cupola.exceptions import ImageError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.collections.formats.swath import Net, unit_vectors
from cupola.lab.collections.images import describe


def orbit(rows=200, columns=60, *, node=0.0, span=(-70.0, 70.0), half=12.0, inclination=81.0):  # noqa: PLR0913 - an orbit
    """Return longitudes and latitudes of a swath along a great circle: `half` degrees to both sides of it."""
    along, across = np.meshgrid(
        np.radians(np.linspace(*span, rows)),
        np.radians(np.linspace(-half, half, columns)),
        indexing="ij",
    )
    x, y, z = np.cos(along) * np.cos(across), np.sin(across), np.sin(along) * np.cos(across)
    tilt = np.radians(90 - inclination)
    y, z = y * np.cos(tilt) - z * np.sin(tilt), y * np.sin(tilt) + z * np.cos(tilt)
    return (np.degrees(np.arctan2(y, x)) + node + 180) % 360 - 180, np.degrees(np.arcsin(z))


SWATHS = {
    "over land": {"node": 10.0},
    "across the antimeridian": {"node": 178.0},
    "over the north pole": {"span": (30.0, 150.0), "node": 40.0},
    "over the south pole": {"span": (-150.0, -30.0)},
}


@pytest.fixture(scope="module", params=SWATHS)
def net(request):
    return Net(*orbit(**SWATHS[request.param]))


def test_places_lead_back_to_their_pixels(net):
    random = np.random.default_rng(2)
    columns, rows = random.uniform(0.01, 59.99, 500), random.uniform(0.01, 199.99, 500)
    found = net.pixels(*net.lonlat(columns, rows))
    assert np.allclose(found, (columns, rows), atol=5e-3)


def test_no_hole_inside_and_nothing_outside(net):
    """Every place whose nearest pixel is not on the edge is found; places far from all pixels are not."""
    from scipy.spatial import cKDTree

    random = np.random.default_rng(3)
    longitudes, latitudes = (
        random.uniform(-180, 180, 20_000),
        np.degrees(np.arcsin(random.uniform(-1, 1, 20_000))),
    )
    distance, nearest = cKDTree(net.vectors.reshape(-1, 3)).query(unit_vectors(longitudes, latitudes))
    row, column = np.divmod(nearest, 60)
    inner = (row > 0) & (row < 199) & (column > 0) & (column < 59)
    columns, rows = net.pixels(longitudes, latitudes)
    inside = (columns >= 0) & (columns < 60) & (rows >= 0) & (rows < 200)
    assert inner.sum() > 500
    assert inside[inner].all()
    assert not inside[distance > 0.03].any()
    assert np.abs(np.floor(columns[inner]) - column[inner]).max() <= 1
    assert np.abs(np.floor(rows[inner]) - row[inner]).max() <= 1
    assert (np.floor(columns[inner]) == column[inner]).mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(
    node=st.floats(-180, 180),
    start=st.floats(-160, 60),
    length=st.floats(20, 140),
    inclination=st.floats(60, 120),
)
def test_any_orbit(node, start, length, inclination):
    net = Net(*orbit(80, 30, node=node, span=(start, start + length), inclination=inclination))
    columns, rows = (part.ravel() for part in np.meshgrid(np.arange(1, 29) + 0.5, np.arange(1, 79) + 0.5))
    found = net.pixels(*net.lonlat(columns, rows))
    assert np.allclose(found, (columns, rows), atol=5e-3)


def test_missing_geolocation_leaves_a_hole_of_its_own_size():
    longitudes, latitudes = orbit()
    longitudes[50:60, 20:30] = np.nan
    net = Net(longitudes, latitudes)
    whole = Net(*orbit())
    columns, rows = (part.ravel() for part in np.meshgrid(np.arange(5, 55) + 0.4, np.arange(30, 80) + 0.4))
    found = net.pixels(*whole.lonlat(columns, rows))
    # The pixels at the rim are whole, so the hole is smaller by what a pixel reaches into it.
    hole = (rows > 52) & (rows < 58) & (columns > 22) & (columns < 28)
    around = (rows < 50) | (rows > 60) | (columns < 20) | (columns > 30)
    assert np.isnan(found[0][hole]).all()
    assert np.allclose(np.stack(found)[:, around], np.stack([columns, rows])[:, around], atol=0.01)


def test_scans_that_overlap_have_no_holes():
    """Ten lines at once, wider at the ends than the way to the next scan: a bow-tie."""
    columns = np.linspace(-1, 1, 80)
    scans = []
    for scan in range(12):
        lines = (np.arange(10) - 4.5)[:, np.newaxis] * (0.01 * (1 + 1.0 * columns**2))
        scans.append(scan * 0.1 + lines)
    latitudes = np.concatenate(scans)
    longitudes = np.broadcast_to(columns * 1.5, latitudes.shape)
    net = Net(longitudes.copy(), latitudes)
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(-1.45, 1.45, 150), np.linspace(0.0, 1.05, 120)))
    found_x, found_y = net.pixels(x, y)
    assert np.isfinite(found_x).all()
    row, column = np.floor(found_y).astype(int).clip(0, 119), np.floor(found_x).astype(int).clip(0, 79)
    beside = np.hypot(longitudes[row, column] - x, latitudes[row, column] - y)
    assert beside.max() < 0.04


def test_too_small_and_empty_swaths():
    with pytest.raises(ImageError, match="two rows"):
        Net(np.zeros((1, 5)), np.zeros((1, 5)))
    with pytest.raises(ImageError, match="all missing"):
        Net(np.full((3, 3), np.nan), np.zeros((3, 3))).pixels(np.zeros(1), np.zeros(1))


def test_real_scene_with_control_points_only(data):
    """Its points are met to a hundredth of a pixel, where a plane through them is off by several."""
    import rasterio
    from rasterio.transform import from_gcps

    path = data / "cog" / "cog_gcps.tif"
    with rasterio.open(path) as dataset:
        points = dataset.gcps[0]
    image = describe(str(path))
    columns, rows = image.placement.pixels(np.array([p.x for p in points]), np.array([p.y for p in points]))
    expected = np.array([p.col for p in points]), np.array([p.row for p in points])
    assert np.abs(np.stack([columns, rows]) - expected).max() < 0.01
    plane = ~from_gcps(points) @ (np.array([p.x for p in points]), np.array([p.y for p in points]))
    assert np.abs(np.stack(plane) - expected).max() > 1


def write_swath(path, longitudes, latitudes, values):
    import h5netcdf

    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"line": values.shape[0], "pixel": values.shape[1]}
        for name, array, units in (
            ("longitude", longitudes, "degrees_east"),
            ("latitude", latitudes, "degrees_north"),
        ):
            file.create_variable(name, ("line", "pixel"), "f8", data=array).attrs["units"] = units
        file.create_variable("gas", ("line", "pixel"), "f4", data=values).attrs["coordinates"] = (
            "longitude latitude"
        )
    return collections.open(path)


def test_tiles_on_both_sides_of_the_antimeridian_are_whole(tmp_path):
    longitudes, latitudes = orbit(node=180.0, span=(-40.0, 40.0))
    values = np.arange(longitudes.size, dtype=np.float32).reshape(longitudes.shape)
    collection = write_swath(tmp_path / "pacific.nc", longitudes, latitudes, values)
    west, _, east, _ = collection.bbox
    assert west > 150
    assert east < -150
    one, other = (tile(collection["gas"], "WebMercatorQuad", x, 7, 4) for x in (15, 0))
    assert one.valid[:, -20:].all()
    assert other.valid[:, :20].all()
    # Neighbours across the line are neighbours in the swath.
    jump = np.abs(one.data[0, :, -1] - other.data[0, :, 0])
    assert np.median(jump % 60) <= 2 or np.median(jump) <= 60


def test_pole_is_covered(tmp_path):
    longitudes, latitudes = orbit(span=(40.0, 140.0))
    collection = write_swath(
        tmp_path / "arctic.nc", longitudes, latitudes, np.ones(longitudes.shape, np.float32)
    )
    assert collection.bbox == pytest.approx((-180, latitudes.min(), 180, 90), abs=0.5)
    assert bodies.best_projection(collection.bbox) == "npolar"
    found = tile(collection["gas"], "Earth2015npolar", 0, 0, 0)
    assert found.valid[124:132, 124:132].all()
    # The swath is a band across the map, not a disc.
    assert 0.02 < found.valid.mean() < 0.6


def test_narrow_track_is_not_lost_on_a_world_map(tmp_path):
    """Three pixels wide, far thinner than the meshes that places are reckoned by."""
    longitudes, latitudes = orbit(rows=4000, columns=3, half=1.0)
    collection = write_swath(
        tmp_path / "track.nc", longitudes, latitudes, np.ones(longitudes.shape, np.float32)
    )
    found = tile(collection["gas"], "WebMercatorQuad", 0, 0, 0)
    lit = np.flatnonzero(found.valid.any(axis=1))
    assert np.array_equal(lit, np.arange(lit[0], lit[-1] + 1))
    assert len(lit) > 100


def test_full_size_orbit_in_the_groups_of_sentinel5p(tmp_path):
    """3245 scanlines of 450 pixels over the pole, each pixel telling its number."""
    import h5netcdf

    longitudes, latitudes = orbit(3245, 450, span=(-60.0, 110.0), node=150.0)
    numbers = np.arange(longitudes.size, dtype=np.float32).reshape(1, *longitudes.shape)
    numbers[0, :, 200] = 9.96921e36
    path = tmp_path / "S5P_OFFL_L2__NO2.nc"
    with h5netcdf.File(path, "w") as file:
        file.attrs.update(
            time_coverage_start="2020-03-03T01:35:47Z", time_coverage_end="2020-03-03T03:17:17Z"
        )
        product = file.create_group("PRODUCT")
        product.dimensions = {"time": 1, "scanline": 3245, "ground_pixel": 450}
        every = ("time", "scanline", "ground_pixel")
        for name, values, units in (
            ("longitude", longitudes, "degrees_east"),
            ("latitude", latitudes, "degrees_north"),
        ):
            variable = product.create_variable(name, every, "f4", data=values[np.newaxis].astype(np.float32))
            variable.attrs.update(units=units, standard_name=name)
        product.create_variable(
            "nitrogendioxide_tropospheric_column", every, "f4", data=numbers, fillvalue=np.float32(9.96921e36)
        )
        quality = np.full(numbers.shape, 100, np.uint8)
        quality[0, :, :50] = 30
        found = product.create_variable("qa_value", every, "u1", data=quality, fillvalue=np.uint8(255))
        found.attrs.update(scale_factor=np.float32(0.01), add_offset=np.float32(0))
    collection = collections.open(path)
    assert collection.bbox[0::2] == (-180, 180)
    assert collection.bbox[3] == 90
    column = collection["nitrogendioxide_tropospheric_column"].where(collection["qa_value"] > 0.75)
    pixels = tile(column, "Earth2015npolar", 0, 0, 0)
    row, number = np.divmod(pixels.data[0][pixels.valid].astype(np.int64), 450)
    assert pixels.valid.mean() > 0.05
    assert number.min() >= 50
    assert 200 not in number
    # Each pixel of the tile lies within the one of the swath that it shows.
    box = bodies.tile_matrix_set("Earth2015npolar").xy_bounds(0, 0, 0)
    steps = (np.arange(256) + 0.5) / 256
    x, y = np.meshgrid(box.left + (box.right - box.left) * steps, box.top - (box.top - box.bottom) * steps)
    from cupola.lab.chains.compute.evaluate import _plane

    places = unit_vectors(*_plane("Earth2015npolar").inverse(x[pixels.valid], y[pixels.valid]))
    apart = np.linalg.norm(places - unit_vectors(longitudes, latitudes)[row, number], axis=1)
    assert np.degrees(apart.max()) < 0.06

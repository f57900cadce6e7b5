from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from morecantile import Tile
from rasterio.crs import CRS
from rasterio.warp import transform
from scipy import ndimage

from cupola.exceptions import BandError, BodyError, ImageError, InputError, NotFoundError
from cupola.lab import bodies, collections
from cupola.lab.chains import Chain
from cupola.lab.chains.compute.evaluate import tile

MERCATOR = "WebMercatorQuad"


def address(collection, zoom, tms=MERCATOR):
    """Return the tile in the middle of a collection."""
    west, south, east, north = collection.bbox
    east = east + 360 if east < west else east
    found = bodies.tile_matrix_set(tms).tile((west + east) / 2 % 360, (south + north) / 2, zoom)
    return found.x, found.y, found.z


def places(tms, x, y, z, size=256):
    """Return the coordinates of the tile's pixel centres."""
    box = bodies.tile_matrix_set(tms).xy_bounds(Tile(x, y, z))
    steps = (np.arange(size) + 0.5) / size
    return np.meshgrid(box.left + (box.right - box.left) * steps, box.top - (box.top - box.bottom) * steps)


def by_hand(path, tms, x, y, z, function=None):  # noqa: PLR0913, PLR0917 - the order of every tile address
    """Compute what a tile must hold, pixel by pixel with GDAL's own transformation; `function` over the whole image."""
    plane_x, plane_y = places(tms, x, y, z)
    with rasterio.open(path) as dataset:
        px, py = transform(CRS.from_epsg(3857), dataset.crs, plane_x.ravel(), plane_y.ravel())
        columns, rows = ~dataset.transform @ (np.array(px), np.array(py))
        columns, rows = np.floor(columns), np.floor(rows)
        inside = (columns >= 0) & (columns < dataset.width) & (rows >= 0) & (rows < dataset.height)
        found = np.full(columns.size, np.nan)
        values = dataset.read(1)
        values = values if function is None else function(values)
        found[inside] = values[rows[inside].astype(int), columns[inside].astype(int)]
    return found.reshape(plane_x.shape)


def agree(one, other):
    """Return the share of equal pixels; a place within 1/8 pixel of a border may fall on either side."""
    return np.mean((one == other) | (np.isnan(one) & np.isnan(other)))


def gradient(values):
    return np.hypot(ndimage.sobel(values, axis=0), ndimage.sobel(values, axis=1))


@pytest.mark.parametrize("zoom", [14, 15, 17])
def test_a_function_of_neighbours_sees_pixels_as_they_lie_however_far_one_zooms_in(data, zoom):
    s2 = collections.open(data / "s2")
    where = address(s2, zoom)
    chain = (s2["B04"] / 0.0001).map(gradient, halo=1)
    pixels = tile(chain, MERCATOR, *where)
    expected = by_hand(
        data / "s2" / "B04.tif", MERCATOR, *where, function=lambda values: gradient(values.astype(float))
    )
    close = np.isclose(pixels.data[0], expected, rtol=1e-4, atol=0.5)
    assert np.mean(close) > 0.98


@pytest.mark.parametrize("zoom", [11, 13])
def test_real_sentinel_tile_is_the_nearest_pixels(data, zoom):
    s2 = collections.open(data / "s2")
    where = address(s2, zoom)
    pixels = tile(s2["B04"] / 0.0001, MERCATOR, *where)
    expected = by_hand(data / "s2" / "B04.tif", MERCATOR, *where)
    assert agree(np.rint(pixels.data[0]), expected) > 0.98
    assert np.array_equal(pixels.valid, np.isfinite(pixels.data[0]))
    assert pixels.items == ["S2A_29RKH_20200219_0_L2A"]


def test_real_index_of_two_bands(data):
    s2 = collections.open(data / "s2")
    where = address(s2, 12)
    ndvi = tile(s2["B04", "B08"].map(lambda red, nir: (nir - red) / (nir + red)), MERCATOR, *where).data[0]
    red, nir = (by_hand(data / "s2" / f"{name}.tif", MERCATOR, *where) for name in ("B04", "B08"))
    expected = (nir - red) / (nir + red)
    assert np.mean(np.abs(ndvi - expected) < 1e-5) > 0.98


def test_low_zoom_reads_the_overview(data):
    s2 = collections.open(data / "s2")
    x, y, z = address(s2, 8)
    found = tile(s2["B08"] / 0.0001, MERCATOR, x, y, z)
    with rasterio.open(data / "s2" / "B08.tif", overview_level=1) as level:
        known = np.unique(level.read(1))
    assert 0.02 < found.valid.mean() < 0.9
    assert np.isin(np.rint(found.data[found.data == found.data]), known).all()


def test_real_scene_across_the_antimeridian_shows_on_both_sides(data):
    path = data / "cog" / "cog_dateline.tif"
    scene = collections.open(path)["b1"]
    right, left = ((2**8 - 1, 84, 8), (0, 84, 8))
    for where in (right, left):
        found = tile(scene, MERCATOR, *where)
        assert found.valid.any()
    x, y, z = (2**11 - 1, 84 * 8 + 3, 11)
    for where in ((x, y, z), (0, y, z)):
        found = tile(scene, MERCATOR, *where)
        expected = by_hand(path, MERCATOR, *where)
        assert agree(found.data[0], expected) > 0.97
    assert not tile(scene, MERCATOR, 2**7, 84, 8).valid.any()


@pytest.mark.parametrize("projection", ["eqc", "npolar", "spolar"])
@pytest.mark.parametrize("file", ["ulcn2005_lpo_downsampled.cub", "ldem_4_reduced.cub"])
def test_real_global_moon_maps_have_no_gap(data, file, projection):
    """One counts longitude from 180, the other from 0; all of the globe is there in every projection."""
    moon = collections.open(data / "isis3" / file)
    tms = bodies.tms_name(moon.body, projection)
    for x in (0, 1) if projection == "eqc" else (0,):
        found = tile(moon["b1"], tms, x, 0, 0)
        assert found.valid.mean() > 0.98
        assert 1_728_000 < np.nanmin(found.data) < np.nanmax(found.data) < 1_748_000


def test_the_two_moon_maps_show_the_same_moon(data):
    """Two data sets of other origins and other central longitudes: heights agree where places do."""
    one, other = (
        tile(collections.open(data / "isis3" / file)["b1"], "Moon2015npolar", 0, 0, 0).data.ravel()
        for file in ("ulcn2005_lpo_downsampled.cub", "ldem_4_reduced.cub")
    )
    good = np.isfinite(one) & np.isfinite(other)
    assert np.corrcoef(one[good], other[good])[0, 1] > 0.9


def test_real_polar_image_of_mars(data):
    mars = collections.open(data / "cog" / "Mars_MGS_MOLA_ClrShade_MAP2_90.0N0.0_POLA.tif")
    assert mars.body.name == "Mars"
    found = tile(mars["b1"], "Mars2015npolar", 0, 0, 0)
    assert found.valid[128, 128]
    assert 0.05 < found.valid.mean() < 0.9
    assert tile(mars["b1"], "Mars2015eqc", 0, 0, 0).valid[:20].mean() > 0.9


def test_non_square_pixels(data):
    path = data / "dem" / "Copernicus_DSM_COG_30_S90_00_W164_00_DEM.tif"
    pole = collections.open(path)
    west, _, _, _ = pole.bbox
    found = tile(pole["b1"], "Earth2015spolar", 0, 0, 0)
    assert west == pytest.approx(-164.004, abs=1e-3)
    los_angeles = collections.open(data / "dem" / "los_angeles_dem_geoid.tif")
    where = address(los_angeles, 13)
    expected = by_hand(data / "dem" / "los_angeles_dem_geoid.tif", MERCATOR, *where)
    assert agree(tile(los_angeles["b1"], MERCATOR, *where).data[0], expected.astype("float32")) > 0.98
    assert not found.valid.all()


def test_empty_band_is_all_invalid(data):
    mars = collections.open(data / "isis3" / "ESP_042252_1930_3-BAND_COLOR_2m_o_cropped.cub")
    west, south, _, _ = mars.bbox
    grid = bodies.tile_matrix_set("Mars2015eqc")
    found = grid.tile(west, south, 12)
    assert not tile(mars["b1"], "Mars2015eqc", found.x, found.y, found.z).valid.any()


def test_another_body_is_refused_by_name(data):
    mars = collections.open(data / "isis3" / "DTM_2Bands_cropped.cub")["b1"]
    with pytest.raises(
        BodyError, match=r"DTM_2Bands.*shows Mars.*map of Earth; use a map of Mars \(Mars2015eqc\)"
    ):
        tile(mars, MERCATOR, 0, 0, 0)
    with pytest.raises(BodyError, match="no coordinate system"):
        tile(collections.open(data / "jp2" / "B07.jp2")["b1"], MERCATOR, 0, 0, 0)


@pytest.fixture
def scene(tmp_path, write_image):
    """A noisy image without resampling in the way: its pixels are those of tiles at zoom 10."""
    random = np.random.default_rng(1)
    array = random.integers(1, 1000, (512, 512)).astype("uint16")
    box = bodies.tile_matrix_set(MERCATOR).xy_bounds(Tile(500, 300, 10))
    pixel = (box.right - box.left) / 256
    path = write_image(
        tmp_path / "scene.tif", array, crs="EPSG:3857", origin=(box.left, box.top), pixel=pixel, nodata=0
    )
    return collections.open(path), array


def test_aligned_tile_is_the_pixels_themselves(scene):
    collection, array = scene
    assert np.array_equal(tile(collection["b1"], MERCATOR, 500, 300, 10).data[0], array[:256, :256])
    assert np.array_equal(tile(collection["b1"], MERCATOR, 501, 301, 10).data[0], array[256:, 256:])


@pytest.mark.parametrize("halo", [1, 5])
def test_halo_makes_tiles_that_fit_together(scene, halo):
    collection, array = scene
    size = 2 * halo + 1
    chain = collection["b1"].map(lambda band: ndimage.maximum_filter(band, size), halo=halo)
    whole = ndimage.maximum_filter(array, size)
    for x, y in [(500, 300), (501, 300), (500, 301), (501, 301)]:
        found = tile(chain, MERCATOR, x, y, 10).data[0]
        top, left = (y - 300) * 256, (x - 500) * 256
        inner = whole[top : top + 256, left : left + 256]
        edge = slice(halo if y == 300 else 0, 256 - halo if y == 301 else 256)
        side = slice(halo if x == 500 else 0, 256 - halo if x == 501 else 256)
        assert np.array_equal(found[edge, side], inner[edge, side])


def test_outside_is_invalid_and_costs_no_file(scene):
    collection, _ = scene
    found = tile(collection["b1"], MERCATOR, 0, 0, 10)
    assert (found.data.shape, found.valid.any(), found.items) == ((1, 256, 256), False, [])


def test_many_bands_and_sizes(scene):
    collection, array = scene
    chain = collection["b1"].map(lambda band: (band, band * 2, band * 0))
    found = tile(chain, bodies.tile_matrix_set(MERCATOR), 500, 300, 10, 64)
    assert found.data.shape == (3, 64, 64)
    assert np.isin(found.data[0], array[:256, :256]).all()
    assert np.array_equal(found.data[1], found.data[0] * 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ((MERCATOR, 0, 0, 99), InputError, "no tile 99/0/0"),
        ((MERCATOR, 2, 0, 1), InputError, "no tile 1/2/0"),
        ((MERCATOR, -1, 0, 1), InputError, "no tile"),
        ((MERCATOR, 0, 0, 0, 5000), InputError, "5000"),
        (("Pluto", 0, 0, 0), NotFoundError, "Pluto"),
    ],
)
def test_wrong_addresses(scene, call, error, words):
    with pytest.raises(error, match=words):
        tile(scene[0]["b1"], *call)


def mosaic(tmp_path, write_image, write_item):
    """Three scenes over one tile: the newest covers the left half, an older one all, the oldest too."""
    box = bodies.tile_matrix_set(MERCATOR).xy_bounds(Tile(500, 300, 10))
    pixel = (box.right - box.left) / 256
    for day, value, width in [(3, 30, 128), (2, 20, 256), (1, 10, 256)]:
        array = np.full((256, width), value, "uint16")
        array[:16] = 0
        if day == 1:
            array[:] = value
        write_image(
            tmp_path / f"d{day}.tif",
            array,
            crs="EPSG:3857",
            origin=(box.left, box.top),
            pixel=pixel,
            nodata=0,
        )
        bounds = collections.open(tmp_path / f"d{day}.tif").bbox
        assets = {"data": {"href": f"d{day}.tif", "type": "image/tiff"}}
        write_item(
            tmp_path / f"d{day}.json", bbox=bounds, datetime=f"2020-01-0{day}T00:00:00Z", assets=assets
        )
    return collections.open(tmp_path)


def test_newest_item_lies_on_top(tmp_path, write_image, write_item):
    collection = mosaic(tmp_path, write_image, write_item)
    found = tile(collection["data"], MERCATOR, 500, 300, 10)
    assert found.items == ["d3", "d2", "d1"]
    assert found.valid.all()
    assert (found.data[0, :16] == 10).all()
    assert (found.data[0, 16:, :128] == 30).all()
    assert (found.data[0, 16:, 128:] == 20).all()
    capped = tile(collection["data"], MERCATOR, 500, 300, 10, max_items=1)
    assert capped.items == ["d3"]
    assert np.isnan(capped.data[0, :, 128:]).all()
    masked = tile(collection["data"].where(collection["data"] < 25), MERCATOR, 500, 300, 10)
    assert masked.items == ["d2", "d1"]


def test_item_without_the_band_is_passed_over(tmp_path, write_image, write_item):
    collection = mosaic(tmp_path, write_image, write_item)
    write_item(tmp_path / "d4.json", bbox=collection.bbox, datetime="2020-01-04T00:00:00Z", assets={})
    text = (tmp_path / "d4.json").read_text()
    (tmp_path / "d4.json").write_text(text.replace('"assets": {}', '"assets": {"x": {"href": "d1.tif"}}'))
    collection.refresh()
    assert tile(collection["data"], MERCATOR, 500, 300, 10).items == ["d3", "d2", "d1"]
    for day in (1, 2, 3):
        (tmp_path / f"d{day}.json").unlink()
    lacking = Chain.of_bands(collection.refresh(), ("data",))
    with pytest.raises(BandError, match="d4 has no band 'data'"):
        tile(lacking, MERCATOR, 500, 300, 10)


def test_replaced_file_is_seen(scene):
    collection, array = scene
    chain = collection["b1"]
    tile(chain, MERCATOR, 500, 300, 10)
    with rasterio.open(collection.source) as dataset:
        profile = dataset.profile
    draft = collection.source.with_suffix(".new")
    with rasterio.open(draft, "w", **profile) as dataset:
        dataset.write(array + 1, 1)
    draft.replace(collection.source)
    assert np.array_equal(tile(chain, MERCATOR, 500, 300, 10).data[0], array[:256, :256] + 1)


def test_damaged_file_is_named(scene):
    collection, _ = scene
    with collection.source.open("r+b") as file:
        file.truncate(3000)
    with pytest.raises(ImageError, match=r"scene\.tif .*damaged or cut off"):
        tile(collection["b1"], MERCATOR, 501, 301, 10)


def test_threads_share_nothing(scene):
    collection, array = scene
    chain = collection["b1"].map(lambda band: band + 1)

    def one(number):
        x, y = 500 + number % 2, 300 + number // 2 % 2
        expected = array[(y - 300) * 256 :, (x - 500) * 256 :][:256, :256] + 1.0
        return np.array_equal(tile(chain, MERCATOR, x, y, 10).data[0], expected)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(64)))


def test_wrong_function_is_told(scene):
    with pytest.raises(InputError, match="returned nothing"):
        tile(scene[0]["b1"].map(lambda _: None), MERCATOR, 500, 300, 10)

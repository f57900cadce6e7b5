"""Chains over real data and swaths: masks, scales, places and areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from scipy import ndimage

from cupola.exceptions import InputError, LimitError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute import evaluate
from cupola.lab.samples import sentinel5p

MERCATOR = "WebMercatorQuad"


@pytest.fixture(scope="module")
def swaths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s5p")
    list(sentinel5p.write(folder, scanlines=200, pixels=120))
    return collections.open(folder)


@pytest.fixture
def ndvi(data):
    s2 = collections.open(data / "s2")
    return (s2["B08"] - s2["B04"]) / (s2["B08"] + s2["B04"])


def middle(chain):
    west, south, east, north = chain.collection.bbox
    return (west + east) / 2, (south + north) / 2


def square(longitude, latitude, half):
    return shapely.geometry.mapping(
        shapely.box(longitude - half, latitude - half, longitude + half, latitude + half)
    )


def test_two_periods_of_swaths_differ_where_traffic_did(swaths):
    """The study of air quality: masks by quality, means of two springs, their difference and its statistics."""
    no2 = swaths["nitrogendioxide_tropospheric_column"].mask_qa(0.75)
    assert no2.bands == ("qa_value", "nitrogendioxide_tropospheric_column")
    assert no2.label == "masked nitrogendioxide_tropospheric_column"
    before, after = (no2.during(span).mean() for span in ("2025-04", "2026-04"))
    west, south, east, north = swaths.bbox
    where = bodies.tile_matrix_set(MERCATOR).tile((west + east) / 2, (south + north) / 2, 4)
    found = evaluate.tile(after - before, MERCATOR, where.x, where.y, 4)
    assert len(found.items) == 6
    assert found.scale > 5000
    parts = [evaluate.tile(chain, MERCATOR, where.x, where.y, 4).data[0] for chain in (before, after)]
    assert np.array_equal(found.data[0], parts[1] - parts[0], equal_nan=True)
    area = (after - before).area(square(*middle(no2), 4))
    assert len(area.items) == 3
    assert area.bands[0].mean == pytest.approx(
        (after.area(square(*middle(no2), 4)).bands[0].mean - before.area(square(*middle(no2), 4)).bands[0].mean),
        rel=0.5, abs=3e-6,
    )  # fmt: skip


@pytest.mark.parametrize("metres", [30_000, 80_000])
def test_swaths_have_scales_of_their_own(swaths, metres):
    band = swaths["nitrogendioxide_tropospheric_column"]
    west, south, east, north = swaths.bbox
    where = bodies.tile_matrix_set(MERCATOR).tile((west + east) / 2, (south + north) / 2, 4)
    smooth = band.map(lambda values: ndimage.uniform_filter(np.nan_to_num(values), 3), halo=1)
    for chain in (smooth.at(metres), smooth.mosaic().at(metres)):
        found = evaluate.tile(chain, MERCATOR, where.x, where.y, 4)
        # Its own pixels are 33 km wide: what is computed on them says so.
        assert metres <= found.scale < 1.2 * metres
        assert found.exact
        assert found.valid.mean() > 0.5


def test_clouds_of_the_real_scene_are_left_out(ndvi, data):
    where = bodies.tile_matrix_set(MERCATOR).tile(*middle(ndvi), 8)
    plain, masked, kept = (
        evaluate.tile(chain, MERCATOR, where.x, where.y, 8)
        for chain in (ndvi, ndvi.mask_scl(drop="cloud"), ndvi.mask_scl(keep="bare soil"))
    )
    scl = evaluate.tile(collections.open(data / "s2")["scl"], MERCATOR, where.x, where.y, 8).data[0]
    assert np.array_equal(masked.valid, plain.valid & ~np.isin(scl, [8, 9]))
    assert np.array_equal(kept.valid, plain.valid & (scl == 5))
    assert 0 < kept.valid.mean() < 1


def test_values_at_a_place(ndvi):
    longitude, latitude = middle(ndvi)
    found = ndvi.probe(longitude, latitude)
    where = bodies.tile_matrix_set(MERCATOR).tile(longitude, latitude, 18)
    near = evaluate.tile(ndvi, MERCATOR, where.x, where.y, 18).data
    assert found.values[0] in near
    assert found.scale == pytest.approx(100, rel=0.01)
    assert [item.id for item in found.items] == [item.id for item in ndvi.collection.items]
    assert found.items[0].values == found.values
    assert ndvi.mean().probe(longitude, latitude).values == pytest.approx(found.values)
    elsewhere = ndvi.probe(longitude + 90, latitude)
    assert (elsewhere.values, elsewhere.items) == (None, [])
    with pytest.raises(InputError, match="longitude and a latitude"):
        ndvi.probe(float("nan"), 0)


def test_statistics_of_an_area(ndvi):
    longitude, latitude = middle(ndvi)
    polygon = square(longitude, latitude, 0.1)
    found = ndvi.area(polygon)
    (band,) = found.bands
    side = 0.2 * math.radians(1) * 6_371_000
    assert band.count == pytest.approx(side * side * math.cos(math.radians(latitude)) / 100**2, rel=0.01)
    assert found.scale == pytest.approx(100, rel=0.01)
    assert sum(band.histogram["counts"]) == band.count
    assert band.histogram["edges"][0] == band.min < band.median < band.max == band.histogram["edges"][-1]
    assert found.items[0].bands[0] == band
    values = ndvi.compute(bbox=(longitude - 0.1, latitude - 0.1, longitude + 0.1, latitude + 0.1)).values
    assert band.mean == pytest.approx(float(np.nanmean(values)), rel=0.02)
    feature = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": polygon}],
    }
    coarse = ndvi.max().area(feature, metres=1000)
    assert (coarse.scale, coarse.bands[0].count) == (
        pytest.approx(1000),
        pytest.approx(band.count / 100, rel=0.1),
    )
    tiny = ndvi.area(square(longitude, latitude, 1e-5))
    assert tiny.bands[0].count == 1
    assert ndvi.area(square(longitude + 90, latitude, 1)).bands == []


@pytest.mark.parametrize(
    ("geometry", "metres", "error", "words"),
    [
        ({"type": "Point", "coordinates": [-8, 28]}, None, InputError, "encloses nothing"),
        ({"type": "Polygon"}, None, InputError, "polygon as GeoJSON"),
        ("here", None, InputError, "polygon as GeoJSON"),
        (None, -1, InputError, "positive number of metres"),
        (None, 0.01, LimitError, "larger ones with metres="),
    ],
)
def test_wrong_areas(ndvi, geometry, metres, error, words):
    with pytest.raises(error, match=words):
        ndvi.area(geometry or square(*middle(ndvi), 0.1), metres=metres)


def test_places_and_areas_in_image_space(data):
    image = collections.open(data / "jp2" / "B07.jp2")["b1"]
    values = image.compute().values[0]
    assert image.probe(300.7, 200.2).values == [values[200, 300]]
    assert image.probe(3000, 200).values is None
    found = image.area(shapely.box(100, 50, 140, 80))
    assert (found.bands[0].count, found.bands[0].mean) == (1200, pytest.approx(values[50:80, 100:140].mean()))
    blocks = evaluate.tile(image.mean().at(8), "ImageSpace", 1, 1, 12)
    assert (blocks.scale, blocks.data[0, 0, 0]) == (8, pytest.approx(values[256:264, 256:264].mean()))


def test_areas_across_the_antimeridian(data):
    scene = collections.open(data / "cog" / "cog_dateline.tif")["b1"]
    west, south, _, north = scene.collection.bbox
    box = shapely.box(179.9, (south + north) / 2 - 0.1, 180.1, (south + north) / 2 + 0.1)
    assert west > 170
    found = scene.area(box)
    assert found.bands[0].count > 30_000
    assert scene.probe(180.05, (south + north) / 2).values == scene.probe(-179.95, (south + north) / 2).values

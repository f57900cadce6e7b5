"""The second opinion itself must notice a wrong product."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola.monitor import pixels

SIDE = 512


def write(path, data, nodata):
    profile = {
        "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 1, "dtype": data.dtype, "nodata": nodata,
        "crs": "EPSG:32632", "transform": from_origin(600_000, 5_000_000, 10, 10), "tiled": True,
        "blockxsize": 256, "blockysize": 256,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as target:
        target.write(data, 1)
        target.build_overviews([2])


@pytest.fixture
def scene(tmp_path):
    """A collection of one item with random bands and a product that is right."""
    source, products = tmp_path / "collection", tmp_path / "products"
    source.mkdir()
    products.mkdir()
    rng = np.random.default_rng(7)
    for name in ("red", "nir"):
        write(source / f"{name}.tif", rng.integers(1, 9000, (SIDE, SIDE), dtype="uint16"), 0)
    assets = {n: {"href": f"{n}.tif", "raster:bands": [{"scale": 1e-4}]} for n in ("red", "nir")}
    item = {
        "type": "Feature",
        "id": "scene",
        "assets": assets,
        "properties": {"datetime": "2020-02-19T00:00:00Z"},
    }
    (source / "scene.json").write_text(json.dumps(item))
    values, _ = pixels.ndvi(source / "scene.json")
    write(products / "scene.tif", values, np.nan)
    digest = hashlib.sha256((products / "scene.tif").read_bytes()).hexdigest()
    product = {
        "type": "Feature", "id": "scene-ndvi",
        "links": [{"rel": "derived_from", "href": "../collection/scene.json"}],
        "properties": {"processing:expression": {}},
        "assets": {"data": {"href": "scene.tif", "roles": ["data"], "file:checksum": "1220" + digest}},
    }  # fmt: skip
    (products / "scene.json").write_text(json.dumps(product))
    return source, products


def test_a_right_product_passes(scene):
    counts = pixels.check_products(*scene)
    assert counts == {"products": 1, "pixels": SIDE * SIDE, "differing": 0, "without_provenance": 0}


def test_one_wrong_pixel_is_found(scene):
    with rasterio.open(scene[1] / "scene.tif", "r+") as target:
        data = target.read(1)
        data[3, 4] += 0.01
        target.write(data, 1)
    counts = pixels.check_products(*scene)
    assert counts["differing"] == 1
    assert counts["without_provenance"] == 1, "the checksum does not fit any more"


def test_a_tile_of_the_right_place_passes_and_a_shifted_one_does_not(scene, tmp_path):
    source, _ = scene
    z, x, y = 14, 8660, 5885
    wanted = pixels.direct_tile([source / "scene.json"], z, x, y, 256)
    assert np.count_nonzero(~np.isnan(wanted)) > 0, "the tile must touch the scene"
    np.save(tmp_path / f"{z}-{x}-{y}.npy", wanted[None])
    assert pixels.check_tiles(source, tmp_path)["differing"] == 0
    np.save(tmp_path / f"{z}-{x}-{y}.npy", np.roll(wanted, 3, axis=1)[None])
    assert pixels.check_tiles(source, tmp_path)["differing"] > 1000

"""Saturated pixels of ISIS cubes and PDS products: missing, or kept as the limits of what can be told."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cupola.exceptions import InputError
from cupola.lab import bodies, collections
from cupola.lab.chains import Chain
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.collections.images import describe

CASSIS = "pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_proj_rdrgen.xml"
VESTA = "isis3/vest64_dtm_specialpixels_downsampled.cub"
THEMIS = "pds3/V00821003RDR_cropped.QUB"

SPECIAL = {
    # NULL, LRS, LIS, HIS, HRS; the smallest and the largest valid number
    "int16": ([-32768, -32767, -32766, -32765, -32764], (-32752, 32767)),
    "uint16": ([0, 1, 2, 65534, 65535], (3, 65522)),
    "uint8": ([0, 0, 0, 255, 255], (1, 254)),
}


def cube(path, dtype):
    """Write a cube of Mars whose first row holds the special pixels, one after another, and give its stored numbers."""
    stored = np.random.default_rng(0).integers(40, 200, (40, 60)).astype(dtype)
    stored[0, :5] = SPECIAL[dtype][0]
    mars = rasterio.crs.CRS.from_user_input("IAU_2015:49910")
    place = from_origin(1_000_000, 500_000, 200, 200)
    with rasterio.open(
        path, "w", driver="ISIS3", width=60, height=40, count=1, dtype=dtype, crs=mars, transform=place
    ) as file:
        if dtype == "int16":
            file.scales, file.offsets = (0.5,), (1000.0,)
        file.write(stored, 1)
    return stored


def whole_tile(chain, grid="Mars2015eqc"):
    """Return the tile that holds a whole small image."""
    west, south, east, north = chain.collection.items[0].bbox
    place = bodies.tile_matrix_set(grid).tile((west + east) / 2, (south + north) / 2, 9)
    return tile(chain, grid, place.x, place.y, place.z, size=512).data[0]


@pytest.mark.parametrize("dtype", SPECIAL)
def test_saturated_pixels_are_missing_or_the_limits_of_the_stored_numbers(tmp_path, dtype):
    cube(tmp_path / "mars.cub", dtype)
    scale, offset = (0.5, 1000.0) if dtype == "int16" else (1.0, 0.0)
    chain = collections.open(tmp_path / "mars.cub")["b1"]
    assert np.isnan(chain.compute().values[0, 0, :5]).all()
    least, most = (limit * scale + offset for limit in SPECIAL[dtype][1])
    low = np.nan if dtype == "uint8" else least  # 0 is both nothing and the low end of a byte
    kept = chain.keep_saturated()
    np.testing.assert_array_equal(kept.compute().values[0, 0, :5], [np.nan, low, low, most, most])
    np.testing.assert_array_equal(
        chain.keep_saturated(low=False, high=7).compute().values[0, 0, :5], [np.nan] * 3 + [7, 7]
    )
    np.testing.assert_array_equal(kept.compute().values[0, 1:], chain.compute().values[0, 1:])


def test_viewport_run_and_program_keep_the_same_pixels(tmp_path):
    cube(tmp_path / "mars.cub", "int16")
    plain = collections.open(tmp_path / "mars.cub")["b1"]
    kept = (plain * 2).keep_saturated(high=20_000)
    assert kept.hash != (plain * 2).hash
    assert json.loads(kept.to_json())["steps"][0]["saturated"] == [True, 20_000]
    again = Chain.from_json(kept.to_json())
    assert again.hash == kept.hash
    assert "saturated pixels kept" in kept.explain()
    path = write_product(again, again.collection.items[0], tmp_path / "products")
    with rasterio.open(path) as file:
        written = file.read(1)
    low, high = 2 * (1000 - 0.5 * 32752), 40_000
    np.testing.assert_array_equal(written[0, :5], [np.nan, low, low, high, high])
    seen = whole_tile(kept)
    assert {low, high} < set(np.unique(seen[np.isfinite(seen)]).tolist()) <= set(written.ravel().tolist())
    # Both ways of reading one band side by side, and what the choice is lost in.
    both = (kept - plain * 2).compute().values[0]
    assert np.isnan(both[0, :5]).all()
    assert (both[1:] == 0).all()
    assert np.isfinite((plain.keep_saturated(high=20_000) * 2).at(200).compute().values[0, 0, 1:5]).all()


def test_real_products_keep_what_their_labels_call_saturated(data, tmp_path):
    cassis = collections.open(data / CASSIS)
    band = cassis[cassis.bands[0]]
    missing = np.isnan(band.compute().values)
    assert missing.sum() == 414
    chain = band.keep_saturated(low=0, high=0.5)
    kept = chain.compute().values
    assert (kept[missing] == 0.5).all()
    seen = whole_tile(chain)
    assert (seen == 0.5).any()
    assert np.isin(seen[np.isfinite(seen)], kept).all()
    with pytest.raises(InputError, match=r"rdrgen\.xml sets no limits .* keep_saturated\(low=0, high=1\)"):
        band.keep_saturated()
    vesta = collections.open(data / VESTA)["b1"]
    kept = vesta.keep_saturated(low=212_000, high=False)
    numbers = kept.compute().values
    assert (numbers == 212_000).sum() == 364
    assert np.isnan(numbers).sum() == 50_825
    write_product(kept, kept.collection.items[0], tmp_path)


def test_a_pds3_label_names_saturated_pixels(data, tmp_path):
    path = tmp_path / "themis.qub"
    content = bytearray((data / THEMIS).read_bytes())
    offset = len(content) - 1024 * 200 * 5 * 2
    special = np.array([-32767, -32766, -32765, -32764], ">i2")
    content[offset : offset + 8] = special.tobytes()
    path.write_bytes(bytes(content))
    said = describe(str(path)).saturation
    assert (said.low, said.high) == ((-32767, -32766), (-32765, -32764))
    band = collections.open(path)["b1"]
    values = band.compute().values[0]
    where = np.argwhere(band.keep_saturated(low=-1, high=9).compute().values[0] == 9)
    assert len(where) == 2
    assert all(np.isnan(values[row, column]) for row, column in where)


def test_what_has_no_saturated_pixels_is_told(write_image, tmp_path):
    write_image(tmp_path / "plain.tif", np.ones((20, 20), "float32"))
    plain = collections.open(tmp_path / "plain.tif")["b1"]
    with pytest.raises(InputError, match="tells saturated pixels from others"):
        plain.keep_saturated()
    with pytest.raises(InputError, match="number, or True or False, not 'all'"):
        plain.keep_saturated("all")
    cube(tmp_path / "mars.cub", "int16")
    kept = collections.open(tmp_path / "mars.cub")["b1"].keep_saturated()
    with pytest.raises(InputError, match="openEO knows no saturated pixels"):
        kept.to_openeo()
    for wrong in ([True], ["x", True], [True, 1e999]):
        text = json.loads(kept.to_json())
        text["steps"][0]["saturated"] = wrong
        with pytest.raises(InputError):
            Chain.from_json(json.dumps(text))

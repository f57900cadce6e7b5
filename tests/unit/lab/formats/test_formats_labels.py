"""Labels that GDAL does not understand, read by pdr."""

from __future__ import annotations

import numpy as np
import pytest

from cupola.exceptions import ImageError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.evaluate import tile
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.collections.images import Band, describe, open_image, physical


@pytest.fixture
def product(data, tmp_path):
    """A real PDS4 product whose label begins with a long comment: GDAL looks at the first lines only."""
    name = "byte_pds4_cart_1g00_1950"
    label = (data / "pds4" / f"{name}.xml").read_text()
    first, rest = label.split("\n", 1)
    comment = "<!-- " + "exported by the archive, do not edit; " * 400 + "-->"
    (tmp_path / f"{name}.xml").write_text(f"{first}\n{comment}\n{rest}")
    (tmp_path / f"{name}.img").write_bytes((data / "pds4" / f"{name}.img").read_bytes())
    return tmp_path / f"{name}.xml"


def test_label_that_gdal_does_not_know(product, data, tmp_path):
    image = describe(str(product))
    plain = describe(str(data / "pds4" / product.name))
    assert (image.driver, plain.driver) == ("PDR", "PDS4")
    assert (image.width, image.height, image.count) == (plain.width, plain.height, plain.count)
    with open_image(str(product)) as one, open_image(plain.path) as other:
        expected = other.read(1)
        assert np.array_equal(one.read(1), expected)
        assert one.read([1], out_shape=(1, 5, 5)).shape == (1, 5, 5)
    collection = collections.open(product)
    assert collection.body is None
    assert tile(collection["b1"], "ImageSpace", 0, 0, 12).valid.sum() == expected.size
    path = write_product(collection["b1"] * 2, collection.items[0], tmp_path / "out")
    with open_image(str(path)) as made:
        assert np.array_equal(made.read(1), expected * 2.0)


def test_label_without_its_data_says_so(product):
    product.with_suffix(".img").unlink()
    with pytest.raises(ImageError, match=rf"{product.name}.*(neither GDAL nor pdr|without an image)"):
        describe(str(product))


def test_label_that_is_no_product_is_refused_at_once(tmp_path):
    """Folders hold thousands of other XML files: pdr is not asked for them."""
    path = tmp_path / "settings.xml"
    path.write_text("<settings/>")
    with pytest.raises(ImageError, match=r"settings\.xml is not an image that Cupola can read: use GeoTIFF"):
        describe(str(path))


ISIS2_LABEL = """CCSD3ZF0000100000001NJPL3IF0PDS200000001 = SFDU_LABEL
RECORD_TYPE = FIXED_LENGTH
RECORD_BYTES = 512
FILE_RECORDS = 8
LABEL_RECORDS = 4
FILE_STATE = CLEAN
^QUBE = 5
OBJECT = QUBE
  AXES = 3
  AXIS_NAME = (SAMPLE,LINE,BAND)
  CORE_ITEMS = (8,6,1)
  CORE_ITEM_BYTES = 2
  CORE_ITEM_TYPE = SUN_INTEGER
  CORE_BASE = 10.0
  CORE_MULTIPLIER = 0.5
  SUFFIX_BYTES = 4
  SUFFIX_ITEMS = (0,0,0)
  CORE_NULL = -32768
  GROUP = IMAGE_MAP_PROJECTION
    MAP_PROJECTION_TYPE = "SINUSOIDAL"
    TARGET_NAME = MARS
    A_AXIS_RADIUS = 3396.19
    B_AXIS_RADIUS = 3396.19
    C_AXIS_RADIUS = 3396.19
    CENTER_LONGITUDE = 0.0
    CENTER_LATITUDE = 0.0
    MAP_SCALE = 1.0
    POSITIVE_LONGITUDE_DIRECTION = EAST
    LINE_PROJECTION_OFFSET = 1.0
    SAMPLE_PROJECTION_OFFSET = 1.0
  END_GROUP = IMAGE_MAP_PROJECTION
END_OBJECT = QUBE
END
"""


def test_cube_of_isis2(tmp_path):
    """Base and multiplier, five special pixels, and a projection without a name of its own."""
    raw = np.arange(48, dtype=">i2").reshape(6, 8)
    raw[0, :5] = range(-32768, -32763)
    path = tmp_path / "old.cub"
    path.write_bytes(
        ISIS2_LABEL.replace("\n", "\r\n").encode().ljust(2048) + raw.tobytes().ljust(2048, b"\0")
    )
    image = describe(str(path))
    assert (image.driver, image.body.name) == ("ISIS2", "Mars")
    assert bodies.iau_code(image.crs) == "IAU_2015:49920"
    with open_image(str(path)) as dataset:
        values = physical(dataset.read(1), Band("b1", str(path)), image)
    assert np.isnan(values[0]).tolist() == [True] * 5 + [False] * 3
    assert np.array_equal(values[1:], raw[1:] * 0.5 + 10)
    collection = collections.open(path)
    west, _, _, north = collection.bbox
    grid = bodies.tile_matrix_set("Mars2015eqc")
    found = grid.tile(west + 0.03, north - 0.03, 11)
    assert tile(collection["b1"], "Mars2015eqc", found.x, found.y, found.z).valid.any()

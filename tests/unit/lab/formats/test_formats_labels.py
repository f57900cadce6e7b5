"""Labels that GDAL does not understand, read by pdr."""

from __future__ import annotations

import numpy as np
import pytest

from cupola.exceptions import ImageError
from cupola.lab import collections
from cupola.lab.chains.evaluate import tile
from cupola.lab.chains.fullres import write_product
from cupola.lab.collections.images import describe, open_image


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

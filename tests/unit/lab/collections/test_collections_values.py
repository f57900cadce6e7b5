from __future__ import annotations

import numpy as np
import pytest
import rasterio

from cupola.exceptions import ImageError
from cupola.lab.collections.images import Band, describe, open_image, physical

NULL, LRS, LIS, HIS, HRS = (np.array([n], "uint32").view("float32")[0] for n in range(0xFF7FFFFB, 0xFF800000))


def values(path, index=1, **more):
    with open_image(str(path)) as dataset:
        image = describe(str(path))
        mask = dataset.dataset_mask() if image.masked else None
        return physical(dataset.read(index), Band("b", str(path), index, **more), image, mask)


def test_real_moon_cube_carries_its_offset(data):
    path = data / "isis3" / "ulcn2005_lpo_downsampled.cub"
    found = values(path)
    with rasterio.open(path) as dataset:
        raw = dataset.read(1)
    assert found.dtype == np.float32
    expected = np.where(raw == -32768, np.nan, raw.astype("float64") + 1737400)
    assert np.isnan(expected).any()
    assert np.array_equal(found, expected.astype("float32"), equal_nan=True)
    assert 1_728_000 < np.nanmin(found) < np.nanmax(found) < 1_746_000


def test_real_vesta_cube_has_only_radii_left(data):
    found = values(data / "isis3" / "vest64_dtm_specialpixels_downsampled.cub")
    assert 0 < np.isfinite(found).mean() < 0.3
    assert 200_000 < np.nanmin(found) < np.nanmax(found) < 300_000


def test_real_empty_band_is_all_missing(data):
    assert np.isnan(values(data / "isis3" / "ESP_042252_1930_3-BAND_COLOR_2m_o_cropped.cub")).all()


def test_real_pds4_product(data):
    found = values(data / "pds4" / "CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_proj_rdrgen.xml")
    assert 0.1 < np.nanmin(found) < np.nanmax(found) < 0.14
    assert np.isnan(found).any()


def test_saturated_pixels_of_a_pds4_product_are_no_data(data, tmp_path):
    """GDAL takes only the first special constant of a label for nodata."""
    name = "byte_pds4_cart_1g00_1950"
    label = (data / "pds4" / f"{name}.xml").read_text()
    constants = (
        "<Special_Constants><missing_constant>74</missing_constant>"
        "<high_instrument_saturation>255</high_instrument_saturation><valid_maximum>254</valid_maximum>"
        "</Special_Constants></Array_3D_Image>"
    )
    assert label.count("</Array_3D_Image>") == 1
    (tmp_path / f"{name}.xml").write_text(label.replace("</Array_3D_Image>", constants))
    (tmp_path / f"{name}.img").write_bytes((data / "pds4" / f"{name}.img").read_bytes())
    with rasterio.open(data / "pds4" / f"{name}.xml") as dataset:
        raw = dataset.read(1)
    assert ((raw == 74) | (raw == 255)).sum() > 1
    assert np.array_equal(np.isnan(values(tmp_path / f"{name}.xml")), (raw == 74) | (raw == 255))


def test_real_themis_scale(data):
    path = data / "pds3" / "V00821003RDR_cropped.QUB"
    found = values(path)
    with rasterio.open(path) as dataset:
        raw, scale, offset = dataset.read(1), dataset.scales[0], dataset.offsets[0]
    good = np.isfinite(found)
    assert np.allclose(found[good], raw[good] * scale + offset, rtol=1e-5)


def test_all_five_special_pixels_of_real_cubes(data):
    image = describe(str(data / "isis3" / "DTM_2Bands_cropped.cub"))
    raw = np.array([[NULL, LRS, LIS, HIS, HRS, np.float32(-3.402822e38), 0, 1]], "float32")
    found = physical(raw, Band("b", image.path), image)
    assert np.isnan(found).tolist() == [[True] * 5 + [False] * 3]


@pytest.mark.parametrize(
    ("file", "special", "valid"),
    [
        ("ctxTestImage.cub", [-32768, -32767, -32766, -32765, -32764], [-32752, 0, 32767]),
        ("mocImage.cub", [0, 255], [1, 254]),
    ],
)
def test_special_pixels_of_real_integer_cubes(data, file, special, valid):
    image = describe(str(data / "isis3" / file))
    raw = np.array([special + valid], image.dtypes[0])
    found = physical(raw, Band("b", image.path), image)
    assert np.isnan(found[0]).tolist() == [True] * len(special) + [False] * len(valid)


def test_scale_of_the_item_counts_where_the_file_has_none(tmp_path, write_image):
    path = write_image(tmp_path / "a.tif", np.array([[0, 100]], "uint16"), nodata=0)
    assert np.array_equal(values(path, scale=0.5, offset=1.0), [[np.nan, 51]], equal_nan=True)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (2.0,), (3.0,)
    assert np.array_equal(values(path, scale=0.5, offset=1.0), [[np.nan, 203]], equal_nan=True)


def test_nodata_of_the_item_counts_where_the_file_has_none(tmp_path, write_image):
    path = write_image(tmp_path / "a.tif", np.array([[0, 7]], "uint16"))
    assert np.array_equal(values(path, nodata=7), [[0, np.nan]], equal_nan=True)


def test_mask_and_alpha_are_no_data(tmp_path, write_image):
    path = write_image(tmp_path / "masked.tif", np.array([[1, 2]], "uint8"))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.array([[255, 0]], "uint8"))
    assert np.array_equal(values(path), [[1, np.nan]], equal_nan=True)
    bands = np.array([[[1, 2]], [[3, 4]], [[5, 6]], [[0, 255]]], "uint8")
    path = write_image(tmp_path / "alpha.tif", bands, photometric="RGB", alpha="yes")
    assert describe(str(path)).count == 3
    assert np.array_equal(values(path, 2), [[np.nan, 4]], equal_nan=True)


def test_description_follows_the_file(tmp_path, write_image):
    path = write_image(tmp_path / "a.tif", np.ones((8, 8), "uint8"))
    assert describe(str(path)).count == 1
    write_image(path, np.ones((3, 16, 16), "uint8"))
    assert describe(str(path)).count == 3


def test_file_without_bands_and_complex_numbers(tmp_path, write_image, data):
    product = next((data / "s5p").glob("*CH4*.nc"))
    with pytest.raises(ImageError, match="no raster band"):
        describe(str(product))
    path = write_image(tmp_path / "c.tif", np.ones((4, 4), "complex64"))
    with pytest.raises(ImageError, match="complex"):
        values(path)

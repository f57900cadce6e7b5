"""Every file of the real sample data: opened, tiled on its own body, computed and written."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cupola.exceptions import BodyError, ImageError
from cupola.lab import bodies, collections
from cupola.lab.chains.compute.evaluate import IMAGE_SPACE, tile
from cupola.lab.chains.runs.fullres import write_product
from cupola.lab.collections.images import describe, open_image, physical
from cupola.lab.projection import lonlat_of_wkt

NOWHERE = IMAGE_SPACE
EARTH, MARS, MOON = "WebMercatorQuad", "Mars2015eqc", "Moon2015eqc"
SKY = "Sky2015car"

FILES = {
    "cog/Lunar_LRO_LOLA_Shade_MAP2_90.0N20.0_LAMB.tif": MOON,
    "cog/Mars_MGS_MOLA_ClrShade_MAP2_90.0N0.0_POLA.tif": "Mars2015npolar",
    "cog/cog_dateline.tif": EARTH,
    "cog/cog_gcps.tif": EARTH,
    "cog/cog_hirise_mars.tif": MARS,
    "cog/shade.tif": EARTH,
    "dem/Copernicus_DSM_COG_30_S90_00_W164_00_DEM.tif": "Earth2015spolar",
    "dem/los_angeles_dem_geoid.tif": EARTH,
    "dem/los_angeles_tile_0.tif": EARTH,
    "dem/los_angeles_tile_1.tif": EARTH,
    "dem/los_angeles_tile_2.tif": EARTH,
    "dem/los_angeles_tile_3.tif": EARTH,
    "fits/hyb2_onc_20151203_000006_w2f_l2a.fit": NOWHERE,
    "fits/j033216m2743_00152.beams.fits": SKY,
    "fits/m31.fits": SKY,
    "fits/sample_svm_flc.fits": SKY,
    "fits/sample_svm_flt.fits": SKY,
    "isis3/20190425T211232S312_map_iofL2pan-crop.cub": NOWHERE,
    "isis3/DTM_2Bands_cropped.cub": MARS,
    "isis3/ESP_042252_1930_3-BAND_COLOR_2m_o_cropped.cub": MARS,
    "isis3/K14_059003_3475_MA_00N112W_cropped.cub": NOWHERE,
    "isis3/LSZ_04866_1CD_XKU_89N109_V1_lev1.crop.cub": NOWHERE,
    "isis3/M143947267L.cal.echo.crop.cub": NOWHERE,
    "isis3/PSP_002118_1510_1m_o_forPDS_cropped.cub": MARS,
    "isis3/WAC_GLD100_V1.0_GLOBAL_with_LOLA_30M_POLE.10km_cropped.cub": "Moon2015npolar",
    "isis3/WAC_GLD100_V1.0_GLOBAL_with_LOLA_30M_POLE.16bit.reduced.cub": MOON,
    "isis3/ctxTestImage.cub": NOWHERE,
    "isis3/isis3_detached.lbl": MARS,
    "isis3/ldem_4_reduced.cub": MOON,
    "isis3/mocImage.cub": NOWHERE,
    "isis3/mola_compressed_prep.cub": MARS,
    "isis3/mroHical.cub": NOWHERE,
    "isis3/ulcn2005_lpo_downsampled.cub": MOON,
    "isis3/vest64_dtm_specialpixels_downsampled.cub": "Vesta2015eqc",
    "jp2/B07.jp2": NOWHERE,
    "jp2/B8A.jp2": NOWHERE,
    "pds3/PSP_001446_1790_BG12_0.IMG": NOWHERE,
    "pds3/V00821003RDR_cropped.QUB": NOWHERE,
    "pds3/mc02_truncated.img": "Mars2015npolar",
    "pds3/wac0000a1c4_cropped.img": NOWHERE,
    "pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_proj_rdrgen.xml": MARS,
    "pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_rdrgen.xml": NOWHERE,
    "pds4/byte_pds4_cart_1g00_1950.xml": EARTH,
    "pds4/oblique_cylindrical.xml": "Titan2015eqc",
    "s2/B02.tif": EARTH,
    "s2/B03.tif": EARTH,
    "s2/B04.tif": EARTH,
    "s2/B08.tif": EARTH,
    "s2/B11.tif": EARTH,
    "s2/SCL.tif": EARTH,
    "s2/TCI.tif": EARTH,
    "vicar/vicar_byte.vic": NOWHERE,
    "vicar/vicar_float32_bsq.vic": NOWHERE,
}
"""Each image and the grid that is chosen for it."""

REFUSED = {
    "isis3/isis3_detached.cub": "open its label isis3_detached.lbl",
    "pds4/CAS-M01-2018-05-05T23.11.48.767-RED-01029-B1.equi.img": r"open its label CAS-MCO-.*_proj_rdrgen\.xml",
    "pds4/CAS-M01-2018-05-05T23.11.48.767-RED-01029-B1.img": r"open its label CAS-MCO-.*B1_rdrgen\.xml",
    "pds4/byte_pds4_cart_1g00_1950.img": r"open its label byte_pds4_cart_1g00_1950\.xml",
    "pds4/oblique_cylindrical.IMG": r"open its label oblique_cylindrical\.xml",
    "s5p/S5P_OFFL_L2__CH4____20200303T013547_20200303T031717_12367_01_010302_20200306T053811.nc": "no raster band",
    "s5p/S5P_OFFL_L2__CO_____20200303T013547_20200303T031717_12367_01_010302_20200306T032410.nc": "no raster band",
    "s5p/S5P_OFFL_L2__NO2____20200303T013547_20200303T031717_12367_01_010302_20200306T053815.nc": "no raster band",
}
"""Data of a label beside them, and swaths whose arrays were taken out."""

OTHERS = {
    "s2/S2A_29RKH_20200219_0_L2A.json",
    "spice/naif0012.tls",
    "spice/pck00010.tpc",
    "stac_ssys/catalog.json",
    "stac_ssys/collection.json",
    "stac_ssys/item.json",
}

TO_A_GRID = {"cog/cog_gcps.tif", "pds4/oblique_cylindrical.xml"}
"""Files whose pixels lie on no plane that GeoTIFF knows: products are on a regular grid, of the nearest pixels."""

EMPTY = "isis3/ESP_042252_1930_3-BAND_COLOR_2m_o_cropped.cub"


def full(band):
    """Return the physical values of a whole band."""
    image = describe(band.path)
    with open_image(band.path) as dataset:
        mask = dataset.dataset_mask() if image.masked else None
        return physical(dataset.read(band.index), band, image, mask)


def place_of(band, values, tms):
    """Return the tile around a valid pixel in the middle of an image, at about the image's own scale."""
    image = describe(band.path)
    rows, columns = np.nonzero(np.isfinite(values))
    if len(rows):
        middle = np.argmin(np.hypot(rows - image.height / 2, columns - image.width / 2))
        row, column = rows[middle] + 0.5, columns[middle] + 0.5
    else:
        row, column = image.height / 2, image.width / 2
    if tms == NOWHERE:
        return int(column // 256), int(row // 256), 12
    longitudes, latitudes = image.placement.lonlat(
        column + np.array([-0.5, 0.5, -0.5]), row + np.array([-0.5, -0.5, 0.5])
    )
    grid = bodies.tile_matrix_set(tms)
    east = np.radians((longitudes[1:] - longitudes[0] + 180) % 360 - 180) * math.cos(
        math.radians(latitudes[0])
    )
    sides = np.hypot(east, np.radians(latitudes[1:] - latitudes[0])) * bodies.body_of_tms(tms).radius
    # A few pixels of the tile to one of the image: no image is too small to be hit.
    zoom = int(np.clip(math.log2(grid.matrix(0).cellSize / sides.min()) + 1.5, 0, 24))
    longitude, latitude = image.placement.lonlat(np.array([column]), np.array([row]))
    x, y = lonlat_of_wkt(grid.crs._pyproj_crs.to_wkt()).forward((longitude + 180) % 360 - 180, latitude)
    level = grid.matrix(zoom)
    left, top = level.pointOfOrigin
    return int((x[0] - left) // (level.cellSize * 256)), int((top - y[0]) // (level.cellSize * 256)), zoom


def test_every_file_is_accounted_for(data):
    there = {
        str(path.relative_to(data))
        for path in data.rglob("*")
        if path.is_file() and path.name != "MANIFEST.md"
    }
    assert there == FILES.keys() | REFUSED.keys() | OTHERS


@pytest.mark.parametrize("file", REFUSED)
def test_file_that_is_no_image_says_what_to_do(data, file):
    with pytest.raises(ImageError, match=REFUSED[file]):
        collections.open(data / file)


@pytest.mark.parametrize("file", FILES)
def test_opened_tiled_computed_and_written(data, file, tmp_path):
    collection = collections.open(data / file)
    item = collection.items[0]
    band = item.band(collection.bands[0])[0]
    values = full(band) * 2 + 1
    chain = collection[collection.bands[0]] * 2 + 1
    check_tile(file, chain, band, values)
    path = write_product(chain, item, tmp_path / "products")
    made = collections.open(path)
    assert (made.body and made.body.name) == (item.body and item.body.name)
    written = full(made.items[0].band(made.bands[0])[0])
    image = describe(band.path)
    if file in TO_A_GRID:
        assert np.isfinite(written).mean() > 0.3
        assert np.isin(written[np.isfinite(written)], values).all()
    else:
        assert np.array_equal(written, values, equal_nan=True)
        assert type(describe(str(path)).placement) is type(image.placement)


def check_tile(file, chain, band, values):
    """Look at a tile of an image on its own body: it has values of the file and no others."""
    tms, collection = FILES[file], chain.collection
    if tms == NOWHERE:
        assert collection.body is None
        with pytest.raises(BodyError, match="no coordinate system"):
            tile(chain, EARTH, 0, 0, 0)
    else:
        assert bodies.tms_name(collection.body, bodies.best_projection(collection.bbox)) == tms
    found = tile(chain, tms, *place_of(band, values, tms))
    assert found.valid.any() == (file != EMPTY)
    if found.valid.any():
        # Nearest pixels of the file itself, as the tile is no coarser: every value is one of the file's.
        assert np.isin(np.unique(found.data[np.isfinite(found.data)]), values).all()

"""The collections open as the real ones do, and look like them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import h5netcdf
import nbformat
import numpy as np
import pystac
import pytest
import rasterio
import xarray
from astropy.io import fits
from astropy.wcs import WCS
from rio_tiler.io import Reader

import cupola
from cupola.lab.samples import sentinel2, sentinel5p
from cupola.lab.samples.contents import COLLECTIONS, notebook


@pytest.fixture(scope="module")
def scenes(archive):
    return cupola.open(archive / "sentinel-2-l2a")


def read(item, key):
    with rasterio.open(item.assets[key].href) as image:
        return image.read(1)


def scene(scenes, tile, date):
    return scenes.item(f"S2X_30TTS_{tile}_{date}_0_L2A")


def test_the_catalog_leads_to_every_item_and_file(archive):
    catalog = pystac.Catalog.from_file(str(archive / "catalog.json"))
    assert [child.id for child in catalog.get_children()] == [about.id for about in COLLECTIONS]
    items = list(catalog.get_items(recursive=True))
    assert len(items) == 6 + len(list((archive / "coast-dem").glob("*/*.tif"))) + 2 + 2 + 6 + 2
    for item in items:
        assert item.get_collection().id == item.collection_id
        for asset in item.assets.values():
            assert not asset.href.startswith("/")
            assert Path(asset.get_absolute_href()).stat().st_size > 0


def test_documents_have_fixed_times_and_no_foreign_addresses(archive):
    for path in archive.rglob("*.json"):
        text = path.read_text()
        document = json.loads(text)
        assert document.get("properties", {}).get("created", "2026-11-21T00:00:00Z") == "2026-11-21T00:00:00Z"
        assert str(archive) not in text
        assert document.get("license", "CC0-1.0") == "CC0-1.0"


def test_scenes_are_cloud_optimised(scenes):
    for item in scenes:
        for key in ("blue", "green", "red", "nir", "swir16", "scl"):
            with rasterio.open(item.assets[key].href) as image:
                assert image.block_shapes == [(256, 256)]
                assert image.compression.name == "deflate"
                assert image.nodata == 0
                assert image.crs.to_epsg() == 32630
                assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                if image.width > 256:
                    assert image.overviews(1) == [2]


def test_bands_have_the_names_of_the_real_ones(scenes):
    assert scenes.bands == ["blue", "green", "red", "nir", "swir16", "scl"]
    assert len(scenes) == 6
    assert scenes.body.name == "Earth"
    item = scenes.items[0]
    for name, key in (("B04", "red"), ("B08", "nir"), ("B11", "swir16"), ("SCL", "scl")):
        assert item.band(name)[0].path == item.assets[key].href


def test_values_come_out_as_reflectance(scenes):
    item = scenes.items[0]
    stored = read(item, "red")
    values = scenes["red"].compute(item.id).values[0]
    assert np.array_equal(np.isnan(values), stored == 0)
    seen = stored > 0
    assert np.allclose(values[seen], stored[seen] * 1e-4)


def test_the_vegetation_index_is_that_of_a_landscape(scenes):
    ndvi = scenes["red", "nir"].map(lambda red, nir: (nir - red) / (nir + red))
    values = np.concatenate([ndvi.compute(item.id).values.ravel() for item in scenes])
    low, high = np.nanpercentile(values, [0.5, 99.5])
    assert -0.4 < low < -0.1
    assert 0.75 < high < 0.9


def test_the_classification_tells_what_is_there(scenes):
    classes, red, nir = [], [], []
    for item in scenes:
        scl = read(item, "scl")
        classes.append(scl.ravel())
        red.append(read(item, "red")[::2, ::2].ravel() / 1e4)
        nir.append(read(item, "nir")[::2, ::2].ravel() / 1e4)
    classes, red, nir = (np.concatenate(part) for part in (classes, red, nir))
    assert set(np.unique(classes)) <= {0, 3, 4, 5, 6, 7, 8, 9, 10}
    assert {0, 3, 4, 5, 6, 9} <= set(np.unique(classes))
    assert red[classes == 9].mean() > 0.4
    assert red[classes == 3].mean() < 0.7 * red[(classes == 4) | (classes == 5)].mean()
    assert nir[classes == 6].mean() < 0.05
    assert np.array_equal(classes == 0, red == 0)


def test_fields_change_with_the_season(scenes):
    before, after = (read(scene(scenes, "M", date), "red").astype(float) for date in ("20260418", "20260816"))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.8


def test_neighbouring_tiles_agree_where_they_overlap(scenes):
    west, middle = (scene(scenes, tile, "20260418") for tile in ("W", "M"))
    assert np.array_equal(read(west, "nir")[:, -64:], read(middle, "nir")[:, :64])
    with rasterio.open(west.assets["nir"].href) as a, rasterio.open(middle.assets["nir"].href) as b:
        assert a.bounds.right - b.bounds.left == 640


def test_the_swath_ends_within_a_scene(scenes):
    item = scene(scenes, "W", "20260816")
    stored = read(item, "blue")
    assert 0.05 < (stored == 0).mean() < 0.6
    assert (stored[:, -1] > 0).all()
    assert item.properties["s2:nodata_pixel_percentage"] == pytest.approx(
        100 * (read(item, "scl") == 0).mean(), abs=0.01
    )
    # The outline is that of the pixels with data, not of the whole tile.
    document = json.loads(item.path.read_text())
    whole = json.loads(scene(scenes, "W", "20260418").path.read_text())
    assert document["bbox"][0] > whole["bbox"][0]


def test_times_pick_scenes(archive):
    april = cupola.open(archive / "sentinel-2-l2a", datetime="2026-04")
    assert len(april) == 3
    assert all(item.datetime == datetime(2026, 4, 18, 11, 6, 21, tzinfo=UTC) for item in april)


def test_rio_tiler_reads_a_tile(scenes):
    item = scene(scenes, "M", "20260418")
    with Reader(item.assets["red"].href) as reader:
        west, south, east, north = reader.get_geographic_bounds(reader.tms.rasterio_geographic_crs)
        part = reader.point((west + east) / 2, (south + north) / 2)
        assert 0 < int(part.data[0]) < 16_000


def test_the_terrain_model_is_an_isis_cube(archive):
    mars = cupola.open(archive / "mars-crater")
    assert (len(mars), mars.body.name, mars.bands) == (2, "Mars", ["dtm", "image"])
    with rasterio.open(mars.item("mars-crater-east").assets["dtm"].href) as cube:
        assert (cube.driver, cube.dtypes, cube.scales, cube.offsets) == (
            "ISIS3",
            ("int16",),
            (0.25,),
            (-2000.0,),
        )
        assert cube.crs.to_dict()["R"] == 3396190
        assert cube.transform.a == 200
        stored = cube.read(1)
    assert 0 < (stored == -32768).mean() < 0.1
    heights = mars["dtm"].compute("mars-crater-east").values[0]
    assert np.array_equal(np.isnan(heights), stored == -32768)
    assert -9000 < np.nanmin(heights) < np.nanmax(heights) < 3000


def test_the_sheets_join_without_a_seam(archive):
    mars = cupola.open(archive / "mars-crater")
    west, east = (mars["dtm"].compute(f"mars-crater-{sheet}").values[0] for sheet in ("west", "east"))
    across = np.abs(east[:, 0] - west[:, -1])
    within = np.abs(west[:, -1] - west[:, -2])
    assert np.nanmedian(across) < 3 * np.nanmedian(within) + 1
    boxes = [mars.item(f"mars-crater-{sheet}").bbox for sheet in ("west", "east")]
    assert boxes[0][2] == pytest.approx(boxes[1][0], abs=1e-6)


def test_the_image_is_a_pds4_product_lit_from_the_north_west(archive):
    mars = cupola.open(archive / "mars-crater")
    label = mars.item("mars-crater-west").assets["image"].href
    assert "${" not in Path(label).read_text()
    with rasterio.open(label) as image:
        assert (image.driver, image.dtypes, image.nodata) == ("PDS4", ("uint8",), 0)
        shown = image.read(1).astype(float)
    assert shown.min() > 0
    height = mars["dtm"].compute("mars-crater-west").values[0]
    down, across = np.gradient(height)
    # Light from the north-west falls on slopes that go down to the north-west.
    facing = across + down
    good = np.isfinite(facing)
    assert np.corrcoef(facing[good], shown[good])[0, 1] > 0.7


def test_the_terrain_is_that_of_the_scenes(archive):
    dem = cupola.open(archive / "coast-dem")
    assert dem.body.name == "Earth"
    heights = [dem["height"].compute(item.id) for item in dem]
    top = max(float(np.nanmax(values)) for values in heights)
    assert all(float(np.nanmin(values)) >= 0 for values in heights)
    with rasterio.open(dem.items[0].assets["height"].href) as tile:
        assert tile.crs.to_epsg() == 4326
        assert (tile.width, tile.height) == (360, 360)
    land = sentinel2.heights(288)[0]
    assert top == pytest.approx(float(land.max()), rel=0.15)
    west, south, east, north = dem.bbox
    scenes = cupola.open(archive / "sentinel-2-l2a").bbox
    assert west <= scenes[0] + 1e-3
    assert south <= scenes[1] + 1e-3
    assert east >= scenes[2] - 1e-3
    assert north >= scenes[3] - 1e-3


def test_the_moons_sheets_meet_at_the_pole(archive):
    moon = cupola.open(archive / "moon-south-pole")
    assert (len(moon), moon.body.name, moon.bands) == (2, "Moon", ["radius", "image"])
    west, east = (moon.item(f"moon-south-pole-{sheet}") for sheet in ("west", "east"))
    assert (west.bbox[0], west.bbox[2], east.bbox[0], east.bbox[2]) == (-180, 0, 0, 180)
    assert west.bbox[1] == east.bbox[1] == -90
    values = [moon["radius"].compute(item.id).values[0] for item in (west, east)]
    across = np.abs(values[1][:, 0] - values[0][:, -1])
    within = np.abs(values[0][:, -1] - values[0][:, -2])
    assert np.nanmedian(across) < 3 * np.nanmedian(within) + 1
    assert 1_730_000 < np.nanmin(values) < 1_737_400 < np.nanmax(values) < 1_745_000
    box = moon.bbox
    assert box[1] == -90
    assert box[3] < -80


def test_there_is_less_nitrogen_dioxide_in_the_second_year(archive):
    means = {}
    for path in sorted((archive / "sentinel-5p").glob("*/*.nc")):
        with xarray.open_dataset(path, group="PRODUCT", engine="h5netcdf") as product:
            good = product["nitrogendioxide_tropospheric_column"].where(product["qa_value"] > 0.75)[0].values
            latitude, longitude = product["latitude"][0].values, product["longitude"][0].values
            near = np.zeros(good.shape, bool)
            for _, lon, lat, *_ in sentinel5p.CITIES:
                near |= np.hypot((longitude - lon) * np.cos(np.radians(lat)), latitude - lat) < 0.4
            means.setdefault(str(product["time"].values[0])[:4], []).append(float(np.nanmean(good[near])))
    assert {year: len(found) for year, found in means.items()} == {"2025": 3, "2026": 3}
    assert np.mean(means["2026"]) < 0.85 * np.mean(means["2025"])


REAL_GROUPS = [
    "METADATA/ALGORITHM_SETTINGS",
    "METADATA/EOP_METADATA",
    "METADATA/ESA_METADATA",
    "METADATA/GRANULE_DESCRIPTION",
    "METADATA/ISO_METADATA",
    "METADATA/QA_STATISTICS",
    "PRODUCT/SUPPORT_DATA/DETAILED_RESULTS",
    "PRODUCT/SUPPORT_DATA/GEOLOCATIONS",
    "PRODUCT/SUPPORT_DATA/INPUT_DATA",
]


def test_the_swath_has_the_groups_of_the_real_one(archive):
    path = max((archive / "sentinel-5p").glob("*/*.nc"))
    with h5netcdf.File(path, "r") as file:
        for group in REAL_GROUPS:
            assert group in file
        assert set(file["PRODUCT"].dimensions) == {"scanline", "ground_pixel", "corner", "time"}
        assert file.attrs["source"].startswith("Made-up")


def test_the_swath_is_curvilinear_and_has_plumes_over_its_cities(archive):
    path = max((archive / "sentinel-5p").glob("*/*.nc"))
    with xarray.open_dataset(path, group="PRODUCT", engine="h5netcdf") as product:
        column = product["nitrogendioxide_tropospheric_column"]
        assert column.dims == ("time", "scanline", "ground_pixel")
        assert column.attrs["units"] == "mol m-2"
        assert str(product["time"].values[0])[:10] == "2026-04-18"
        good = column.where(product["qa_value"] > 0.75)[0].values
        latitude, longitude = product["latitude"][0].values, product["longitude"][0].values
        assert float(product["qa_value"].max()) == pytest.approx(1.0)
    assert (np.diff(latitude, axis=0) > 0).all()
    assert np.ptp(longitude[:, 0]) > 5
    assert np.isnan(good).mean() > 0.05
    background = np.nanmedian(good)
    plumes = []
    for _, lon, lat, *_ in sentinel5p.CITIES:
        near = np.hypot((longitude - lon) * np.cos(np.radians(lat)), latitude - lat) < 0.6
        if near.any() and np.isfinite(good[near]).any():
            plumes.append(np.nanmax(good[near]))
    assert len(plumes) >= 5
    assert np.median(plumes) > 3 * background


def test_the_corners_of_the_swaths_pixels_surround_their_centres(archive):
    path = max((archive / "sentinel-5p").glob("*/*.nc"))
    with (
        xarray.open_dataset(path, group="PRODUCT", engine="h5netcdf") as product,
        xarray.open_dataset(path, group="PRODUCT/SUPPORT_DATA/GEOLOCATIONS", engine="h5netcdf") as places,
    ):
        for name in ("latitude", "longitude"):
            corners, centres = places[f"{name}_bounds"][0].values, product[name][0].values
            assert (corners.min(axis=-1) < centres).all()
            assert (corners.max(axis=-1) > centres).all()


def test_gdal_finds_the_swaths_coordinates(archive):
    path = max((archive / "sentinel-5p").glob("*/*.nc"))
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(f"netcdf:{path}:/PRODUCT/nitrogendioxide_tropospheric_column") as image,
    ):
        assert image.tags(ns="GEOLOCATION")["X_DATASET"].endswith(":/PRODUCT/longitude")


def test_both_frames_see_the_same_sky(archive):
    frames = []
    for path in sorted((archive / "sky-mosaic").glob("*/*.fits")):
        with fits.open(path) as file:
            frames.append((WCS(file[0].header), np.array(file[0].data)))
    first, second = frames
    assert first[0].wcs.ctype[0] == "RA---TAN"
    rows, columns = np.mgrid[10:150:5, 10:150:5]
    x, y = second[0].world_to_pixel(first[0].pixel_to_world(columns, rows))
    inside = (x > 1) & (x < 158) & (y > 1) & (y < 158)
    assert 0.1 < inside.mean() < 0.9
    # The galaxy is smooth enough to be compared between two grids of pixels, stars are not.
    a = np.arcsinh(first[1][rows[inside], columns[inside]])
    b = np.arcsinh(second[1][np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)])
    assert np.corrcoef(a, b)[0, 1] > 0.7


def test_examples_are_clean_notebooks_and_the_readme_says_what_it_is(archive):
    found = sorted(path.stem for path in (archive / "examples").iterdir())
    assert found == sorted(about.id for about in COLLECTIONS)
    for path in (archive / "examples").iterdir():
        document = nbformat.read(path, 4)
        nbformat.validate(document)
        for cell in document.cells:
            if cell.cell_type == "code":
                compile(cell.source, path.name, "exec")
                assert cell.outputs == []
    readme = (archive / "README.md").read_text()
    assert "made up" in readme
    assert "CC0" in readme
    assert all(f"`{about.id}`" in readme for about in COLLECTIONS)


def test_markdown_becomes_cells():
    cells = notebook("# Title\n\n```python\na = 1\n\nb = 2\n```\n\nWords\nand more.\n")["cells"]
    assert [(cell["cell_type"], cell["source"]) for cell in cells] == [
        ("markdown", "# Title"),
        ("code", "a = 1\n\nb = 2"),
        ("markdown", "Words\nand more."),
    ]

# ruff: noqa: ARG005 - the functions stand for people's own, which take all bands
from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cupola.exceptions import ImageError, InputError, LimitError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains.compute.whole import Whole, windows
from cupola.lab.chains.products.packing import Packing
from cupola.lab.chains.runs.fullres import write_product


def ndvi(red, nir):
    return (nir - red) / (nir + red)


def pixels(path, index=1):
    with rasterio.open(path) as dataset:
        return dataset.read(index)


def stored(path, **options):
    """Return a file's physical values, computed without Cupola."""
    with rasterio.open(path) as dataset:
        raw = dataset.read(options.get("index", 1))
        bad = np.isin(raw, dataset.nodata) if dataset.nodata is not None else np.zeros(raw.shape, bool)
        if raw.dtype == np.float32:
            bad |= raw < -3.4e38
        values = raw * np.float64(dataset.scales[0]) + dataset.offsets[0]
    return np.where(bad, np.nan, values)


def test_real_index_pixel_by_pixel(data, tmp_path):
    s2 = collections.open(data / "s2")
    path = write_product(s2["B04", "B08"].map(ndvi), "S2A_29RKH_20200219_0_L2A", tmp_path)
    red, nir = (pixels(data / "s2" / f"{name}.tif").astype("float64") for name in ("B04", "B08"))
    assert np.allclose(pixels(path), (nir - red) / (nir + red), atol=1e-6)
    with rasterio.open(path) as product, rasterio.open(data / "s2" / "B04.tif") as source:
        assert (product.crs, product.transform, product.shape) == (source.crs, source.transform, source.shape)
        assert product.dtypes == ("float32",)
        assert np.isnan(product.nodata)


def test_real_packed_index_is_a_cloud_optimised_file(data, tmp_path):
    s2 = collections.open(data / "s2")
    path = write_product(s2["red", "nir"].map(ndvi), s2.items[0], tmp_path, dtype="int16", scale=1e-4)
    red, nir = (pixels(data / "s2" / f"{name}.tif").astype("float64") for name in ("B04", "B08"))
    assert np.abs(pixels(path) * 1e-4 - (nir - red) / (nir + red)).max() < 0.51e-4
    with rasterio.open(path) as product:
        assert product.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert product.tags(ns="IMAGE_STRUCTURE")["COMPRESSION"] == "DEFLATE"
        assert (product.block_shapes, product.overviews(1)) == ([(256, 256)], [2, 4, 8])
        assert (product.nodata, product.scales) == (-32768, (1e-4,))


def test_real_bands_of_two_resolutions(data, tmp_path):
    s2 = collections.open(data / "s2")
    path = write_product(s2["B11", "B04"].map(lambda b11, b04: (b11, b04)), s2.items[0], tmp_path)
    coarse = np.kron(pixels(data / "s2" / "B11.tif"), np.ones((2, 2)))
    assert np.allclose(pixels(path, 1), coarse * 1e-4, rtol=1e-6)
    assert np.allclose(pixels(path, 2), pixels(data / "s2" / "B04.tif") * 1e-4, rtol=1e-6)


@pytest.mark.parametrize(
    "file",
    [
        "isis3/ulcn2005_lpo_downsampled.cub",
        "isis3/vest64_dtm_specialpixels_downsampled.cub",
        "pds4/CAS-MCO-2016-11-26T22.50.30.181-RED-01012-B1_proj_rdrgen.xml",
        "pds3/V00821003RDR_cropped.QUB",
        "jp2/B07.jp2",
    ],
)
def test_real_files_of_all_kinds(data, tmp_path, file):
    # All others are in test_formats_files.py; these are compared with what rasterio alone reads.
    image = collections.open(data / file)
    path = write_product(
        image["b1"] * 2 if "b1" in image.bands else image[image.bands[0]] * 2, image.items[0], tmp_path
    )
    assert np.allclose(pixels(path), stored(data / file) * 2, rtol=1e-5, equal_nan=True)
    with rasterio.open(path) as product, rasterio.open(data / file) as source:
        assert product.transform.almost_equals(source.transform)
        assert bool(product.crs) == bool(source.crs)
    products = collections.open(tmp_path)
    assert products.items[0].body == image.body
    again = products["data"].compute().values[0]
    assert np.allclose(again, stored(data / file) * 2, rtol=1e-5, equal_nan=True)


def test_real_planet_product_says_which_body(data, tmp_path):
    image = collections.open(data / "isis3" / "vest64_dtm_specialpixels_downsampled.cub")
    document = json.loads(
        write_product(image["b1"], image.items[0], tmp_path).with_suffix(".json").read_text()
    )
    assert document["properties"]["ssys:targets"] == ["Vesta"]
    assert document["properties"]["proj:code"] is None
    assert "Vesta" in document["properties"]["proj:wkt2"]


def test_empty_band_makes_an_empty_product(data, tmp_path):
    image = collections.open(data / "isis3" / "ESP_042252_1930_3-BAND_COLOR_2m_o_cropped.cub")
    assert np.isnan(pixels(write_product(image["b1"], image.items[0], tmp_path))).all()


def test_across_the_antimeridian_the_geometry_is_cut(data, tmp_path):
    with rasterio.open(data / "cog" / "cog_dateline.tif") as whole:
        # The same place with coarser pixels: the outline is what counts.
        few, place = whole.read(out_shape=(1, 94, 93)), whole.transform * Affine.scale(25, 25)
        with rasterio.open(
            tmp_path / "dateline.tif", "w", driver="GTiff", count=1, dtype="uint16", width=93, height=94, crs=whole.crs,
            transform=place,
        ) as coarse:  # fmt: skip
            coarse.write(few)
    image = collections.open(tmp_path / "dateline.tif")
    document = json.loads(
        write_product(image["b1"], image.items[0], tmp_path / "out").with_suffix(".json").read_text()
    )
    assert document["bbox"][0] > document["bbox"][2]
    assert document["geometry"]["type"] == "MultiPolygon"


def test_item_says_how_the_product_was_made(data, tmp_path, monkeypatch):
    monkeypatch.setenv("CUPOLA_VERSION", "sha256:" + "1" * 64)
    monkeypatch.setenv("CUPOLA_ENGINE", "htcondor")
    s2 = collections.open(data / "s2")
    chain = s2["B04", "B08"].map(ndvi)
    path = write_product(
        chain, s2.items[0], tmp_path, provenance={"job": "NDVI February", "by": "ada", "cpus": 1}
    )
    item = pystac.Item.from_file(str(path.with_suffix(".json")))
    said = item.properties
    assert item.id == path.stem == "S2A_29RKH_20200219_0_L2A"
    assert (said["title"], said["cupola:by"], said["cupola:parameters"]) == (
        "NDVI February",
        "ada",
        {"cpus": 1, "engine": "htcondor"},
    )
    assert item.datetime == s2.items[0].datetime
    assert (
        json.dumps(said["processing:expression"]["expression"], sort_keys=True, separators=(",", ":"))
        == chain.to_json()
    )
    assert said["cupola:chain"] == chain.hash
    assert said["cupola:functions"][0]["source"].startswith("def ndvi(red, nir):")
    assert said["cupola:version"] == "sha256:" + "1" * 64
    assert {"gdal", "numpy", "python", "rasterio"} <= set(said["processing:software"])
    assert said["proj:code"] == "EPSG:32629"
    files = said["cupola:inputs"][0]["files"]
    assert [file["href"] for file in files] == [str(data / "s2" / f"{name}.tif") for name in ("B04", "B08")]
    asset = item.assets["data"].to_dict()
    for href, entry in [*((file["href"], file) for file in files), (str(path), asset)]:
        content = Path(href).read_bytes()
        assert entry["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
        assert entry["file:size"] == len(content)
    folder = collections.open(tmp_path)
    assert (folder.title, len(folder), folder.bbox) == ("NDVI February", 1, tuple(item.bbox))
    assert pystac.Collection.from_file(str(tmp_path / "collection.json")).extent.spatial.bboxes


def test_detached_data_file_is_an_input_too(data, tmp_path):
    image = collections.open(data / "isis3" / "isis3_detached.lbl")
    document = json.loads(
        write_product(image["b1"], image.items[0], tmp_path).with_suffix(".json").read_text()
    )
    files = document["properties"]["cupola:inputs"][0]["files"]
    assert {Path(file["href"]).name for file in files} == {"isis3_detached.lbl", "isis3_detached.cub"}


def reach(band, halo):
    """Look at all pixels within `halo`, NaN and the image's true edge included."""
    return ndimage.maximum_filter(np.nan_to_num(band, nan=-1.0), 2 * halo + 1, mode="nearest")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 130),
    height=st.integers(1, 130),
    block=st.sampled_from([16, 32, 64, None]),
    size=st.sampled_from([16, 48, 64]),
    halos=st.lists(st.integers(0, 5), min_size=1, max_size=3),
)
def test_windows_with_halo_equal_the_whole_array(  # noqa: PLR0913, PLR0917 - what is drawn at random
    tmp_path, write_image, width, height, block, size, halos
):
    random = np.random.default_rng(width * 1000 + height)
    array = random.integers(0, 50, (height, width)).astype("uint16")
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block} if block else {"blockysize": 1}
    path = write_image(tmp_path / f"{width}-{height}-{block}.tif", array, nodata=0, **tiles)
    image = collections.open(path)
    chain, expected = image["b1"], np.where(array == 0, np.nan, array).astype("float32")
    for halo in halos:
        chain = chain.map(lambda band, halo=halo: reach(band, halo), halo=halo)
        expected = reach(expected, halo)
    found = np.full(array.shape, np.nan, "float32")
    seen = np.zeros(array.shape, int)
    with Whole(chain, image.items[0]) as whole:
        for window in windows(whole.grid, size):
            found[window.toslices()] = whole.compute(whole.read(window))[0]
            seen[window.toslices()] += 1
    assert (seen == 1).all()
    assert np.array_equal(found, expected)


def test_more_than_one_window_per_product(tmp_path, write_image, monkeypatch):
    monkeypatch.setattr("cupola.lab.chains.runs.fullres._WINDOWS", (256,))
    random = np.random.default_rng(5)
    array = random.integers(1, 9000, (330, 630)).astype("uint16")
    path = write_image(
        tmp_path / "big.tif", array, tiled=True, blockxsize=128, blockysize=128, compress="deflate"
    )
    image = collections.open(path)
    chain = image["b1"].map(lambda band: ndimage.maximum_filter(band, 7), halo=3)
    product = write_product(chain, image.items[0], tmp_path / "out", dtype="uint16")
    assert np.array_equal(pixels(product), ndimage.maximum_filter(array, 7))


@pytest.mark.parametrize("shape", [(300, 5000), (5000, 300), (1, 1), (1, 3000), (3000, 1)])
def test_windows_of_strips_are_whole_rows_of_bounded_size(tmp_path, write_image, shape):
    path = write_image(tmp_path / "strips.tif", np.ones(shape, "uint8"), blockysize=1)
    with Whole(collections.open(path)["b1"], collections.open(path).items[0]) as whole:
        found = list(windows(whole.grid, 256))
    assert sum(window.width * window.height for window in found) == shape[0] * shape[1]
    assert max(window.width * window.height for window in found) <= 4 * 256 * 256


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "int64"}, "dtype is one of"),
        ({"dtype": "int16", "scale": 0}, "positive"),
        ({"dtype": "float32", "scale": 0.1}, "for integers"),
        ({"dtype": "uint8", "nodata": 300}, "can hold"),
        ({"dtype": "int16", "nodata": 0.5}, "can hold"),
    ],
)
def test_wrong_packing_is_told(options, words):
    with pytest.raises(InputError, match=words):
        Packing.of(**{"scale": None, "nodata": None, **options})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5, width=32) | st.just(float("nan")), min_size=1),
    st.sampled_from(["int16", "int32"]),
)
def test_packed_values_come_back(values, dtype):
    packing = Packing.of(dtype, 1e-3, None)
    array = np.array([[values]], "float32")
    packed = packing.pack(array)
    missing = packed == packing.nodata
    assert np.array_equal(missing, np.isnan(array))
    assert np.allclose(packed[~missing] * packing.scale, array[~missing], atol=0.51e-3)


def test_values_beyond_the_range_become_the_limit_and_never_nodata():
    array = np.array([[[-1e9, 1e9, np.inf, -np.inf, -3.2768, np.nan]]], "float32")
    assert Packing.of("int16", 1e-4, None).pack(array).ravel().tolist() == [
        -32767,
        32767,
        32767,
        -32767,
        -32767,
        -32768,
    ]
    assert Packing.of("uint8", None, 255).pack(array).ravel().tolist() == [0, 254, 254, 0, 0, 255]
    assert Packing.of("float32", None, -1).pack(array).ravel()[-1] == -1
    # Infinities are no values: statistics leave them out too.
    assert [Packing.of(dtype, 1.0, None).beyond(array) for dtype in ("int16", "int32", "float32")] == [
        2,
        0,
        0,
    ]


def test_values_that_the_type_cannot_hold_are_told(tmp_path, write_image):
    array = np.arange(1, 401, dtype="uint16").reshape(20, 20)
    image = collections.open(write_image(tmp_path / "in" / "image.tif", array))
    chain, item = image["b1"], image.items[0]
    with pytest.raises(
        InputError, match=r"^94% of the values do not fit uint8 with scale=0.1, which holds 0 to 25.4 "
    ):
        write_product(chain, item, tmp_path / "out", dtype="uint8", scale=0.1)
    assert not list((tmp_path / "out").glob("image*"))
    # Outliers may be cut off: the item says how many were.
    product = write_product(chain, item, tmp_path / "out", dtype="uint8")
    assert json.loads(product.with_suffix(".json").read_text())["properties"]["cupola:beyond"] == 400 - 254


def test_what_a_comparison_says_is_stored_as_it_is(tmp_path, write_image):
    image = collections.open(
        write_image(tmp_path / "in" / "image.tif", np.tile([[1, 9, 9]], (8, 3)).astype("uint8"))
    )
    product = write_product(image["b1"] < 5, image.items[0], tmp_path / "out", dtype="uint8")
    with rasterio.open(product) as dataset:
        assert np.array_equal(dataset.read(1), np.tile([[1, 0, 0]], (8, 3)))


def test_classes_keep_their_values_in_the_pyramid(tmp_path, write_image):
    array = np.tile(np.array([[1, 9], [9, 1]], "uint8"), (300, 300))
    image = collections.open(write_image(tmp_path / "classes.tif", array))
    product = write_product(image["b1"], image.items[0], tmp_path / "out", dtype="uint8", nodata=0)
    with rasterio.open(product, overview_level=0) as level:
        assert set(np.unique(level.read(1))) <= {1, 9}


@pytest.fixture
def small(tmp_path, write_image):
    return collections.open(write_image(tmp_path / "in" / "small.tif", np.ones((64, 64), "uint8")))


def test_wrong_function_leaves_nothing(small, tmp_path):
    folder = tmp_path / "out"
    for function in (lambda band: None, lambda band: 1 / 0):
        with pytest.raises((InputError, ZeroDivisionError)):
            write_product(small["b1"].map(function), small.items[0], folder)
    assert [path.name for path in folder.iterdir()] == ["collection.json"]


def test_the_functions_own_os_error_stays_its_own(small, tmp_path):
    def reads_a_file(band):
        return band * np.load(tmp_path / "weights.npy")

    with pytest.raises(FileNotFoundError, match="weights"):
        write_product(small["b1"].map(reads_a_file), small.items[0], tmp_path / "out")


def test_unknown_item_and_unwritable_folder(small, tmp_path):
    with pytest.raises(NotFoundError, match="no item 'smal'; did you mean small"):
        write_product(small["b1"], "smal", tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Nothing can be written to"):
        write_product(small["b1"], small.items[0], tmp_path / "file" / "out")


def test_name_is_made_safe(small, tmp_path):
    path = write_product(small["b1"], small.items[0], tmp_path / "out", name="../a b/ü.tif")
    assert path.parent == tmp_path / "out"
    assert path.name == "a-b-.tif.tif"


def test_damaged_input_is_named_and_leaves_nothing(tmp_path, write_image):
    path = write_image(
        tmp_path / "in2" / "x.tif", np.ones((600, 600), "uint16"), tiled=True, blockxsize=256, blockysize=256
    )
    image = collections.open(path)
    chain = image["b1"]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(ImageError, match=r"x\.tif .*damaged"):
        write_product(chain, image.items[0], tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["collection.json"]


def test_two_at_once_leave_one_whole_product(small, tmp_path):
    with ThreadPoolExecutor(4) as threads:
        paths = set(
            threads.map(lambda _: write_product(small["b1"], small.items[0], tmp_path / "out"), range(8))
        )
    assert len(paths) == 1
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["collection.json", "small.json", "small.tif"]
    assert (pixels(paths.pop()) == 1).all()


SLOW = """
import sys, time
from pathlib import Path
from cupola.lab import collections
from cupola.lab.chains.runs.fullres import write_product

def slow(band):
    Path(sys.argv[3]).touch()
    time.sleep(60)
    return band

image = collections.open(sys.argv[1])
write_product(image["b1"].map(slow), image.items[0], sys.argv[2])
"""


def test_killed_in_the_middle_leaves_no_half_product_and_is_swept(small, tmp_path):
    folder, started = tmp_path / "out", tmp_path / "started"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(small.source), str(folder), str(started)])
    try:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        # The file exists once the first window is written: make what a later kill would leave as well.
        (folder / f".small.{os.uname().nodename}.{process.pid}.0123abcd.part.plain.tif").write_bytes(b"half")
        alive = write_product(small["b1"], small.items[0], folder, name="other")
        assert len(list(folder.glob(".*.part*"))) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "small.tif").exists()
    assert len(collections.open(folder)) == 1
    write_product(small["b1"], small.items[0], folder)
    names = sorted(entry.name for entry in folder.iterdir())
    assert names == ["collection.json", "other.json", "other.tif", "small.json", "small.tif"]
    assert alive.exists()


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 12 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", place], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", place], check=True)


def test_full_disk_is_told_before_and_leaves_nothing(tiny_disk, tmp_path, write_image):
    image = collections.open(write_image(tmp_path / "in" / "x.tif", np.ones((1200, 1200), "uint8")))
    with pytest.raises(LimitError, match="MB left and this product needs 6 MB"):
        write_product(image["b1"], image.items[0], tiny_disk / "out")
    assert [entry.name for entry in (tiny_disk / "out").iterdir()] == ["collection.json"]


def test_disk_that_fills_up_meanwhile_is_told_and_leaves_nothing(tiny_disk, tmp_path, write_image):
    random = np.random.default_rng(3)
    array = random.integers(1, 65535, (1100, 1100)).astype("uint16")
    image = collections.open(write_image(tmp_path / "in" / "x.tif", array))
    filler = tiny_disk / "filler"
    calls = tmp_path / "calls"

    def fills_the_disk_at_the_second_window(band):
        with calls.open("a") as file:
            file.write("x")
        if calls.stat().st_size == 2:
            filler.write_bytes(bytes(10_800_000))
        return band

    # What GDAL holds in its cache goes to the disk when the file is closed: GDAL only logs that it could not.
    with pytest.raises(LimitError, match="is full"):
        write_product(
            image["b1"].map(fills_the_disk_at_the_second_window),
            image.items[0],
            tiny_disk / "out",
            dtype="uint16",
        )
    assert [entry.name for entry in (tiny_disk / "out").iterdir()] == ["collection.json"]
    filler.unlink()
    product = write_product(image["b1"], image.items[0], tiny_disk / "out", dtype="uint16", nodata=0)
    assert np.array_equal(pixels(product), array)

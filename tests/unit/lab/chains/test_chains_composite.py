from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from rasterio.merge import merge

from cupola.exceptions import BodyError, InputError, LimitError, NotFoundError
from cupola.lab import collections
from cupola.lab.chains.compute.planning import OutputGrid, box_around, pieces_with_items, plan
from cupola.lab.chains.runs import composite
from cupola.lab.chains.runs.composite import write_piece

SIZE = 300
BODY = "+proj=eqc +R=3396190 +units=m +no_defs"


@pytest.fixture
def scenes(tmp_path, write_image, write_item):
    """Three dates of one place on one grid; the last reaches further east. Zero is no data."""
    folder = tmp_path / "scenes"
    random = np.random.default_rng(7)
    for day, shift in ((1, 0), (2, 0), (3, 100)):
        array = random.integers(1, 1000, (SIZE, SIZE)).astype("uint16")
        array[:40, : 40 * day] = 0
        write_image(folder / f"d{day}.tif", array, nodata=0, origin=(500000 + shift * 10, 5000000))
        write_item(
            folder / f"d{day}.json",
            bbox=(8.9, 45.0, 9.1, 45.2),
            datetime=f"2020-02-0{day}T00:00:00Z",
            assets={"data": {"href": f"d{day}.tif", "type": "image/tiff"}},
        )
    return collections.open(folder)


def stack(scenes):
    """Return the three images on one array, without Cupola: (date, rows, columns), NaN where there is no data."""
    values = np.full((3, SIZE, SIZE + 100), np.nan)
    for number, shift in ((0, 0), (1, 0), (2, 100)):
        with rasterio.open(scenes.source / f"d{number + 1}.tif") as dataset:
            values[number, :, shift : shift + SIZE] = np.where(dataset.read(1) == 0, np.nan, dataset.read(1))
    return values


def write_all(chain, folder, *, keep=False, **asked):
    grid = plan(chain, **asked)
    boxes = [item.bbox for collection in chain.collections for item in collection]
    written = [
        write_piece(chain, grid, piece, folder, name="all", keep=keep)
        for piece in pieces_with_items(grid, boxes)
    ]
    return [path for path in written if path]


def together(paths):
    return merge([str(path) for path in paths], nodata=np.nan)[0]


def on_images(found, expected):
    """Compare with the part of a composite where the images lie; its box in degrees is a little larger."""
    assert np.allclose(found, expected, equal_nan=True, rtol=1e-6)


@pytest.mark.parametrize(
    ("reduce", "numpy"),
    [
        ("mean", lambda values: np.nanmean(values, axis=0)),
        ("median", lambda values: np.nanmedian(values, axis=0)),
        (
            "mosaic",
            lambda values: np.where(
                np.isnan(values[2]), np.where(np.isnan(values[1]), values[0], values[1]), values[2]
            ),
        ),
    ],
)
def test_composite_on_the_images_own_grid_equals_numpy(scenes, tmp_path, reduce, numpy):
    chain = getattr(scenes["data"], reduce)()
    (path,) = write_all(chain, tmp_path / "out")
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if reduce != "mosaic" else np.errstate():
        expected = numpy(stack(scenes))
    with rasterio.open(path) as product, rasterio.open(scenes.source / "d1.tif") as first:
        assert (product.crs, product.transform) == (first.crs, first.transform)
        on_images(product.read(1), expected)
    document = json.loads(path.with_suffix(".json").read_text())
    said = document["properties"]
    assert {one["item"] for one in said["cupola:inputs"]} == {"d1", "d2", "d3"}
    assert (said["datetime"], said["start_datetime"][:10], said["end_datetime"][:10]) == (
        None,
        "2020-02-01",
        "2020-02-03",
    )
    assert len([link for link in document["links"] if link["rel"] == "derived_from"]) == 3
    assert len(collections.open(tmp_path / "out")) == 1


def test_pieces_make_the_same_as_one_file(scenes, tmp_path):
    chain = scenes["data"].mean()
    (whole,) = write_all(chain, tmp_path / "one")
    pieces = write_all(chain, tmp_path / "pieces", piece=256)
    assert sorted(path.stem for path in pieces) == ["all-r0-c0", "all-r0-c1", "all-r1-c0", "all-r1-c1"]
    assert np.array_equal(together(pieces), together([whole]), equal_nan=True)
    assert len(collections.open(tmp_path / "pieces")) == 4


def test_a_neighbourhood_does_not_show_the_pieces(scenes, tmp_path):
    def blurred(band):
        padded = np.pad(band, 2, mode="edge")
        return sum(padded[y : y + band.shape[0], x : x + band.shape[1]] for y in range(5) for x in range(5))

    chain = scenes["data"].map(blurred, halo=2)
    whole = write_all(chain, tmp_path / "one", bbox=(9.001, 45.13, 9.04, 45.15))
    pieces = write_all(chain, tmp_path / "pieces", piece=256, bbox=(9.001, 45.13, 9.04, 45.15))
    assert np.array_equal(together(pieces), together(whole), equal_nan=True)


def test_places_without_images_make_no_pieces(tmp_path, write_image):
    for name, x in (("west", 300000), ("east", 500000)):
        write_image(tmp_path / "far" / f"{name}.tif", np.ones((50, 50), "uint8"), origin=(x, 5000000))
    chain = collections.open(tmp_path / "far")["b1"]
    grid = plan(chain, piece=256)
    assert grid.columns * grid.rows > 70
    paths = write_all(chain, tmp_path / "out", piece=256)
    assert [path.stem for path in paths] == ["all-r0-c00", "all-r0-c78"]


def test_a_piece_without_a_value_is_not_written(tmp_path, write_image):
    write_image(tmp_path / "in" / "none.tif", np.zeros((50, 50), "uint8"), nodata=0)
    chain = collections.open(tmp_path / "in")["b1"]
    assert write_all(chain, tmp_path / "out") == []
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["collection.json"]


@pytest.mark.parametrize("reduce", ["median", "mosaic"])
def test_several_bands_over_more_than_the_images_cover(tmp_path, write_image, monkeypatch, reduce):
    monkeypatch.setattr(composite, "_WINDOWS", (64,))  # the first of them lies where there is no image
    array = np.random.default_rng(3).integers(1, 1000, (2, 60, 60)).astype("uint16")
    write_image(tmp_path / "in" / "image.tif", array, nodata=0, origin=(500000, 5000000))
    chain = getattr(collections.open(tmp_path / "in")["b1", "b2"], reduce)()
    (path,) = write_all(chain, tmp_path / "out", bbox=(8.99, 45.14, 9.02, 45.16))
    with rasterio.open(path) as made:
        values = made.read()
        row, column = made.index(500005, 4999995)
    assert values.shape[0] == 2
    assert np.isfinite(values).sum() == array.size
    assert np.array_equal(values[:, row : row + 60, column : column + 60], array)


def boxed(*boxes):
    return box_around(boxes)


def code(grid):
    return ":".join(rasterio.crs.CRS.from_wkt(grid.wkt).to_authority() or ())


def test_the_grid_is_chosen_from_the_data(tmp_path, write_image):
    def grid(name, *places, **asked):
        for number, (crs, origin, pixel) in enumerate(places):
            write_image(
                tmp_path / name / f"{number}.tif",
                np.ones((9, 9), "uint8"),
                crs=crs,
                origin=origin,
                pixel=pixel,
            )
        return plan(collections.open(tmp_path / name)["b1"], **asked)

    one = grid("one", ("EPSG:32632", (500000, 5000000), 10))
    assert (code(one), one.step_x, one.left, one.top, one.width) == ("EPSG:32632", 10, 500000, 5000000, 9)
    coarse = grid("one", resolution=40)
    assert (coarse.step_x, coarse.left % 40, coarse.top % 40) == (40, 0, 0)
    two = grid("two", ("EPSG:32632", (500000, 5000000), 10), ("EPSG:32633", (500000, 5000000), 20))
    assert (code(two), two.step_x) == ("EPSG:4087", 10)
    assert code(grid("two", grid="EPSG:3035")) == "EPSG:3035"
    wide = grid("wide", ("EPSG:32632", (100000, 5000000), 10), ("EPSG:32632", (1900000, 5000000), 10))
    assert code(wide) == "EPSG:4087"
    south = grid("south", ("EPSG:32733", (500000, 1500000), 10), ("EPSG:32734", (500000, 1500000), 10))
    assert code(south) == "EPSG:3031"
    mars = grid("mars", (BODY, (0, 0), 100), (f"{BODY} +lon_0=90", (0, 0), 200))
    assert (mars.step_x, rasterio.crs.CRS.from_wkt(mars.wkt).is_projected) == (100, True)
    assert grid("mars", grid="Mars2015eqc") == mars
    crossing = grid(
        "crossing", ("EPSG:32660", (690000, 5000000), 1000), ("EPSG:32601", (290000, 5000000), 1000)
    )
    assert crossing.width < 400
    assert boxed((170, 0, 175, 1), (-175, 0, -170, 2)) == (170, 0, -170, 2)
    assert boxed((0, 0, 10, 1), (5, 0, 20, 1), (300, 0, 310, 1)) == (-60, 0, 20, 1)
    assert boxed((-180, -90, 180, 90), (0, 0, 1, 1)) == (-180, -90, 180, 90)
    assert boxed((100, 0, -100, 1), (-120, 0, 110, 1)) == (-180, 0, 180, 1)
    assert boxed((150, 0, 180, 1)) == (150, 0, 180, 1)
    assert len(pieces_with_items(crossing, [(179.0, 45.0, -179.0, 45.2)])) == 1
    assert OutputGrid.from_json(json.loads(json.dumps(mars.to_json()))) == mars


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"grid": "EPSG:0"}, InputError, "no coordinate system: write one such as"),
        ({"grid": "Mars2015eqc"}, BodyError, "show Earth, which cannot be drawn on Mars2015eqc of Mars"),
        ({"grid": "Marz2015eqc"}, NotFoundError, "did you mean Mars"),
        ({"resolution": -1}, InputError, "positive number of metres"),
        ({"piece": 100}, InputError, "from 256 to 16384"),
        ({"bbox": (0, 10, 20, 0)}, InputError, "south below north"),
        ({"resolution": 0.001}, LimitError, "coarser resolution"),
    ],
)
def test_what_is_no_grid_is_told(scenes, asked, error, words):
    with pytest.raises(error, match=words):
        plan(scenes["data"], **asked)


def test_images_without_a_place_are_refused(tmp_path, write_image):
    chain = collections.open(write_image(tmp_path / "raw.tif", np.ones((9, 9), "uint8"), crs=None))["b1"]
    with pytest.raises(InputError, match=r"no coordinate system|do not say where"):
        plan(chain)


def test_a_hundred_thousand_items_are_sorted_into_pieces_at_once():
    random = np.random.default_rng(1)
    west, south = random.uniform(-170, 170, 100_000), random.uniform(-80, 80, 100_000)
    world = rasterio.crs.CRS.from_epsg(4087).to_wkt()
    grid = OutputGrid(world, -2e7, 9e6, 400, 400, 100_000, 45_000)
    boxes = [(w, s, w + 0.01, s + 0.01) for w, s in zip(west.tolist(), south.tolist(), strict=True)]
    found = pieces_with_items(grid, boxes)
    assert 0 < len(found) <= grid.columns * grid.rows == 25 * 11
    assert len(set(found)) == len(found)


SLOW = """
import sys, time
from pathlib import Path
from cupola.lab import collections
from cupola.lab.chains.runs import composite
from cupola.lab.chains.runs.composite import write_piece
from cupola.lab.chains.compute.planning import plan

first, second = map(Path, sys.argv[3:])

def slow(band):
    if first.exists():
        second.touch()
        time.sleep(60)
    return band

chain = collections.open(sys.argv[1])["data"].map(slow).mean()
grid = plan(chain, piece=256)
for column in range(grid.columns):
    write_piece(chain, grid, (column, 0), sys.argv[2], name="all", keep=True)
    first.touch()
"""


def test_a_killed_composite_goes_on_where_it_was(scenes, tmp_path):
    out, first, second = tmp_path / "out", tmp_path / "first", tmp_path / "second"
    command = [sys.executable, "-c", SLOW, *map(str, (scenes.source, out, first, second))]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 60
        while not second.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert second.exists()
    assert [path.name for path in sorted(out.glob("[!.]*"))] == [
        "all-r0-c0.json",
        "all-r0-c0.tif",
        "collection.json",
    ]
    kept = (out / "all-r0-c0.tif").stat()
    chain_of_the_run = json.loads((out / "all-r0-c0.json").read_text())["properties"]["processing:expression"]
    from cupola.lab.chains import Chain

    chain = Chain.from_json(json.dumps(chain_of_the_run["expression"]))
    first.unlink()
    grid = plan(chain, piece=256)
    paths = [
        write_piece(chain, grid, (column, 0), out, name="all", keep=True) for column in range(grid.columns)
    ]
    assert (out / "all-r0-c0.tif").stat().st_mtime_ns == kept.st_mtime_ns
    assert len(paths) == 2
    assert not list(out.glob(".*.part*"))


def test_what_is_whole_is_kept_until_an_input_or_the_chain_changes(scenes, tmp_path, write_image):
    out, chain = tmp_path / "out", scenes["data"].mean()
    (path,) = write_all(chain, out)

    def made_again(other=chain):
        before = path.stat().st_ino
        assert write_all(other, out, keep=True) == [path]
        return path.stat().st_ino != before

    assert not made_again()
    assert made_again(scenes["data"].median())
    assert made_again()
    with rasterio.open(scenes.source / "d1.tif") as dataset:
        values = dataset.read(1)
    write_image(scenes.source / "d1.tif", values + 1, nodata=0)
    assert made_again(scenes.refresh()["data"].mean())
    assert not made_again(scenes["data"].mean())
    path.write_bytes(path.read_bytes()[:-10])
    assert made_again(scenes["data"].mean())


def test_two_runs_at_once_into_one_folder(scenes, tmp_path):
    chain = scenes["data"].mean()
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: write_all(chain, tmp_path / "out", piece=256), range(3)))
    assert (
        len(list((tmp_path / "out").glob("*.tif"))) == len(list((tmp_path / "out").glob("all-*.json"))) == 4
    )
    assert not list((tmp_path / "out").glob(".*.part*"))
    for item in collections.open(tmp_path / "out"):
        size = json.loads(item.path.read_text())["assets"]["data"]["file:size"]
        assert item.path.with_suffix(".tif").stat().st_size == size


def test_composite_into_memory_is_the_same_as_on_disk(scenes, tmp_path):
    chain = scenes["data"].mean()
    (path,) = write_all(chain, tmp_path / "out")
    array = chain.compute()
    with rasterio.open(path) as product:
        assert np.array_equal(array.values, product.read(), equal_nan=True)
        assert tuple(product.transform)[:6] == array.attrs["transform"]
    with pytest.raises(InputError, match="one image of all items"):
        chain.compute("d1")

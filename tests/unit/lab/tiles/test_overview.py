"""Tiles made of an overview are those that the files give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from cupola.lab.chains.compute import evaluate
from cupola.lab.collections import open as open_collection
from cupola.lab.tiles import overview

if TYPE_CHECKING:
    from pathlib import Path

    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

pytestmark = pytest.mark.usefixtures("runtime")

GRID = "WebMercatorQuad"
FAR = (5, 16, 11)
"""A tile that shows all images of the mosaic."""


def write(folder: Path, number: int, left: float) -> None:
    random = np.random.default_rng(number)
    red = random.integers(100, 200, (256, 256), dtype=np.uint16)
    # The middle counts as cloud, and has nothing below it but the older image.
    cloud = np.zeros((256, 256), dtype=np.uint16)
    cloud[100:150, 100:150] = 9
    red[:, :30] = 0
    path = folder / f"scene-{number:02}.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=256, height=256, count=3, dtype="uint16", nodata=0, tiled=True,
        crs="EPSG:32632", transform=from_origin(left, 5_400_000, 400, 400), blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(red, 1)
        file.write(red + number, 2)
        file.write(cloud + 1, 3)
        for band, name in enumerate(("red", "nir", "scl"), 1):
            file.set_band_description(band, name)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.nearest)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images that overlap by half."""
    place = tmp_path / "mosaic"
    place.mkdir()
    for number in range(8):
        write(place, number, 300_000 + number * 51_200)
    return place


@pytest.fixture
def mosaic(folder: Path) -> Collection:
    return open_collection(folder)


def ndvi(mosaic: Collection) -> Chain:
    return mosaic["red", "nir"].map(lambda red, nir: (nir - red) / (nir + red))


def made(chain: Chain, revision: str = "1") -> evaluate.Pixels:
    pixels, wanted = overview.tile(chain, GRID, FAR, revision)
    assert pixels is not None
    assert wanted == 0
    return pixels


def direct(chain: Chain) -> evaluate.Pixels:
    return evaluate.tile(chain, GRID, FAR[1], FAR[2], FAR[0], max_items=100)


def same(one: evaluate.Pixels, other: evaluate.Pixels) -> None:
    assert np.array_equal(one.data, other.data, equal_nan=True)
    assert np.array_equal(one.valid, other.valid)
    assert set(one.items) == set(other.items)
    assert one.scale == pytest.approx(other.scale)
    assert one.exact == other.exact


def test_an_overview_gives_what_the_files_give(mosaic: Collection) -> None:
    chain = ndvi(mosaic)
    assert overview.tile(chain, GRID, FAR, "1") == (None, 8)
    assert overview.build(chain, GRID) > 3
    assert direct(chain).valid.any()
    same(made(chain), direct(chain))
    # Other formulas over the same bands need no other overview, whatever shows through their holes.
    same(made(mosaic["nir", "red"] * 2), direct(mosaic["nir", "red"] * 2))
    assert overview.build(ndvi(mosaic), GRID) == 0


def test_older_images_show_through_masks(mosaic: Collection) -> None:
    clear = mosaic["red"].mask(mosaic["scl"] < 5)
    overview.build(clear, GRID)
    masked = made(clear)
    same(masked, direct(clear))
    assert masked.valid.sum() > direct(mosaic["red"].mask(mosaic["scl"] > 5)).valid.sum()


@pytest.mark.parametrize("change", ["added", "removed", "rewritten"])
def test_only_what_is_new_is_read(
    mosaic: Collection, folder: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overview.build(ndvi(mosaic), GRID)
    if change == "removed":
        (folder / "scene-03.tif").unlink()
    else:
        write(folder, {"added": 8, "rewritten": 3}[change], 300_000 + 3 * 51_200 + 400)
    chain = ndvi(open_collection(folder))
    assert overview.tile(chain, GRID, FAR, "2")[0] is None
    where = overview._look(chain, GRID, FAR, ("nir", "red"))
    assert where is not None
    read: list[str] = []
    layers = overview._layers

    def counted(evaluation: Any, sampler: Any, item: Any, names: Any) -> Any:
        if sampler.grid == where.grid:
            read.append(item.id)
        return layers(evaluation, sampler, item, names)

    monkeypatch.setattr(overview, "_layers", counted)
    overview.build(chain, GRID)
    expected = {"added": {"scene-08"}, "removed": set(), "rewritten": {"scene-03"}}[change]
    assert set(read) == expected
    fresh, files = made(chain, "2"), direct(chain)
    assert np.array_equal(fresh.data, files.data, equal_nan=True)


def test_what_looks_at_more_than_a_pixel_goes_to_the_files(mosaic: Collection) -> None:
    for chain in (
        mosaic["red"].map(lambda band: band, halo=1),
        mosaic["red"].mean(),
        mosaic["red"].at(1000),
    ):
        assert overview.build(chain, GRID) == 0
        assert overview.tile(chain, GRID, FAR, "1") == (None, 0)


def test_near_tiles_go_to_the_files(mosaic: Collection) -> None:
    west, _, _, north = mosaic.items[0].bbox or (0, 0, 0, 0)
    import morecantile

    near = morecantile.tms.get(GRID).tile(west + 0.1, north - 0.1, 11)
    assert overview.tile(ndvi(mosaic), GRID, (near.z, near.x, near.y), "1") == (None, 0)


def test_a_broken_overview_is_made_again(mosaic: Collection) -> None:
    chain = ndvi(mosaic)
    overview.build(chain, GRID)
    for path in overview.folder().rglob("*.npz"):
        path.write_bytes(b"PK\x03\x04 cut off")
    overview._memory.clear()
    assert overview.tile(chain, GRID, FAR, "3") == (None, 8)
    assert overview.build(chain, GRID) > 3
    same(made(chain, "3"), direct(chain))


def test_overviews_are_bounded_and_a_full_disk_is_no_error(
    mosaic: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "MOST_BYTES", 1)
    overview.build(ndvi(mosaic), GRID)
    assert not list(overview.folder().rglob("*.npz"))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    overview.build(ndvi(mosaic), GRID)
    assert not list(overview.folder().rglob("*.npz"))

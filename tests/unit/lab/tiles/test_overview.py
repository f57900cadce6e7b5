"""Tiles made of an overview are those that the files give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from cupola.lab.chains.compute import evaluate
from cupola.lab.collections import open as open_collection
from cupola.lab.tiles import overview, reading, records

if TYPE_CHECKING:
    from cupola.lab.chains import Chain
    from cupola.lab.collections import Collection

pytestmark = pytest.mark.usefixtures("runtime")

GRID = "WebMercatorQuad"
FAR = (5, 16, 11)
"""A tile that shows all images of the mosaic."""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for all files, however busy the machine is."""
    monkeypatch.setattr(overview, "WAIT_SECONDS", 60.0)


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
    look = overview.tile(chain, GRID, FAR, revision)
    assert look.pixels is not None
    assert look[1:] == (0, 0, 0)
    return look.pixels


def overview_is_there(chain: Chain) -> bool:
    where = reading.locate(chain, GRID, FAR, ("nir", "red"))
    assert where is not None
    return reading.load(where, ("nir", "red"), "") is not None


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
    assert overview.build(chain, GRID).made > 3
    assert direct(chain).valid.any()
    same(made(chain), direct(chain))
    # Other formulas over the same bands need no other overview, whatever shows through their holes.
    same(made(mosaic["nir", "red"] * 2), direct(mosaic["nir", "red"] * 2))
    assert overview.build(ndvi(mosaic), GRID) == (0, False)


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
    where = reading.locate(chain, GRID, FAR, ("nir", "red"))
    assert where is not None
    read: list[str] = []
    layers = reading._layers

    def counted(evaluation: Any, sampler: Any, item: Any, names: Any) -> Any:
        if sampler.grid == where.grid:
            read.append(item.id)
        return layers(evaluation, sampler, item, names)

    monkeypatch.setattr(reading, "_layers", counted)
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
        assert overview.build(chain, GRID) == (0, False)
        assert overview.tile(chain, GRID, FAR, "1") == (None, 0, 0, 0)


def test_near_tiles_go_to_the_files(mosaic: Collection) -> None:
    west, _, _, north = mosaic.items[0].bbox or (0, 0, 0, 0)
    import morecantile

    near = morecantile.tms.get(GRID).tile(west + 0.1, north - 0.1, 11)
    assert overview.tile(ndvi(mosaic), GRID, (near.z, near.x, near.y), "1") == (None, 0, 0, 0)


def test_a_broken_overview_is_made_again(mosaic: Collection) -> None:
    chain = ndvi(mosaic)
    overview.build(chain, GRID)
    for path in records.folder().rglob("*.npz"):
        path.write_bytes(b"PK\x03\x04 cut off")
    records.forget()
    assert not overview_is_there(chain)
    assert overview.build(chain, GRID).made > 3
    same(made(chain, "3"), direct(chain))


def test_overviews_are_bounded_and_a_full_disk_is_no_error(
    mosaic: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MOST_BYTES", 1)
    overview.build(ndvi(mosaic), GRID)
    assert not list(records.folder().rglob("*.npz"))

    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    overview.build(ndvi(mosaic), GRID)
    assert not list(records.folder().rglob("*.npz"))


def small(  # noqa: PLR0913, PLR0917
    place: Path, number: int, value: int, left: float, top: float = 5_400_000, size: int = 8
) -> None:
    """Write an image of one value, of 8 x 8 pixels of 400 m."""
    with rasterio.open(
        place / f"s{number:04}.tif", "w", driver="GTiff", width=size, height=size, count=1, dtype="uint8", nodata=0,
        crs="EPSG:32632", transform=from_origin(left, top, 400, 400),
    ) as file:  # fmt: skip
        file.write(np.full((1, size, size), value, dtype=np.uint8))


@pytest.fixture
def field(tmp_path: Path) -> Collection:
    """Sixty small images beside one another, in six rows."""
    place = tmp_path / "field"
    place.mkdir()
    for number in range(60):
        small(place, number, number + 1, 300_000 + 3600 * (number % 10), 5_400_000 - 3600 * (number // 10))
    return open_collection(place)


def tile_of(collection: Collection, zoom: int) -> tuple[int, int, int]:
    """Return the tile in which most of a collection lies."""
    import morecantile

    west, south, east, north = collection.bbox or (0, 0, 0, 0)
    found = morecantile.tms.get(GRID).tile((west + east) / 2, (south + north) / 2, zoom)
    return found.z, found.x, found.y


def test_tiles_of_very_many_are_made_of_the_next_level(
    field: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LEAF", 20)
    monkeypatch.setattr(overview, "MOST_AHEAD", 0)
    chain, place = field["b1"], tile_of(field, 8)
    assert overview.tile(chain, GRID, place, "1") == (None, 60, 60, 0)
    read: list[str] = []
    layers = reading._layers

    def counted(evaluation: Any, sampler: Any, item: Any, names: Any) -> Any:
        read.append(item.id)
        return layers(evaluation, sampler, item, names)

    monkeypatch.setattr(reading, "_layers", counted)
    assert overview.build(chain, GRID).more is False
    # Those on an edge between tiles are read for both; never once for each level.
    assert len(set(read)) == 60
    assert len(read) <= 120
    look = overview.tile(chain, GRID, place, "1")
    assert look.pixels is not None
    assert look[1:] == (0, 0, 0)
    assert len(look.pixels.items) == 60
    # Every other pixel of the next level: values are those of images that lie there, and none is shifted by more.
    files = evaluate.tile(chain, GRID, place[1], place[2], place[0], max_items=100)
    both = look.pixels.valid & files.valid
    assert both.sum() > 0.6 * files.valid.sum()
    assert (look.pixels.data[0][both] == files.data[0][both]).mean() > 0.6
    assert look.pixels.scale == pytest.approx(files.scale, rel=0.05)


def test_an_overview_grows_round_by_round(field: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LEAF", 20)
    monkeypatch.setattr(overview, "MOST_AHEAD", 0)
    chain, place = field["b1"], tile_of(field, 8)
    clock = iter(range(10_000))
    monkeypatch.setattr(overview.time, "monotonic", lambda: float(next(clock)))
    shown = [0]
    for _round in range(20):
        built = overview.build(chain, GRID, [place], seconds=16)
        look = overview.tile(chain, GRID, place, "")
        shown.append(0 if look.pixels is None else len(look.pixels.items))
        assert (look.waiting == 0) == (shown[-1] == 60)
        if not built.more:
            break
    assert shown[-1] == 60
    assert shown == sorted(shown)
    assert any(0 < count < 60 for count in shown)


def test_who_asks_waits_for_a_few_and_is_told_of_the_rest(
    field: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "WAIT_SECONDS", -1.0)
    chain, place = field["b1"], tile_of(field, 8)
    first = overview.tile(chain, GRID, place, "1")
    assert first.pixels is not None
    assert (first.wanted, first.waiting, len(first.pixels.items)) == (60, 44, 16)
    monkeypatch.setattr(overview, "WAIT_SECONDS", 60.0)
    second = overview.tile(chain, GRID, place, "1")
    assert second.pixels is not None
    assert (second.waiting, len(second.pixels.items)) == (0, 60)


def test_a_tile_of_512_pixels_is_that_of_the_files(field: Collection) -> None:
    chain = field["b1"] * 2
    z, x, y = tile_of(field, 8)
    look = overview.tile(chain, GRID, (z, x, y), "1", 512)
    assert look.pixels is not None
    files = evaluate.tile(chain, GRID, x, y, z, size=512, max_items=100)
    assert set(look.pixels.items) == set(files.items)
    # The places of its pixels are rounded otherwise.
    assert np.isclose(look.pixels.data, files.data, equal_nan=True).mean() > 0.999
    assert look.pixels.scale == pytest.approx(files.scale, rel=0.01)


def test_images_below_many_others_are_not_read(tmp_path: Path) -> None:
    place = tmp_path / "stack"
    place.mkdir()
    for number in range(40):
        small(place, number, number + 1, 300_000, size=64)
    chain = open_collection(place)["b1"]
    where = tile_of(chain.collection, 7)
    look = overview.tile(chain, GRID, where, "1")
    assert look.pixels is not None
    assert look.pixels.left_out == 0
    found = reading.locate(chain, GRID, where, ("b1",))
    assert found is not None
    kept, _ = records.load(found.path)
    assert kept is not None
    assert 12 <= (kept.state == records.READ).sum() < 40
    # The newest twelve have holes in this chain, and what shines through is told to be missing.
    shown = {int(value) for value in np.unique(look.pixels.data[0][look.pixels.valid])}
    (top,) = shown
    holes = chain.mask((chain < top - 20) | (chain > top + 20))
    through = overview.tile(holes, GRID, where, "1")
    assert through.pixels is not None
    assert through.pixels.left_out > 0


def test_a_damaged_image_takes_no_other_with_it(field: Collection) -> None:
    path = field.items[5].image
    assert path
    with open(path, "r+b") as file:  # noqa: PTH123 - cut off in place
        file.truncate(150)
    look = overview.tile(field["b1"], GRID, tile_of(field, 8), "1")
    assert look.pixels is not None
    assert look.unreadable == 1
    assert look.waiting == 0
    assert len(look.pixels.items) > 40


def test_what_is_stale_is_shown_until_it_is_made_again(
    field: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LEAF", 20)
    place = tile_of(field, 8)
    overview.build(field["b1"], GRID)
    folder = Path(str(field.source))
    small(folder, 60, 61, 300_000 + 3600 * 10)
    (folder / "s0003.tif").unlink()
    newer = open_collection(folder)["b1"]
    look = overview.tile(newer, GRID, place, "2")
    assert look.pixels is not None
    assert (len(look.pixels.items), look.waiting) == (59, 1)
    assert "s0003" not in look.pixels.items
    overview.build(newer, GRID)
    look = overview.tile(newer, GRID, place, "2")
    assert look.pixels is not None
    assert (len(look.pixels.items), look.waiting) == (60, 0)

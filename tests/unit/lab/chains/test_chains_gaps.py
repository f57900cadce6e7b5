"""Which items are looked at where something is missing: never too few."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from cupola.lab import bodies
from cupola.lab.chains.compute.evaluate import _plane
from cupola.lab.chains.compute.gaps import Gaps, Uncovered
from cupola.lab.chains.pixels.grids import tile_grid
from cupola.lab.collections.items import Item

if TYPE_CHECKING:
    from cupola.lab.chains.pixels.grids import Grid
    from cupola.lab.collections.footprint import Box


def grid(name: str, tile: tuple[int, int, int], size: int = 64) -> Grid:
    z, x, y = tile
    box = bodies.tile_matrix_set(name).xy_bounds(x, y, z)
    return tile_grid(_plane(name), (box.left, box.bottom, box.right, box.top), size)


def items(boxes: list[Box | None]) -> list[Item]:
    return [Item(id=f"i{number}", box=box) for number, box in enumerate(boxes)]


@pytest.mark.parametrize(
    ("name", "tile"),
    [
        ("WebMercatorQuad", (0, 0, 0)),
        ("WebMercatorQuad", (5, 16, 11)),
        ("WebMercatorQuad", (4, 15, 7)),
        ("Moon2015npolar", (0, 0, 0)),
        ("Moon2015npolar", (3, 3, 4)),
        ("Mars2015eqc", (1, 0, 0)),
    ],
)
def test_no_item_with_a_missing_pixel_is_passed_over(name: str, tile: tuple[int, int, int]) -> None:
    random = np.random.default_rng(sum(tile))
    place = grid(name, tile)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    longitudes, latitudes = place.lonlat(columns.ravel(), rows.ravel())
    chosen = random.integers(0, 64 * 64, 200)
    sizes = random.uniform(0.001, 30, (200, 2))
    boxes: list[Box | None] = []
    for number, (wide, tall) in zip(chosen.tolist(), sizes.tolist(), strict=True):
        west, south = (
            longitudes[number] - wide * random.uniform(),
            latitudes[number] - tall * random.uniform(),
        )
        east = (west + wide + 180) % 360 - 180
        boxes.append(((west + 180) % 360 - 180, max(south, -90.0), east, min(south + tall, 90.0)))
    missing = random.uniform(size=(64, 64)) < 0.01
    missing[random.integers(0, 64), :] = True
    seen = Gaps(place, items(boxes)).seen(np.arange(200), missing)
    for number, box in enumerate(boxes):
        assert box is not None
        inside = (
            ((longitudes - box[0]) % 360 <= (box[2] - box[0]) % 360)
            & (latitudes >= box[1])
            & (latitudes <= box[3])
        )
        assert seen[number] or not (inside & missing.ravel()).any(), box
    assert not Gaps(place, items(boxes)).seen(np.arange(200), np.zeros((64, 64), dtype=bool)).any()


def test_most_of_what_is_covered_is_passed_over_and_the_rest_is_counted() -> None:
    place = grid("WebMercatorQuad", (3, 4, 3))
    boxes: list[Box | None] = [(number % 10 * 4.0, 5.0, number % 10 * 4.0 + 3, 35.0) for number in range(200)]
    boxes[150] = None
    queue = Uncovered(items(boxes), place, 30)
    longitudes, _ = place.lonlat(np.arange(64) + 0.5, np.full(64, 32.0))
    missing = np.ones((64, 64), dtype=bool)
    looked: list[str] = []
    for item in queue:
        looked.append(item.id)
        if item.box is not None and item.box[0] < 30:
            missing[:, (longitudes >= item.box[0] - 1) & (longitudes <= item.box[2] + 1)] = False
        queue.missing = missing
    assert len(looked) == 30
    # Two of ten strips stay empty, and who has no place may show something anywhere.
    assert set(looked[16:]) <= {f"i{number}" for number in range(200) if number % 10 >= 8 or number == 150}
    assert 0 < queue.left <= 40


def test_what_images_with_one_box_cover_is_learned() -> None:
    place = grid("WebMercatorQuad", (3, 4, 3))
    gaps = Gaps(place, items([(0.0, 5.0, 40.0, 35.0)] * 3 + [(0.0, 5.0, 41.0, 35.0)]))
    covers = np.zeros((64, 64), dtype=bool)
    covers[20:40, 20:40] = True
    assert gaps.learns(0)
    gaps.learn(0, covers)
    assert not gaps.learns(1)
    assert gaps.seen(np.arange(4), ~covers).tolist() == [False, False, False, True]
    assert gaps.seen(np.arange(4), covers).all()

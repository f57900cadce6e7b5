"""Scales of images that are no single file: after a reduction there is no grid of the image's own.

Such an image gets one that depends on nothing but its items and the scale: the coordinate system that they share or else
that of their body, with pixels that begin at a multiple of their size. So a preview and a run see the same pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError
from cupola.lab.chains.compute.planning import choose_grid
from cupola.lab.chains.pixels.grids import Grid, ImageGrid
from cupola.lab.chains.pixels.lattice import lattice_of, steps_of
from cupola.lab.collections.footprint import check_box
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.chains.compute.evaluation import Evaluation
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.chains.pixels.grids import AnyGrid

__all__ = ["PINNED_PIXELS", "pinned_whole", "places_in"]

PINNED_PIXELS = 2048 * 2048
"""Most pixels that a step with a scale of its own computes for one preview; it is computed more coarsely beyond."""
_HAIR = 1e-7
"""Of a pixel: a place between two is in the second, however it was rounded."""


def pinned_whole(
    evaluation: Evaluation, place: int, metres: float, grid: AnyGrid
) -> NDArray[np.float32] | None:
    """Compute a line that is one image at a scale of its own, and bring it to a grid by the nearest pixel."""
    step = evaluation.program.reads(place)[0]
    if isinstance(grid, ImageGrid) and grid.image.placement is None:
        return _in_image_space(evaluation, place, metres, grid)
    if evaluation.body is None:
        raise InputError(
            "Images without a coordinate system have a scale only in their own columns and rows."
        )
    size = metres
    while True:
        whole = _frame(step.source, step.names, size)
        columns, rows = places_in(whole, grid)
        inside = np.isfinite(columns) & np.isfinite(rows)
        if not inside.any():
            return None
        across, down = (
            np.floor(np.where(inside, part, 0) + _HAIR).astype(np.int64) for part in (columns, rows)
        )
        left, top = int(across[inside].min()), int(down[inside].min())
        width, height = int(across[inside].max()) - left + 1, int(down[inside].max()) - top + 1
        if width * height <= PINNED_PIXELS:
            break
        size = evaluation.coarser(size, metres)
    evaluation.note(size, exact=size == metres)
    values = evaluation.values(place, whole.window(left, top, width, height), usual="average")
    if values is None:
        return None
    brought = values[:, np.clip(down - top, 0, height - 1), np.clip(across - left, 0, width - 1)]
    brought[:, ~inside] = np.nan
    return brought


def _in_image_space(
    evaluation: Evaluation, place: int, pixels: float, grid: ImageGrid
) -> NDArray[np.float32] | None:
    """Compute a line on pixels of so many pixels: images that only have columns and rows have one size."""
    columns, rows = grid.of_image(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    lattice = lattice_of(
        grid.image, columns[np.newaxis], rows[:, np.newaxis], steps_of(grid.image, None, pixels)
    )
    if lattice is None:
        return None
    evaluation.note(pixels, exact=True)
    values = evaluation.values(place, lattice.grid, usual="average")
    return None if values is None else lattice.bring(values)


def places_in(whole: Grid, grid: AnyGrid) -> tuple[Any, Any]:
    """Return columns and rows of a grid's places in another."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    if isinstance(grid, Grid) and grid.plane is whole.plane:
        x, y = grid.coordinates(columns, rows)
        return (x - whole.left) / whole.resolution_x, (whole.top - y) / whole.resolution_y
    longitudes, latitudes = grid.lonlat(columns.ravel(), rows.ravel())
    found = whole.pixels(longitudes, latitudes)
    return found[0].reshape(columns.shape), found[1].reshape(columns.shape)


@lru_cache(maxsize=64)
def _frame(source: Source, names: tuple[str, ...], metres: float) -> Grid:
    """Return the first pixel of the grid, from which all others are counted."""
    collection = source.collection
    box = collection.bbox
    frame = choose_grid(
        collection.items, names, box=check_box(box) if box else None, resolution=metres, piece=16_384
    )
    return Grid(lonlat_of_wkt(frame.wkt), 0.0, 0.0, frame.step_x, frame.step_y, 1, 1)

"""Sizes of pixels on the ground, in metres (arcseconds on the sky, pixels where there is no coordinate system)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.chains.graph.context import distance
from cupola.lab.chains.pixels.grids import Grid

if TYPE_CHECKING:
    from cupola.lab.bodies import Body
    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.placement import Placement
    from cupola.lab.projection import LonLat

__all__ = ["centre_spacing", "image_spacing"]

_TRIED = ((0.5, 0.5), (0.25, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75), (0.05, 0.05), (0.95, 0.95))
"""Where in an image its pixels are measured: the first of these places that it has, its middle before others."""

_KEPT = 4096
_on_cylinders: dict[tuple[int, float, float, float, str], tuple[LonLat, float]] = {}
"""Sizes of pixels by the place of a row; the plane lies there too, so that its id stays its own."""


def image_spacing(image: Image, body: Body | None) -> tuple[float, float]:
    """Return how many metres of ground a pixel of an image is wide and high in the middle of it."""
    placement = image.placement
    if placement is None or body is None:
        return 1.0, 1.0
    return _spacing(placement, image.width, image.height, body)


@lru_cache(maxsize=4096)
def _spacing(placement: Placement, width: int, height: int, body: Body) -> tuple[float, float]:
    for part_x, part_y in _TRIED:
        dx, dy = _around(placement, body, width * part_x, height * part_y)
        if dx > 0 and dy > 0:
            return dx, dy
    return 1.0, 1.0


def centre_spacing(grid: AnyGrid, body: Body | None) -> float:
    """Return about how many metres of ground a pixel in the middle of a grid is wide; 0 where it has no place."""
    if body is None:
        return float(getattr(grid, "step", 1.0))
    if isinstance(grid, Grid) and grid.plane.period is not None:
        # On a cylinder it is the same along a row: asked for again and again by tiles beside each other.
        middle = grid.top - grid.height / 2 * grid.resolution_y
        key = (id(grid.plane), middle, grid.resolution_x, grid.resolution_y, body.name)
        if key not in _on_cylinders:
            if len(_on_cylinders) >= _KEPT:
                _on_cylinders.clear()
            dx, dy = _around(grid, body, grid.width / 2, grid.height / 2)
            _on_cylinders[key] = grid.plane, math.sqrt(dx * dy)
        return _on_cylinders[key][1]
    dx, dy = _around(grid, body, grid.width / 2, grid.height / 2)
    return math.sqrt(dx * dy)


def _around(places: Any, body: Body, column: float, row: float) -> tuple[float, float]:
    """Return metres from half a pixel before to half a pixel behind a place, across and down; 0 where there is none."""
    before = np.array([column - 0.5, column]), np.array([row, row - 0.5])
    behind = np.array([column + 0.5, column]), np.array([row, row + 0.5])
    dx, dy = distance(places, body, before, behind)
    return (float(dx), float(dy)) if math.isfinite(dx) and math.isfinite(dy) else (0.0, 0.0)

"""Images that are placed by ground control points only, as radar scenes are."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio

from cupola.exceptions import ImageError
from cupola.lab.collections import remote

__all__ = ["is_lattice", "read_points"]

_SIDES = 2
"""Rows and columns of points at least."""


def is_lattice(points: list[Any]) -> bool:
    """Tell whether ground control points stand in rows and columns, all of them taken."""
    rows, columns = {point.row for point in points}, {point.col for point in points}
    return min(len(rows), len(columns)) >= _SIDES and len(points) == len(rows) * len(columns)


def read_points(path: str) -> tuple[Any, Any, Any, Any]:
    """Return longitudes and latitudes (rows, columns) of a file's control points, and their rows and columns.

    Raises
    ------
    ImageError
        When the file has no points any more.
    """
    with remote.opening(path) as address, rasterio.open(address) as dataset:
        points, crs = dataset.gcps
    if not points or not is_lattice(points):
        raise ImageError(f"{path} has no rows and columns of ground control points any more: open it again.")
    points = sorted(points, key=lambda point: (point.row, point.col))
    rows = np.unique([point.row for point in points])
    columns = np.unique([point.col for point in points])
    x, y = (np.array([getattr(point, name) for point in points], dtype=np.float64) for name in ("x", "y"))
    if crs and not crs.is_geographic:
        from cupola.lab.projection import lonlat_of

        x, y = lonlat_of(crs).inverse(x, y)
    shape = (len(rows), len(columns))
    return x.reshape(shape), y.reshape(shape), rows, columns

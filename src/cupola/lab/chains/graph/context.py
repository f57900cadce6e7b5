"""What a step is told besides its inputs: where its pixels lie, on which body, and of which item they are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.collections.items import Item

__all__ = ["NOWHERE", "AnyGrid", "Context", "distance", "ground_spacing"]

_WGS84_A = 6_378_137.0
_WGS84_E2 = 0.00669437999014
_SAMPLES = 5
_EVEN = 0.005
"""How much the size of a pixel may change along a row and still count as one size."""


class AnyGrid(Protocol):
    """Where pixels lie: any of the grids of `cupola.lab.chains.pixels.sampling`."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def height(self) -> int:
        """Rows."""

    def padded(self, halo: int) -> Any:
        """Return the grid with `halo` more pixels on all sides."""

    def lonlat(self, columns: Any, rows: Any) -> tuple[Any, Any]:
        """Return degrees east and north of places given in pixels from the grid's corner; NaN where there are none."""


@dataclass(frozen=True)
class Context:
    """Where the pixels of a step lie."""

    grid: AnyGrid | None = None
    """Of the arrays that `Step.compute` gets, halo included; nothing for images without a coordinate system."""
    item: Item | None = None
    """Whose pixels they are; nothing after a reduction."""
    body: Body | None = None
    preview: bool = False
    """Whether somebody waits for it."""

    @cached_property
    def _spacing(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.grid is None:
            one = np.ones((1, 1))
            return one, one
        return ground_spacing(self.grid, self.body)

    def spacing(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return metres on the ground per pixel, from column to column and from row to row.

        Returns
        -------
        dx, dy
            (rows, 1), or (rows, columns) where they change along the rows as well, as on a polar map; arcseconds on
            the sky, 1 for images without a coordinate system.
        """
        return self._spacing

    def lonlat(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return degrees east and north (rows, columns) of the pixel centres; NaN where there are none."""
        if self.grid is None:
            nowhere = np.full((1, 1), np.nan)
            return nowhere, nowhere
        columns, rows = np.meshgrid(np.arange(self.grid.width) + 0.5, np.arange(self.grid.height) + 0.5)
        longitudes, latitudes = self.grid.lonlat(columns.ravel(), rows.ravel())
        shape = (self.grid.height, self.grid.width)
        return np.asarray(longitudes).reshape(shape), np.asarray(latitudes).reshape(shape)


NOWHERE = Context()
"""For steps that do not ask where they are."""


def ground_spacing(
    grid: AnyGrid, body: Body | None, columns: Any = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return metres on the ground per pixel of a grid; see `Context.spacing`.

    Parameters
    ----------
    grid
        Any grid; one without a body (no coordinate system) has pixels of size 1.
    body
        Whose metres; nothing for an image without a coordinate system.
    columns
        Where along the rows to measure, in pixels from the corner; a few places where nothing is said.
    """
    height, width = grid.height, grid.width
    if body is None:
        return np.ones((height, 1)), np.ones((height, 1))
    at = np.linspace(0.5, width - 0.5, min(_SAMPLES, width)) if columns is None else np.asarray(columns)
    mesh_x, mesh_y = np.meshgrid(at, np.arange(height) + 0.5)
    dx = distance(grid, body, (mesh_x - 0.5, mesh_y), (mesh_x + 0.5, mesh_y))
    dy = distance(grid, body, (mesh_x, mesh_y - 0.5), (mesh_x, mesh_y + 0.5))
    if columns is not None:
        return dx, dy
    return _spread(dx, at, width), _spread(dy, at, width)


def _spread(sizes: NDArray[np.float64], at: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return sizes measured at a few columns for one column, or for all where they differ."""
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = np.nanmin(sizes, axis=1), np.nanmax(sizes, axis=1)
        even = not np.any(high - low > _EVEN * high)
    middle = sizes[:, sizes.shape[1] // 2, np.newaxis]
    if even and np.isfinite(middle).all():
        return middle
    places = np.arange(width) + 0.5
    return np.stack([np.interp(places, at, row) for row in sizes])


def distance(grid: Any, body: Body, one: tuple[Any, Any], other: tuple[Any, Any]) -> NDArray[np.float64]:
    """Return metres between places of a grid or placement, given in its pixels; NaN where it has no such place.

    Straight through the body and bent to its surface then: right at the poles and across the antimeridian as well.
    """
    columns = np.stack([np.asarray(one[0], dtype=np.float64), np.asarray(other[0], dtype=np.float64)])
    rows = np.stack([np.asarray(one[1], dtype=np.float64), np.asarray(other[1], dtype=np.float64)])
    found = grid.lonlat(columns.ravel(), rows.ravel())
    longitudes, latitudes = (
        np.radians(np.asarray(part, dtype=np.float64)).reshape(columns.shape) for part in found
    )
    with np.errstate(invalid="ignore"):
        across = (
            _WGS84_A / np.sqrt(1 - _WGS84_E2 * np.sin(latitudes) ** 2)
            if body.name == "Earth"
            else body.radius
        )
        polar = across * (1 - _WGS84_E2) if body.name == "Earth" else across
        x = across * np.cos(latitudes) * np.cos(longitudes)
        y = across * np.cos(latitudes) * np.sin(longitudes)
        z = polar * np.sin(latitudes)
        chord = np.sqrt((x[1] - x[0]) ** 2 + (y[1] - y[0]) ** 2 + (z[1] - z[0]) ** 2)
        far = 2 * body.radius * np.arcsin(np.minimum(chord / (2 * body.radius), 1.0))
    far[~np.isfinite(far)] = np.nan
    return np.asarray(far, dtype=np.float64)

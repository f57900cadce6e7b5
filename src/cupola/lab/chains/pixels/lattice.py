"""The pixels of an image, or larger ones that begin at its corner, as grids to compute on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.chains.pixels.ground import image_spacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.images import Image

__all__ = ["Lattice", "lattice_of", "padded", "steps_of"]

Floats = Any  # NDArray[np.float64], written short

_WHOLE = 0.01
"""How far a scale may be off a whole number of pixels and still mean it: pixel sizes are nominal."""
_HAIR = 1e-7
"""Of a pixel: more than rounding, and less than anybody sees."""


@dataclass(frozen=True)
class Lattice:
    """The pixels of an image, or larger ones that begin at its corner, which a grid looks at."""

    grid: ImageGrid
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    """Of the wanted grid's places, in pixels of `grid`; straight lines where they are straight."""
    inside: NDArray[np.bool_]

    def bring(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values of the lattice's pixels at the places of the wanted grid, NaN outside of the image."""
        brought = values[:, self.rows, self.columns]
        if not self.inside.all():
            brought[:, ~self.inside] = np.nan
        return brought


def padded(grid: AnyGrid, halo: int) -> tuple[AnyGrid, int, int]:
    """Return a grid with its halo, and how many rows and columns of it come before the grid's own.

    On an image's own pixels it ends where the image ends, so that a function sees the image's true edge, as it would
    with the whole array.
    """
    if halo == 0:
        return grid, 0, 0
    if not isinstance(grid, ImageGrid):
        return grid.padded(halo), halo, halo
    first_column, first_row = round(grid.left / grid.step), round(grid.top / grid.down)
    columns = math.ceil(grid.image.width / grid.step - 1e-9)
    rows = math.ceil(grid.image.height / grid.down - 1e-9)
    left, top = max(0, min(halo, first_column)), max(0, min(halo, first_row))
    right = max(0, min(halo, columns - first_column - grid.width))
    bottom = max(0, min(halo, rows - first_row - grid.height))
    return grid.window(-left, -top, grid.width + left + right, grid.height + top + bottom), top, left


def lattice_of(image: Image, columns: Floats, rows: Floats, steps: tuple[float, float]) -> Lattice | None:
    """Return the pixels of these sizes (in the image's own) under places of an image; nothing where none is."""
    with np.errstate(invalid="ignore"):
        in_x, in_y = (columns >= 0) & (columns < image.width), (rows >= 0) & (rows < image.height)
    inside = in_x & in_y
    if not inside.any():
        return None
    across = _whole_pixels(columns, in_x, steps[0], image.width)
    down = _whole_pixels(rows, in_y, steps[1], image.height)
    straight = columns.shape != rows.shape
    seen_x, seen_y = (across[in_x], down[in_y]) if straight else (across[inside], down[inside])
    left, top = int(seen_x.min()), int(seen_y.min())
    width, height = int(seen_x.max()) - left + 1, int(seen_y.max()) - top + 1
    whole = ImageGrid(image, 0.0, 0.0, steps[0], 1, 1, steps[1])
    return Lattice(
        whole.window(left, top, width, height),
        np.clip(down - top, 0, height - 1),
        np.clip(across - left, 0, width - 1),
        inside,
    )


def _whole_pixels(places: Floats, inside: NDArray[np.bool_], step: float, size: int) -> NDArray[np.intp]:
    """Return in which pixel of a size each place lies; one between two is in the second, however it was rounded."""
    with np.errstate(invalid="ignore"):
        found = np.where(inside, places / step + _HAIR, 0).astype(np.intp)
    return np.minimum(found, math.ceil(size / step - _HAIR) - 1)


def steps_of(image: Image, body: Body | None, metres: float) -> tuple[float, float]:
    """Return how many pixels of an image are so many metres on the ground, along its rows and columns."""
    found = []
    for spacing, size in zip(image_spacing(image, body), (image.width, image.height), strict=True):
        # A pixel larger than the image is the whole image.
        step = min(metres / spacing, float(size))
        near = max(1.0, float(round(step)))
        found.append(near if abs(step - near) <= _WHOLE * near else step)
    return found[0], found[1]

"""The grid of a composite: a plain rectangle of pixels in one coordinate system, cut into pieces."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.crs
from affine import Affine

from cupola.exceptions import InputError
from cupola.lab.chains.pixels.sampling import Grid
from cupola.lab.collections.footprint import outline_box
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from rasterio.windows import Window

    from cupola.lab.collections.footprint import Box

__all__ = ["PIECE", "OutputGrid"]

PIECE = 4096
"""Rows and columns of a piece where nothing is said."""
_MESH = 33


@dataclass(frozen=True)
class OutputGrid:
    """Where the pixels of a composite lie; lengths in the units of the coordinate system."""

    wkt: str
    left: float
    top: float
    step_x: float
    step_y: float
    """Positive: rows go down."""
    width: int
    height: int
    piece: int = PIECE

    @property
    def columns(self) -> int:
        """How many pieces lie side by side."""
        return math.ceil(self.width / self.piece)

    @property
    def rows(self) -> int:
        """How many pieces lie below one another."""
        return math.ceil(self.height / self.piece)

    @property
    def single(self) -> bool:
        """Whether all fits in one piece."""
        return self.columns == self.rows == 1

    @property
    def crs(self) -> rasterio.crs.CRS:
        """The coordinate system, as rasterio has it."""
        return rasterio.crs.CRS.from_wkt(self.wkt)

    def part(self, column: int, row: int) -> OutputGrid:
        """Return a piece, counted from the upper left, as a grid of its own."""
        left, top = column * self.piece, row * self.piece
        return self.cut(left, top, min(self.piece, self.width - left), min(self.piece, self.height - top))

    def cut(self, left: int, top: int, width: int, height: int) -> OutputGrid:
        """Return a rectangle of its pixels as a grid of its own."""
        return OutputGrid(
            self.wkt,
            self.left + left * self.step_x,
            self.top - top * self.step_y,
            self.step_x,
            self.step_y,
            width,
            height,
            self.piece,
        )

    def window(self, window: Window) -> Grid:
        """Return the places of a window, for the sampler."""
        part = self.cut(window.col_off, window.row_off, window.width, window.height)
        plane = lonlat_of_wkt(self.wkt)
        return Grid(plane, part.left, part.top, part.step_x, part.step_y, part.width, part.height)

    @property
    def transform(self) -> Affine:
        """From columns and rows to the coordinate system."""
        return Affine(self.step_x, 0.0, self.left, 0.0, -self.step_y, self.top)

    @property
    def box(self) -> Box | None:
        """West, south, east, north in degrees."""
        steps = np.linspace(0, 1, _MESH)
        zeros, ones = np.zeros_like(steps), np.ones_like(steps)
        # A hair inside: on the very edge of the world -180 and +180 are the same place.
        x = (
            self.left
            + (1e-6 + np.concatenate([steps, ones, steps[::-1], zeros]) * (self.width - 2e-6)) * self.step_x
        )
        y = (
            self.top
            - (1e-6 + np.concatenate([zeros, steps, ones, steps[::-1]]) * (self.height - 2e-6)) * self.step_y
        )
        return outline_box(*lonlat_of_wkt(self.wkt).inverse(x, y))

    def to_json(self) -> dict[str, Any]:
        """Return the grid as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> OutputGrid:
        """Return the grid that `to_json` wrote.

        Raises
        ------
        InputError
            When it is none.
        """
        try:
            return cls(**document)
        except TypeError as error:
            raise InputError(f"This is no grid of a composite ({error}).") from error

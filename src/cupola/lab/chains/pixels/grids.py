"""Grids: rectangles of pixels on the plane of a body, in a HEALPix pixel of the sky, or in an image itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cupola.lab.collections.images import Image
    from cupola.lab.projection import LonLat

__all__ = ["AnyGrid", "Grid", "HipsGrid", "ImageGrid", "tile_grid"]

Floats = Any  # NDArray[np.float64], written short


@dataclass(frozen=True)
class Grid:
    """Places in a coordinate system: the pixel centres of a rectangle of pixels."""

    plane: LonLat
    """The coordinate system, seen from longitude and latitude."""
    left: float
    top: float
    resolution_x: float
    resolution_y: float
    """Positive: rows go down."""
    width: int
    height: int

    def padded(self, halo: int) -> Grid:
        """Return the grid with `halo` more pixels on all sides."""
        return self.window(-halo, -halo, self.width + 2 * halo, self.height + 2 * halo)

    def window(self, left: int, top: int, width: int, height: int) -> Grid:
        """Return a part of the grid (or more than it), from its column `left` and its row `top` on."""
        return Grid(
            self.plane,
            self.left + left * self.resolution_x,
            self.top - top * self.resolution_y,
            self.resolution_x,
            self.resolution_y,
            width,
            height,
        )

    def finer(self, times: int) -> Grid:
        """Return the same rectangle with `times` as many rows and columns."""
        return Grid(
            self.plane,
            self.left,
            self.top,
            self.resolution_x / times,
            self.resolution_y / times,
            self.width * times,
            self.height * times,
        )

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees of places given in pixels from the grid's corner."""
        return self.plane.inverse(*self.coordinates(columns, rows))

    def coordinates(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return x and y of places given in pixels from the grid's corner."""
        return self.left + columns * self.resolution_x, self.top - rows * self.resolution_y

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees; not finite where the system has no such place."""
        x, y = self.plane.forward(longitudes, latitudes)
        with np.errstate(invalid="ignore"):
            if self.plane.period is not None:
                middle = self.left + self.width * self.resolution_x / 2
                x = x - np.round((x - middle) / self.plane.period) * self.plane.period
            return (x - self.left) / self.resolution_x, (self.top - y) / self.resolution_y


@dataclass(frozen=True)
class HipsGrid:
    """The pixels of one tile of a HiPS: a HEALPix pixel (nested, ICRS), divided `size` times along each side.

    The first row is the top one of a PNG tile and the last one of a FITS tile. As Aladin draws tiles, the pixel's southern
    corner is at the top left, the eastern one at the bottom left, the northern one at the bottom right.
    """

    order: int
    pixel: int
    size: int = 512
    left: float = 0.0
    """Where the grid begins, in pixels of the tile; beside it in a grid with a halo."""
    top: float = 0.0
    width: int = -1
    """Columns; those of the tile where nothing is said."""
    height: int = -1

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", self.size if self.width < 0 else self.width)
        object.__setattr__(self, "height", self.size if self.height < 0 else self.height)

    def padded(self, halo: int) -> HipsGrid:
        """Return the grid with `halo` more pixels on all sides."""
        return self.window(-halo, -halo, self.width + 2 * halo, self.height + 2 * halo)

    def window(self, left: int, top: int, width: int, height: int) -> HipsGrid:
        """Return a part of the grid (or more than it), from its column `left` and its row `top` on."""
        return replace(self, left=self.left + left, top=self.top + top, width=width, height=height)

    def finer(self, times: int) -> HipsGrid:
        """Return the same rectangle with `times` as many rows and columns."""
        return replace(
            self,
            size=self.size * times,
            left=self.left * times,
            top=self.top * times,
            width=self.width * times,
            height=self.height * times,
        )

    @property
    def arcseconds(self) -> float:
        """About how many arcseconds a pixel measures."""
        return math.degrees(math.sqrt(math.pi / 3) / 2**self.order / self.size) * 3600

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return right ascension and declination in degrees of places given in pixels from the grid's corner.

        Places beside the tile, of a halo, are found by going straight on.
        """
        north_west = (np.asarray(columns, dtype=np.float64) + self.left) / self.size
        north_east = (np.asarray(rows, dtype=np.float64) + self.top) / self.size
        inside_e, inside_w = np.clip(north_east, 0, 1), np.clip(north_west, 0, 1)
        longitudes, latitudes = self._within(inside_e, inside_w)
        beside = (inside_e != north_east) | (inside_w != north_west)
        if beside.any():
            longitudes[beside], latitudes[beside] = self._beyond(north_east[beside], north_west[beside])
        return longitudes, latitudes

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees; NaN for those that are not in the tile."""
        from astropy import units
        from astropy_healpix.core import lonlat_to_healpix

        found, east, west = lonlat_to_healpix(
            np.asarray(longitudes) * units.deg,
            np.asarray(latitudes) * units.deg,
            2**self.order,
            return_offsets=True,
            order="nested",
        )
        elsewhere = found != self.pixel
        columns, rows = west * self.size - self.left, east * self.size - self.top
        columns[elsewhere] = rows[elsewhere] = np.nan
        return columns, rows

    def _within(self, north_east: Floats, north_west: Floats) -> tuple[Floats, Floats]:
        from astropy_healpix.core import healpix_to_lonlat

        places = healpix_to_lonlat(
            np.full(north_east.shape, self.pixel, dtype=np.int64),
            2**self.order,
            dx=north_east,
            dy=north_west,
            order="nested",
        )
        longitudes, latitudes = (np.degrees(place.value) for place in places)
        return longitudes, latitudes

    def _beyond(self, north_east: Floats, north_west: Floats) -> tuple[Floats, Floats]:
        """Mirror places at the tile's edge, in space."""
        from cupola.lab.collections.formats.swath import unit_vectors

        edge_e, edge_w = np.clip(north_east, 0, 1), np.clip(north_west, 0, 1)
        inner_e, inner_w = np.clip(2 * edge_e - north_east, 0, 1), np.clip(2 * edge_w - north_west, 0, 1)
        edge, inner = (
            unit_vectors(*self._within(*places)) for places in ((edge_e, edge_w), (inner_e, inner_w))
        )
        x, y, z = np.moveaxis(2 * edge - inner, -1, 0)
        return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


@dataclass(frozen=True)
class ImageGrid:
    """Pixels that lie as those of an image do, each `step` of them wide; placed in the image, not on a body."""

    image: Image
    left: float
    top: float
    """Of the image's pixels, from its corner."""
    step: float
    width: int
    height: int
    step_y: float = 0.0
    """Along the rows, where it differs; negative where they go up."""

    @classmethod
    def of(cls, image: Image, step: float = 1.0) -> ImageGrid:
        """Return the grid of a whole image, with pixels of `step` times its own, aligned to its first corner."""
        return cls(image, 0.0, 0.0, step, math.ceil(image.width / step), math.ceil(image.height / step))

    @property
    def down(self) -> float:
        """How many pixels of the image the next row is further down."""
        return self.step_y or self.step

    def padded(self, halo: int) -> ImageGrid:
        """Return the grid with `halo` more pixels on all sides."""
        return self.window(-halo, -halo, self.width + 2 * halo, self.height + 2 * halo)

    def window(self, left: int, top: int, width: int, height: int) -> ImageGrid:
        """Return a part of the grid (or more than it), from its column `left` and its row `top` on."""
        return replace(
            self,
            left=self.left + left * self.step,
            top=self.top + top * self.down,
            width=width,
            height=height,
        )

    def finer(self, times: int) -> ImageGrid:
        """Return the same rectangle with `times` as many rows and columns."""
        return replace(
            self,
            step=self.step / times,
            step_y=self.step_y / times,
            width=self.width * times,
            height=self.height * times,
        )

    def of_image(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of the image for places given in pixels from the grid's corner."""
        return self.left + columns * self.step, self.top + rows * self.down

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees; NaN for an image without a place."""
        placement = self.image.placement
        if placement is None:
            nowhere = np.full(np.shape(columns), np.nan)
            return nowhere, nowhere.copy()
        return placement.lonlat(*self.of_image(columns, rows))

    def pixels(self, longitudes: Floats, latitudes: Floats) -> tuple[Floats, Floats]:
        """Return columns and rows of places in degrees; NaN for an image without a place."""
        placement = self.image.placement
        if placement is None:
            nowhere = np.full(np.shape(longitudes), np.nan)
            return nowhere, nowhere.copy()
        columns, rows = placement.pixels(longitudes, latitudes)
        return (columns - self.left) / self.step, (rows - self.top) / self.down


AnyGrid = Grid | HipsGrid | ImageGrid


def tile_grid(plane: LonLat, bounds: tuple[float, float, float, float], size: int) -> Grid:
    """Return the grid of a square tile with these bounds (left, bottom, right, top)."""
    left, bottom, right, top = bounds
    return Grid(plane, left, top, (right - left) / size, (top - bottom) / size, size, size)

"""Which cells of the sphere images cover: HEALPix cells of several orders, as a MOC of the Virtual Observatory.

A cell is named by its order (0 to 29) and its number in the nested scheme; both in one number are its *uniq*,
``4 * 4**order + number`` (IVOA recommendation MOC 1.1).
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image

__all__ = [
    "FINEST",
    "Cells",
    "Outline",
    "cell_degrees",
    "cells_of",
    "decode",
    "moc_file",
    "outline_of_box",
    "outline_of_image",
    "touched",
    "uniq",
]

Floats = Any  # NDArray[np.float64], written short
Cells = dict[int, "NDArray[np.int64]"]
"""Numbers of cells by order; no cell lies in another."""

FINEST = 29
"""The last order that 64 bits hold."""
ACROSS = 24
"""Cells along a footprint, about: finer ones would tell more than anybody asks."""
_INNER = 0.3
"""Step of the points inside of a footprint, in cells: any cell that lies within is met."""
_EDGE = 0.02
"""Step along its edge, in cells: slivers of a cell may be missed, and nothing larger."""
_MOST_POINTS = 1500
_BOX_CELLS = ((2000, 3, 10), (math.inf, 1, 5))
"""Up to so many boxes: cells along each, and points along its sides; they stand closer than half a cell."""


class Outline:
    """A patch of the sky as a function of two numbers from 0 to 1."""

    def __init__(self, place: Any, size: float) -> None:
        self._place = place
        self.size = size
        """The longer side in degrees."""

    def lonlat(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Return right ascension and declination in degrees; NaN where the projection has none."""
        found: tuple[Floats, Floats] = self._place(u, v)
        return found


def cell_degrees(order: int) -> float:
    """Return the side of a cell in degrees: the square root of its area."""
    return float(math.degrees(math.sqrt(math.pi / 3)) / 2**order)


def outline_of_image(image: Image) -> Outline:
    """Return the patch that an image covers."""
    placement: Any = image.placement

    def place(u: Floats, v: Floats) -> tuple[Floats, Floats]:
        found: tuple[Floats, Floats] = placement.lonlat(
            np.asarray(u) * image.width, np.asarray(v) * image.height
        )
        return found

    return Outline(place, _extent(place))


def outline_of_box(box: Box) -> Outline:
    """Return the patch between two meridians and two parallels; the box may cross the antimeridian."""
    west, south, east, north = box
    width = (east - west) % 360.0 or (360.0 if east != west else 0.0)

    def place(u: Floats, v: Floats) -> tuple[Floats, Floats]:
        return west + np.asarray(u) * width, south + np.asarray(v) * (north - south)

    return Outline(place, _extent(place))


def _extent(place: Any) -> float:
    """Return how long a patch is in degrees, along the longer of its two middle lines or its diagonals."""
    steps = np.linspace(0.0, 1.0, 17)
    half = np.full_like(steps, 0.5)
    found = [0.0]
    for u, v in ((steps, half), (half, steps), (steps, steps), (steps, steps[::-1])):
        longitudes, latitudes = place(u, v)
        found.append(float(np.nansum(separation(longitudes, latitudes))))
    return min(max(found), 360.0)


def separation(longitudes: Floats, latitudes: Floats) -> Floats:
    """Return the angles between neighbours of a line of points, all in degrees."""
    lon, lat = np.radians(longitudes), np.radians(latitudes)
    half = (
        np.sin(np.diff(lat) / 2) ** 2
        + np.cos(lat[1:]) * np.cos(lat[:-1]) * np.sin(np.diff(lon) / 2) ** 2
    )  # fmt: skip
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0))))


def cells_of(outlines: Sequence[Outline], boxes: Sequence[Box] = ()) -> Cells:
    """Return the cells that patches touch, as few as say it.

    Each patch is told about as finely as a 24th of its size, or less where there are many; `boxes`, of which there may
    be 100,000, as finely as themselves.
    """
    orders = _touched_by_boxes(boxes)
    across = max(3.0, ACROSS / max(1.0, len(outlines) / 64) ** 0.5)
    for outline in outlines:
        size = max(outline.size, 1e-7)
        order = min(max(math.ceil(math.log2(cell_degrees(0) * across / size)), 0), FINEST)
        orders.setdefault(order, []).append(_touched_by(outline, order))
    return _joined({order: np.unique(np.concatenate(found)) for order, found in orders.items()})


def _touched_by_boxes(boxes: Sequence[Box]) -> dict[int, list[NDArray[np.int64]]]:
    """Return the cells that many boxes touch by order: a few points of each are looked at, all at once."""
    from astropy_healpix import HEALPix

    if not boxes:
        return {}
    west, south, east, north = np.array(boxes, dtype=np.float64).T
    width = np.where(east == west, 0.0, (east - west) % 360.0)
    width[(width == 0.0) & (east != west)] = 360.0
    size = np.maximum(np.maximum(width * np.cos(np.radians((south + north) / 2)), north - south), 1e-7)
    across, points = next((cells, points) for most, cells, points in _BOX_CELLS if len(boxes) <= most)
    orders = np.clip(np.ceil(np.log2(cell_degrees(0) * across / size)), 0, FINEST).astype(int)
    part = np.linspace(0.0, 1.0, points)
    u, v = (axis.ravel() for axis in np.meshgrid(part, part))
    found: dict[int, list[NDArray[np.int64]]] = {}
    for order in np.unique(orders):
        here = orders == order
        lon = np.radians(west[here, np.newaxis] + u * width[here, np.newaxis])
        lat = np.radians(south[here, np.newaxis] + v * (north - south)[here, np.newaxis])
        cells = _numbers(HEALPix(2 ** int(order), order="nested"), lon.ravel(), lat.ravel())
        found[int(order)] = [np.unique(cells)]
    return found


def _touched_by(outline: Outline, order: int) -> NDArray[np.int64]:
    """Return the cells of one order that a patch touches, found at points close to one another."""
    from astropy_healpix import HEALPix

    cells = max(outline.size / cell_degrees(order), 1.0)
    inner = np.linspace(0.0, 1.0, min(math.ceil(cells / _INNER) + 1, _MOST_POINTS))
    edge = np.linspace(0.0, 1.0, min(math.ceil(cells / _EDGE) + 1, _MOST_POINTS * 4))
    zero, one = np.zeros_like(edge), np.ones_like(edge)
    mesh_u, mesh_v = np.meshgrid(inner, inner)
    u = np.concatenate([mesh_u.ravel(), edge, edge, zero, one])
    v = np.concatenate([mesh_v.ravel(), zero, one, edge, edge])
    longitudes, latitudes = outline.lonlat(u, v)
    good = np.isfinite(longitudes) & np.isfinite(latitudes)
    if not good.any():
        return np.zeros(0, dtype=np.int64)
    lon, lat = np.radians(longitudes[good]), np.radians(np.clip(latitudes[good], -90.0, 90.0))
    found = _numbers(HEALPix(2**order, order="nested"), lon, lat)
    unique: NDArray[np.int64] = np.unique(found)
    return unique


def _numbers(healpix: Any, lon: Floats, lat: Floats) -> NDArray[np.int64]:
    """Return the cells of places in radians."""
    from astropy import units

    found: NDArray[np.int64] = healpix.lonlat_to_healpix(lon * units.rad, lat * units.rad)
    return found


def _joined(orders: dict[int, NDArray[np.int64]]) -> Cells:
    """Return the same patch of fewer cells: four that make one become it, and what lies in a larger one goes."""
    result: Cells = {}
    finer = np.zeros(0, dtype=np.int64)
    for order in range(max(orders, default=0), -1, -1):
        here = np.union1d(orders.get(order, np.zeros(0, dtype=np.int64)), finer)
        parents, counts = np.unique(here >> 2, return_counts=True)
        full = parents[counts == 4] if order else parents[:0]  # noqa: PLR2004 - a cell has four children
        kept = here[~np.isin(here >> 2, full)] if order else here
        if kept.size:
            result[order] = kept
        finer = full
    return _without_inner(result)


def _without_inner(cells: Cells) -> Cells:
    """Take away cells that lie in larger ones."""
    result: Cells = {}
    for order in sorted(cells):
        numbers = cells[order]
        for larger, known in result.items():
            numbers = numbers[~np.isin(numbers >> (2 * (order - larger)), known)]
        if numbers.size:
            result[order] = numbers
    return result


def uniq(cells: Cells) -> NDArray[np.int64]:
    """Return cells as one sorted list of numbers, the largest cells first."""
    parts = [numbers + 4 * 4**order for order, numbers in sorted(cells.items())]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def decode(numbers: NDArray[np.int64]) -> Cells:
    """Return the cells that `uniq` made a list of."""
    orders = (np.log2(np.maximum(numbers, 4).astype(np.float64) / 4) // 2).astype(np.int64)
    # A logarithm of numbers near 2**62 may round up to the next order.
    orders -= numbers < 4 * 4**orders
    return {int(order): numbers[orders == order] - 4 * 4 ** int(order) for order in np.unique(orders)}


def touched(cells: Cells, order: int, number: int) -> bool:
    """Tell whether a cell shares anything with `cells`."""
    for level, numbers in cells.items():
        shift = 2 * abs(order - level)
        first, last = (
            (number >> shift,) * 2 if level <= order else (number << shift, ((number + 1) << shift) - 1)
        )
        position = int(np.searchsorted(numbers, first))
        if position < numbers.size and int(numbers[position]) <= last:
            return True
    return False


def at_order(cells: Cells, order: int) -> list[int]:
    """Return the cells of one order that share anything with `cells`."""
    found: list[NDArray[np.int64]] = []
    for level, numbers in cells.items():
        if level >= order:
            found.append(np.unique(numbers >> (2 * (level - order))))
        else:
            children = 4 ** (order - level)
            found.append((numbers[:, np.newaxis] * children + np.arange(children)).ravel())
    return [int(number) for number in np.unique(np.concatenate(found))] if found else []


def moc_file(cells: Cells) -> bytes:
    """Return cells as a FITS file after MOC 1.1, which MOC 2.0 still reads."""
    from astropy.io import fits

    column = fits.Column(name="UNIQ", format="K", array=uniq(cells))
    table = fits.BinTableHDU.from_columns([column])
    header = table.header
    header["PIXTYPE"] = ("HEALPIX", "HEALPix magic code")
    header["ORDERING"] = ("NUNIQ", "NUNIQ coding method")
    header["COORDSYS"] = ("C", "ICRS reference frame")
    header["MOCORDER"] = (max(cells, default=0), "MOC resolution (best order)")
    header["MOCTOOL"] = ("Cupola", "Name of the MOC generator")
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    return buffer.getvalue()


def fraction(cells: Cells) -> float:
    """Return which share of the whole sky cells cover."""
    return float(sum(numbers.size / (12 * 4**order) for order, numbers in cells.items()))


def middle(outlines: Iterable[Outline]) -> tuple[float, float, float]:
    """Return the middle of patches (right ascension, declination) and the circle's diameter around them, in degrees."""
    steps = np.linspace(0.0, 1.0, 5)
    mesh = [part.ravel() for part in np.meshgrid(steps, steps)]
    places = [outline.lonlat(*mesh) for outline in outlines]
    if not places:
        return 0.0, 0.0, 180.0
    lon = np.radians(np.concatenate([place[0] for place in places]))
    lat = np.radians(np.concatenate([place[1] for place in places]))
    good = np.isfinite(lon) & np.isfinite(lat)
    lon, lat = lon[good], lat[good]
    if not lon.size:
        return 0.0, 0.0, 180.0
    vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    mean = vectors.mean(axis=1)
    length = float(np.linalg.norm(mean))
    if length < 1e-3:  # noqa: PLR2004 - all around: no side is the middle
        return 0.0, 0.0, 180.0
    mean /= length
    reach = math.degrees(math.acos(float(np.clip((mean @ vectors).min(), -1.0, 1.0))))
    longitude = math.degrees(math.atan2(mean[1], mean[0])) % 360.0
    return longitude, math.degrees(math.asin(float(np.clip(mean[2], -1.0, 1.0)))), min(2 * reach, 180.0)

"""Where items lie: boxes in degrees of longitude and latitude that may cross the antimeridian or hold a pole."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from cupola.lab.collections.formats.image import Image
    from cupola.lab.collections.placement import Placement

__all__ = ["Box", "BoxIndex", "box_geometry", "check_box", "footprint", "image_box", "outline_box"]

Box = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east where the box crosses the antimeridian."""

_FULL = 360.0
_EDGE_POINTS = 33
_CURVED_EDGE_POINTS = 257
"""Half an orbit turns fast where it passes a pole."""


def check_box(box: Iterable[float]) -> Box:
    """Return `box` as four finite numbers.

    Raises
    ------
    InputError
        When it is no box.
    """
    try:
        west, south, east, north = (float(value) for value in box)
    except (TypeError, ValueError) as error:
        raise InputError(f"A bbox is four numbers (west, south, east, north), not {box!r}.") from error
    if not all(math.isfinite(value) for value in (west, south, east, north)) or south > north:
        raise InputError(f"A bbox is (west, south, east, north) with south below north, not {box!r}.")
    return west, south, east, north


def footprint(document: dict[str, Any]) -> Box | None:
    """Return the box of a STAC item, from its ``bbox`` or else its geometry."""
    given = document.get("bbox")
    if isinstance(given, list) and len(given) in (4, 6):
        half = len(given) // 2
        try:
            return check_box([given[0], given[1], given[half], given[half + 1]])
        except InputError:
            pass  # a broken box: the geometry may still be whole
    points = list(_positions((document.get("geometry") or {}).get("coordinates")))
    if not points:
        return None
    longitudes, latitudes = zip(*points, strict=True)
    return min(longitudes), min(latitudes), max(longitudes), max(latitudes)


def _positions(coordinates: object) -> Iterable[tuple[float, float]]:
    """Walk through nested coordinate lists."""
    if not isinstance(coordinates, list):
        return
    if len(coordinates) > 1 and all(isinstance(value, (int, float)) for value in coordinates[:2]):
        yield float(coordinates[0]), float(coordinates[1])
        return
    for part in coordinates:
        yield from _positions(part)


@lru_cache(maxsize=20_000)
def image_box(image: Image) -> Box | None:
    """Return the box of an image from its edges; nothing for one that has no place.

    On the sky, longitude is right ascension and latitude declination.
    """
    placement = image.placement
    if placement is None:
        return None
    steps = np.linspace(0, 1, _EDGE_POINTS if image.curved is None else _CURVED_EDGE_POINTS)
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = np.concatenate([steps, ones, steps[::-1], zeros]) * image.width
    rows = np.concatenate([zeros, steps, ones, steps[::-1]]) * image.height
    longitudes, latitudes = placement.lonlat(columns, rows)
    if image.curved is None:
        return outline_box(longitudes, latitudes)
    return _curved_box(placement, longitudes, latitudes)


def _curved_box(
    placement: Placement, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]
) -> Box | None:
    """Return the box around an outline that may have gaps, with the poles that lie within."""
    good = np.isfinite(longitudes) & np.isfinite(latitudes)
    box = outline_box(longitudes[good], latitudes[good])
    if box is None:
        return None
    columns, rows = placement.pixels(np.zeros(2), np.array([90.0, -90.0]))
    with np.errstate(invalid="ignore"):
        north, south = (
            (columns >= 0) & (columns <= placement.width) & (rows >= 0) & (rows <= placement.height)
        )
    if not (north or south):
        return box
    return -180.0, -90.0 if south else box[1], 180.0, 90.0 if north else box[3]


def outline_box(longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> Box | None:
    """Return the box around a closed line of points that follow one another.

    Steps of longitude are taken the short way round, so a line across the antimeridian gives west > east; a
    line that goes once around a pole gives a box up to that pole.
    """
    good = np.isfinite(longitudes) & np.isfinite(latitudes)
    if not good.any():
        return None
    if not good.all():
        # The edge leaves the projection's domain, as a global map's corners do: be generous.
        return (
            -180.0,
            max(-90.0, float(latitudes[good].min())),
            180.0,
            min(90.0, float(latitudes[good].max())),
        )
    steps = np.diff(longitudes, append=longitudes[:1])
    steps = (steps + _FULL / 2) % _FULL - _FULL / 2
    south, north = max(-90.0, float(latitudes.min())), min(90.0, float(latitudes.max()))
    if abs(steps.sum()) > _FULL / 2:
        return (-180.0, south, 180.0, 90.0) if south + north > 0 else (-180.0, -90.0, 180.0, north)
    unwrapped = longitudes[0] + np.concatenate([[0.0], np.cumsum(steps[:-1])])
    west, east = float(unwrapped.min()), float(unwrapped.max())
    if east - west >= _FULL - 1e-6:
        return -180.0, south, 180.0, north
    return _wrap(west), south, _wrap(east), north


def _wrap(longitude: float) -> float:
    """Bring a longitude to -180 ... 180; +180 stays."""
    wrapped = (longitude + 180.0) % _FULL - 180.0
    return 180.0 if wrapped == -180.0 and longitude > 0 else wrapped  # noqa: PLR2004


class BoxIndex:
    """Boxes of many items, asked at once with NumPy (10,000 boxes: a fraction of a millisecond)."""

    def __init__(self, boxes: Iterable[Box | None] | NDArray[np.float64]) -> None:
        if not isinstance(boxes, np.ndarray):
            boxes = np.array([(math.nan,) * 4 if box is None else box for box in boxes], dtype=np.float64)
        table = boxes.reshape(-1, 4)
        self._south, self._north = table[:, 1], table[:, 3]
        self._west = table[:, 0]
        self._width = _widths(table[:, 0], table[:, 2])

    def touching(self, box: Box) -> NDArray[np.intp]:
        """Return the numbers of the boxes that touch `box`."""
        west, south, east, north = box
        width = float(_widths(np.array([west]), np.array([east]))[0])
        # Two arcs of a circle touch where the start of one lies within the other.
        ahead = (west - self._west) % _FULL
        behind = (self._west - west) % _FULL
        with np.errstate(invalid="ignore"):
            hit = (
                ((ahead <= self._width) | (behind <= width)) & (self._south <= north) & (self._north >= south)
            )
        return np.flatnonzero(hit)


def _widths(west: NDArray[np.float64], east: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far the boxes reach eastwards, in degrees."""
    width = east - west
    return np.where(np.abs(width) >= _FULL, _FULL, width % _FULL)


def box_geometry(box: Box | None) -> dict[str, Any] | None:
    """Return a box as GeoJSON, cut in two at the antimeridian."""
    if box is None:
        return None
    west, south, east, north = box
    if west <= east:
        return {"type": "Polygon", "coordinates": [_ring(west, south, east, north)]}
    parts = [_ring(west, south, 180.0, north), _ring(-180.0, south, east, north)]
    return {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}


def _ring(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]

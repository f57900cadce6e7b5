"""Two images compared pixel by pixel."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError
from cupola.lab.collections.footprint import Box, outline_box
from cupola.lab.collections.images import describe, open_image
from cupola.lab.projection import lonlat_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Comparison", "compare"]

_WINDOW = 1024
_EDGE = 17


@dataclass(frozen=True)
class Comparison:
    """How far two images agree."""

    pixels: int
    """Of one band."""
    different: int
    """Pixels of which any band differs; missing and missing are equal."""
    largest: float = 0.0
    """Largest difference of values that both have, in the values' own unit."""
    window: tuple[int, int, int, int] | None = None
    """First column and row, columns and rows around all pixels that differ."""
    box: Box | None = None
    """The same in degrees; nothing without a coordinate system."""
    unlike: str | None = None
    """What makes the images incomparable, such as another size."""

    @property
    def identical(self) -> bool:
        """Whether all pixels agree."""
        return self.different == 0 and self.unlike is None


def compare(one: Path, other: Path) -> Comparison:
    """Compare two images of the same grid, window by window.

    Raises
    ------
    ImageError
        When one of them cannot be read.
    """
    try:
        if one.suffix == ".fits":
            with closing(_Sky(one)) as first, closing(_Sky(other)) as second:
                return _compare(first, second)
        with rasterio.open(one) as first, rasterio.open(other) as second:
            return _compare(first, second)
    except RasterioError as error:
        raise ImageError(f"{one} and {other} cannot be compared ({error}).") from error


class _Sky:
    """A FITS file with the few things of a rasterio dataset that are compared."""

    crs = None

    def __init__(self, path: Path) -> None:
        self.image = describe(str(path))
        self._dataset = open_image(str(path))
        self.width, self.height, self.count = self.image.width, self.image.height, self.image.count
        self.shape = (self.height, self.width)
        self.dtypes, self.scales, self.nodatavals = self.image.dtypes, self.image.scales, self.image.nodata

    def read(self, window: Window) -> NDArray[Any]:
        """Return the stored numbers (bands, rows, columns) of a window."""
        return np.asarray(self._dataset.read(list(range(1, self.count + 1)), window=window))

    def close(self) -> None:
        """Close the file."""
        self._dataset.close()

    def lonlat(self, columns: Any, rows: Any) -> tuple[Any, Any]:
        """Return right ascensions and declinations of places in pixels."""
        nowhere = np.full(np.shape(columns), np.nan)
        return (
            (nowhere, nowhere) if self.image.placement is None else self.image.placement.lonlat(columns, rows)
        )


def _compare(first: Any, second: Any) -> Comparison:
    pixels = first.width * first.height
    if unlike := _unlike(first, second):
        return Comparison(pixels, pixels, unlike=unlike)
    different, largest = 0, 0.0
    edges = [math.inf, math.inf, -math.inf, -math.inf]
    for top in range(0, first.height, _WINDOW):
        for left in range(0, first.width, _WINDOW):
            window = Window(left, top, min(_WINDOW, first.width - left), min(_WINDOW, first.height - top))
            apart, most = _window(first, second, window)
            if apart is None:
                continue
            largest = max(largest, most)
            different += int(apart.sum())
            rows, columns = np.flatnonzero(apart.any(axis=1)), np.flatnonzero(apart.any(axis=0))
            found = (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
            edges = [*map(min, edges[:2], found[:2]), *map(max, edges[2:], found[2:])]
    if not different:
        return Comparison(pixels, 0)
    left, top, right, bottom = (int(edge) for edge in edges)
    return Comparison(
        pixels,
        different,
        largest,
        (left, top, right - left, bottom - top),
        _box(first, left, top, right, bottom),
    )


def _unlike(first: Any, second: Any) -> str | None:
    """Say why two images cannot be compared pixel by pixel."""
    if first.shape != second.shape:
        return f"{first.width} x {first.height} pixels became {second.width} x {second.height}"
    if first.count != second.count:
        return f"{first.count} bands became {second.count}"
    if first.dtypes != second.dtypes:
        return f"numbers of type {first.dtypes[0]} became {second.dtypes[0]}"
    if isinstance(first, _Sky):
        corners = np.array([0.0, first.width]), np.array([0.0, first.height])
        same = np.allclose(first.lonlat(*corners), second.lonlat(*corners), rtol=0, atol=1e-9, equal_nan=True)
        return None if same else "the image lies elsewhere"
    if first.crs != second.crs or not first.transform.almost_equals(second.transform):
        return "the image lies elsewhere"
    return None


def _window(first: Any, second: Any, window: Window) -> tuple[NDArray[np.bool_] | None, float]:
    """Return which pixels of a window differ, nothing where none does, and the largest difference."""
    one, other = first.read(window=window), second.read(window=window)
    apart = one != other
    if one.dtype.kind == "f":
        apart &= ~(np.isnan(one) & np.isnan(other))
    if not apart.any():
        return None, 0.0
    known = apart & _known(one, first) & _known(other, second)
    scale = np.array(first.scales).reshape(-1, 1, 1)
    with np.errstate(invalid="ignore"):
        away = np.abs(one.astype(np.float64) - other.astype(np.float64)) * scale
    away = away[known & np.isfinite(away)]
    return apart.any(axis=0), float(away.max()) if away.size else 0.0


def _known(values: NDArray[Any], source: Any) -> NDArray[np.bool_]:
    """Return where there is data."""
    known: NDArray[np.bool_] = np.ones(values.shape, dtype=bool)
    for number, missing in enumerate(source.nodatavals):
        if missing is not None:
            known[number] = ~np.isnan(values[number]) if math.isnan(missing) else values[number] != missing
    return known


def _box(source: Any, left: int, top: int, right: int, bottom: int) -> Box | None:
    """Return the box in degrees around a window."""
    if not source.crs and not isinstance(source, _Sky):
        return None
    steps = np.linspace(0, 1, _EDGE)
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    columns = left + np.concatenate([steps, ones, steps[::-1], zeros]) * (right - left)
    rows = top + np.concatenate([zeros, steps, ones, steps[::-1]]) * (bottom - top)
    if isinstance(source, _Sky):
        return outline_box(*source.lonlat(columns, rows))
    a, b, c, d, e, f = source.transform[:6]
    return outline_box(*lonlat_of(source.crs).inverse(a * columns + b * rows + c, d * columns + e * rows + f))

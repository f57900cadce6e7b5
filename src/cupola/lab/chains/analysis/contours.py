"""Contour lines as vectors, in longitude and latitude of the body."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains.compute.areas import WINDOW, bounds_of_box, frame_of
from cupola.lab.chains.compute.evaluate import on_grid
from cupola.lab.collections.footprint import check_box

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import geopandas
    from numpy.typing import NDArray

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.compute.areas import Bounds, Frame

__all__ = ["contours"]

_MOST_PIXELS = 100_000_000
_MOST_LEVELS = 2000
"""In one window."""
_WIDE = 4 * WINDOW

Line = Any  # NDArray[np.float64] (points, 2)


def contours(
    chain: Chain,
    interval: float,
    *,
    base: float = 0.0,
    bbox: Iterable[float] | None = None,
    metres: float | None = None,
) -> geopandas.GeoDataFrame:
    """Return contour lines as vectors; see `Chain.contours`."""
    import geopandas
    import shapely

    box = None if bbox is None else check_box(bbox)
    items = chain.collection.items if box is None else chain.collection.touching(box)
    if not items:
        raise NotFoundError(
            f"No image of {chain.collection} {'is there' if box is None else f'touches {box}'}."
        )
    frame = frame_of(chain, items, metres)
    boxes = [box] if box is not None else [item.bbox for item in items if item.bbox]
    bounds = _joined([found for one in boxes if (found := bounds_of_box(frame, one)) is not None])
    if bounds is None:
        raise NotFoundError(f"No pixel of {chain.collection} lies in {box}.")
    pixels = (bounds[2] - bounds[0]) * (bounds[3] - bounds[1])
    if pixels > _MOST_PIXELS:
        raise LimitError(
            f"That is {pixels / 1e6:,.0f} million pixels, more than contour lines are drawn through at once: give a smaller "
            "bbox=, or larger pixels with metres=."
        )
    parts: dict[float, list[Line]] = {}
    for window in _windows(bounds):
        values = on_grid(chain, frame.window(window), max_items=None).data
        if len(values) != 1:
            raise InputError("Contour lines are those of one band: choose one, such as chain[0].")
        for level, line in _lines(values[0], interval, base):
            parts.setdefault(level, []).append(line + np.array(window[:2]))
    levels: list[float] = []
    lines: list[Any] = []
    for level in sorted(parts):
        for line in _merged(parts[level]):
            for piece in _on_body(line, frame):
                levels.append(level)
                lines.append(piece)
    return geopandas.GeoDataFrame(
        {"level": np.array(levels, dtype=float)},
        geometry=shapely.linestrings(
            np.concatenate(lines), indices=np.repeat(np.arange(len(lines)), [len(line) for line in lines])
        )
        if lines
        else [],
        crs=frame.lonlat_crs,
    )


def _joined(found: list[Bounds]) -> Bounds | None:
    if not found:
        return None
    lefts, tops, rights, bottoms = zip(*found, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _windows(bounds: Bounds) -> Iterator[Bounds]:
    """Yield windows that share a column and a row of pixels with the next, so that lines go on without a gap."""
    left, top, right, bottom = bounds
    for row, column in itertools.product(
        range(top, max(bottom - 1, top + 1), _WIDE), range(left, max(right - 1, left + 1), _WIDE)
    ):
        yield column, row, min(column + _WIDE + 1, right), min(row + _WIDE + 1, bottom)


def _lines(heights: NDArray[np.float32], interval: float, base: float) -> Iterator[tuple[float, Line]]:
    """Yield levels and lines in pixels from the corner; pixel centres lie at halves."""
    import contourpy

    finite = heights[np.isfinite(heights)]
    if finite.size == 0 or min(heights.shape) < 2:  # noqa: PLR2004 - a line needs two rows
        return
    low, high = (
        math.ceil((float(finite.min()) - base) / interval),
        math.floor((float(finite.max()) - base) / interval),
    )
    if high - low > _MOST_LEVELS:
        raise LimitError(
            f"An interval of {interval:g} gives {high - low:,} contour lines between {finite.min():g} and {finite.max():g}: "
            "take a larger one."
        )
    rows, columns = heights.shape
    drawn = contourpy.contour_generator(
        np.arange(columns) + 0.5,
        np.arange(rows) + 0.5,
        np.ma.masked_invalid(heights.astype(np.float64)),
        name="serial",
    )
    for number in range(low, high + 1):
        level = base + number * interval
        for line in drawn.lines(level):
            yield level, np.asarray(line)


def _merged(lines: list[Line]) -> Iterator[Line]:
    """Put together lines that were cut at the seams of windows: their ends are the same to the last digit."""
    by_start: dict[tuple[float, float], list[int]] = {}
    for number, line in enumerate(lines):
        by_start.setdefault(_end(line[0]), []).append(number)
    before: dict[int, int] = {}
    after: dict[int, int] = {}
    for number, line in enumerate(lines):
        if _end(line[0]) == _end(line[-1]):
            continue
        # Higher ground is always on the same side, so lines go on from end to start.
        nexts = [one for one in by_start.get(_end(line[-1]), []) if one not in before and one != number]
        if nexts:
            after[number], before[nexts[0]] = nexts[0], number
    done: set[int] = set()
    for number in [*(one for one in range(len(lines)) if one not in before), *range(len(lines))]:
        if number in done:
            continue
        chained = [lines[number]]
        done.add(number)
        while number in after and after[number] not in done:
            number = after[number]  # noqa: PLW2901 - walk along
            done.add(number)
            chained.append(lines[number][1:])
        yield np.concatenate(chained)


def _end(point: Any) -> tuple[float, float]:
    return round(float(point[0]), 6), round(float(point[1]), 6)


def _on_body(line: Line, frame: Frame) -> Iterator[Line]:
    """Yield a line in degrees, cut where it crosses the antimeridian and where the plane has no place."""
    longitudes, latitudes = frame.grid.lonlat(line[:, 0], line[:, 1])
    points = np.column_stack([longitudes, latitudes])
    good = np.isfinite(points).all(axis=1)
    jumps = np.abs(np.diff(points[:, 0])) > 180  # noqa: PLR2004 - half a turn
    breaks = np.flatnonzero(jumps | ~good[1:] | ~good[:-1]) + 1
    for piece in np.split(points, breaks):
        if len(piece) > 1 and np.isfinite(piece).all():
            yield piece[::-1]  # contourpy has higher ground on the left where y goes up, and rows go down

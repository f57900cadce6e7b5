"""Which items may still show something where pixels of a grid are missing: the others need not be opened.

Items that lie over one another are looked at one after the other, the newest first. Of a hundred thousand of them most lie
where newer ones left nothing to show. Their boxes tell that for all at once, and only what may show something is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.collections.table import Items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.items import Item

__all__ = ["Gaps", "Uncovered", "boxes_of"]

_BINS = 256
"""Cells along each side in which missing pixels are counted."""
_FULL = 360.0
_AT_ONCE = 8
"""So many items are looked at between two looks at what is missing."""


def boxes_of(items: Sequence[Item]) -> NDArray[np.float64]:
    """Return the boxes of items (n, 4) in degrees: west, south, east, north; NaN where none is known."""
    if isinstance(items, Items):
        return items.table.light.boxes[items.rows]
    boxes = [(np.nan,) * 4 if item.box is None else item.box for item in items]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


class Gaps:
    """Which of some items have a place of a grid in their boxes at which something is missing.

    A box in degrees is larger than the image in it, where that is turned: so what images really cover is learned from those
    that were read, as the images of a time series with one box have one footprint.
    """

    def __init__(self, grid: AnyGrid, items: Sequence[Item]) -> None:
        self.boxes = boxes_of(items)
        _, groups = np.unique(np.round(self.boxes, 6), axis=0, return_inverse=True)
        self._group: NDArray[np.intp] = groups.reshape(-1)
        self._covers: dict[int, NDArray[np.bool_]] = {}
        columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
        longitudes, latitudes = (np.asarray(axis).ravel() for axis in grid.lonlat(columns, rows))
        self._known = np.isfinite(longitudes) & np.isfinite(latitudes)
        longitudes, latitudes = longitudes[self._known], latitudes[self._known]
        if not longitudes.size:
            return
        radians = np.radians(longitudes)
        self._middle = float(np.degrees(np.arctan2(np.sin(radians).sum(), np.cos(radians).sum())))
        aside = self._beside(longitudes)
        self._low = np.array([aside.min(), latitudes.min()])
        size = np.array([aside.max(), latitudes.max()]) - self._low
        self._step = np.maximum(size, 1e-12) / _BINS
        across, down = self._bins(aside, 0), self._bins(latitudes, 1)
        self._cells = np.clip(down, 0, _BINS - 1) * _BINS + np.clip(across, 0, _BINS - 1)

    def learns(self, row: int) -> bool:
        """Tell whether it is worth knowing what an item covers: it has a box, of which that is not known."""
        return int(self._group[row]) not in self._covers and not np.isnan(self.boxes[row]).any()

    def learn(self, row: int, covers: NDArray[np.bool_]) -> None:
        """Take note which places of the grid (rows, columns) lie in the images of an item."""
        self._covers[int(self._group[row])] = covers

    def seen(self, rows: NDArray[np.intp], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which of the items in these rows may show something where pixels of the grid are missing."""
        found = self.seen_by(self.boxes[rows], missing)
        groups = self._group[rows]
        for group in self._covers.keys() & set(groups[found].tolist()):
            if not (missing & self._covers[group]).any():
                found[groups == group] = False
        return found

    def _beside(self, longitudes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far longitudes are from the middle, -180 to 180."""
        beside: NDArray[np.float64] = (longitudes - self._middle + _FULL / 2) % _FULL - _FULL / 2
        return beside

    def _bins(self, values: NDArray[np.float64], axis: int) -> NDArray[np.intp]:
        # What is far outside is as good as just outside.
        found = np.floor((values - self._low[axis]) / self._step[axis])
        bins: NDArray[np.intp] = np.clip(found, -2, _BINS + 1).astype(np.intp)
        return bins

    def seen_by(self, boxes: NDArray[np.float64], missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell which boxes have a missing pixel in them, or right beside them; those without a place may have.

        Parameters
        ----------
        boxes
            (n, 4): west, south, east, north in degrees.
        missing
            (rows, columns) of the grid.
        """
        if not self._known.any():
            return np.ones(len(boxes), dtype=np.bool_)
        counts = np.bincount(self._cells[missing.ravel()[self._known]], minlength=_BINS * _BINS)
        sums = np.zeros((_BINS + 1, _BINS + 1), dtype=np.int64)
        sums[1:, 1:] = counts.reshape(_BINS, _BINS).cumsum(axis=0).cumsum(axis=1)
        unknown: NDArray[np.bool_] = np.asarray(np.isnan(boxes).any(axis=1))
        placed = np.where(unknown[:, np.newaxis], 0.0, boxes)
        width = placed[:, 2] - placed[:, 0]
        width = np.where(np.abs(width) >= _FULL, _FULL, width % _FULL)
        west = self._beside(placed[:, 0])
        bottom, top = self._edges(placed[:, 1], placed[:, 3], 1)
        found = unknown.copy()
        for turn in (-_FULL, 0.0, _FULL):
            left, right = self._edges(west + turn, west + turn + width, 0)
            within = sums[top, right] - sums[bottom, right] - sums[top, left] + sums[bottom, left]
            found |= within > 0
        return found

    def _edges(
        self, low: NDArray[np.float64], high: NDArray[np.float64], axis: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the cells between two edges, with one more on both sides, as a half-open range."""
        first = np.clip(self._bins(low, axis) - 1, 0, _BINS)
        last = np.clip(self._bins(high, axis) + 2, 0, _BINS)
        return first, np.maximum(first, last)


class Uncovered:
    """Items one after the other, without those that lie where nothing is missing any more.

    Parameters
    ----------
    items
        The newest first.
    grid
        What they are laid on.
    most
        How many may be looked at; nothing where all may be.
    """

    def __init__(self, items: Sequence[Item], grid: AnyGrid, most: int | None = None) -> None:
        self.items = items
        self.most = most
        self.missing: NDArray[np.bool_] | None = None
        """Of the grid (rows, columns): what still has no value; to be set by whoever looks at the items."""
        self._grid = grid
        self._gaps: Gaps | None = None
        self._now = 0
        self._rest: NDArray[np.intp] = np.arange(0)

    def __iter__(self) -> Iterator[Item]:
        first = min(_AT_ONCE, len(self.items), len(self.items) if self.most is None else self.most)
        for number in range(first):
            self._now = number
            yield self.items[number]
        self._rest = np.arange(first, len(self.items))
        looked = first
        while len(self._rest) and (self.most is None or looked < self.most):
            self._drop()
            count = _AT_ONCE if self.most is None else min(_AT_ONCE, self.most - looked)
            chosen, self._rest = self._rest[:count], self._rest[count:]
            for number in chosen.tolist():
                self._now = number
                yield self.items[number]
            looked += len(chosen)

    def _drop(self) -> None:
        """Forget items that lie where nothing is missing."""
        if self.missing is None:
            return
        if self._gaps is None:
            self._gaps = Gaps(self._grid, self.items)
        self._rest = self._rest[self._gaps.seen(self._rest, self.missing)]

    @property
    def learns(self) -> bool:
        """Whether it is worth knowing what the item that was yielded last covers."""
        return self._gaps is not None and self._gaps.learns(self._now)

    def learn(self, covers: NDArray[np.bool_]) -> None:
        """Take note which places of the grid lie in the images of the item that was yielded last."""
        if self._gaps is not None:
            self._gaps.learn(self._now, covers)

    @property
    def left(self) -> int:
        """How many items may show something and were not looked at, once it has come to its end."""
        if not len(self._rest) or (isinstance(self._grid, ImageGrid) and self._grid.image.placement is None):
            return 0
        if self.missing is not None:
            if not self.missing.any():
                return 0
            self._drop()
        return len(self._rest)

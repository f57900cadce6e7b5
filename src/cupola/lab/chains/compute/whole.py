"""The bands of one item at full resolution, on the grid of the finest of them, window by window."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError, InputError
from cupola.lab.chains.compute.evaluation import Evaluation
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.context import Context
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.collections.images import open_image, physical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from numpy.typing import NDArray

    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.images import Band, Image
    from cupola.lab.collections.items import Item

__all__ = ["Part", "Whole", "windows"]

_WINDOW = 1024
"""Rows and columns of a window, or the file's own blocks where these are larger."""
_THREADS = 2
"""To decode with: GDAL leaves the interpreter alone meanwhile."""
_SAME = 1e-6
"""How far two grids may be apart, in pixels, and still be one."""


@dataclass(frozen=True)
class Part:
    """A window, the window with its halo, and what is stored there."""

    inner: Window
    outer: Window
    raw: dict[tuple[str, int], NDArray[Any]]


class Whole:
    """Reads the bands that a chain needs of one item; use it as a context, from one thread at a time."""

    def __init__(self, chain: Chain, item: Item) -> None:
        self.chain = chain
        self.item = item
        self._evaluation = Evaluation(chain.program, item.body, limited=False)
        images = self._evaluation.images(chain.program.last, item)
        if not images:
            raise InputError("This chain reads nothing of its items; run it over a grid instead.")
        self.grid = images[0]
        """The file whose grid the result has: the one with the smallest pixels."""
        self._images = {image.path: image for image in images}
        self._direct = self._found_direct()
        self._files: dict[str, set[int]] = {}
        for found in self._direct.values():
            for band in found:
                self._files.setdefault(band.path, set()).add(band.index)
        self._stack = ExitStack()
        self._open: dict[str, Any] = {}

    def _found_direct(self) -> dict[int, list[Band]]:
        """Return the bands of each line that are read as they are stored: the nearest pixels, on the same axes."""
        program = self.chain.program
        direct: dict[int, list[Band]] = {}
        for place in program.section(program.last).leaves:
            step = program.lines[place].step
            if not isinstance(step, Bands) or step.source != self.chain.per_item:
                continue
            bands = [
                step.taken(band) for name in step.names for band in self._evaluation.band(self.item, name)
            ]
            plain = step.resampling in {None, "nearest"}
            if all(
                _offset(image, self.grid) is not None and (plain or image.placement == self.grid.placement)
                for image in (self._images[band.path] for band in bands)
            ):
                direct[place] = bands
        return direct

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def files(self) -> list[str]:
        """The files that are read."""
        return list(self._images)

    def read(self, window: Window) -> Part:
        """Read all bands in `window` and its halo, as stored.

        Raises
        ------
        ImageError
            When a file is damaged.
        """
        program = self.chain.program
        outer = _grown(window, program.section(program.last).halo, self.grid)
        raw: dict[tuple[str, int], NDArray[Any]] = {}
        for path, indexes in self._files.items():
            wanted, image = sorted(indexes), self._images[path]
            places = _places(image, self.grid, outer)
            try:
                # All bands of a file at once: files that store pixels together are decoded once.
                layers = self._dataset(path).read(wanted, window=places.window)
                mask = self._dataset(path).dataset_mask(window=places.window) if image.masked else None
            except RasterioError as error:
                raise ImageError(
                    f"{path} cannot be read to its end: the file is damaged or cut off."
                ) from error
            for index, layer in zip(wanted, layers, strict=True):
                raw[path, index] = places.pick(layer)
            if mask is not None:
                raw[path, 0] = places.pick(mask)
            if places.outside is not None:
                raw[path, -1] = places.outside
        return Part(window, outer, raw)

    def compute(self, part: Part) -> NDArray[np.float32]:
        """Return the chain's values (bands, rows, columns) in the part's inner window."""
        program = self.chain.program
        outer = part.outer
        places = ImageGrid.of(self.grid).window(outer.col_off, outer.row_off, outer.width, outer.height)

        def leaf(place: int) -> NDArray[np.float32]:
            if place in self._direct:
                return np.stack([self._values(band, part) for band in self._direct[place]])
            item = None if program.lines[place].source is None else self.item
            values = self._evaluation.values(place, places, item)
            missing = np.full((1, outer.height, outer.width), np.nan, dtype=np.float32)
            return missing if values is None else values

        context = Context(places, self.item, self.item.body)
        values = compute(program, program.section(program.last), leaf, context)
        self._evaluation.forget()
        top, left = part.inner.row_off - part.outer.row_off, part.inner.col_off - part.outer.col_off
        return values[:, top : top + part.inner.height, left : left + part.inner.width]

    def _values(self, band: Band, part: Part) -> NDArray[np.float32]:
        raw = part.raw[band.path, band.index]
        values = physical(raw, band, self._images[band.path], part.raw.get((band.path, 0)))
        outside = part.raw.get((band.path, -1))
        if outside is not None:
            values[outside] = np.nan
        return values

    def _dataset(self, path: str) -> Any:
        if path not in self._open:
            tiff = self._images[path].driver == "GTiff"
            options = {"NUM_THREADS": str(_THREADS)} if tiff else {}
            # Not entered as a context: rasterio ties that to the thread, and reading goes on in another one.
            self._open[path] = opened = open_image(path, **options)
            self._stack.callback(opened.close)
        return self._open[path]


@dataclass(frozen=True)
class _Places:
    """Which pixels of an image stand at the pixels of a window of another grid: the nearest."""

    window: Window
    rows: NDArray[np.intp] | None = None
    columns: NDArray[np.intp] | None = None
    outside: NDArray[np.bool_] | None = None

    def pick(self, layer: NDArray[Any]) -> NDArray[Any]:
        return layer if self.rows is None or self.columns is None else layer[self.rows][:, self.columns]


def _offset(image: Image, grid: Image) -> tuple[float, float, float, float] | None:
    """Return scale and offset from the grid's columns and rows to the image's; nothing if they share no axes."""
    if image.wkt != grid.wkt:
        return None
    if not image.wkt and (image.width, image.height) != (grid.width, grid.height):
        return None
    a, b, c, d, e, f = (~image.transform)[:6]
    ga, gb, gc, gd, ge, gf = grid.transform[:6]
    scale_x, shear_x, offset_x = a * ga + b * gd, a * gb + b * ge, a * gc + b * gf + c
    shear_y, scale_y, offset_y = d * ga + e * gd, d * gb + e * ge, d * gc + e * gf + f
    sheared = (
        abs(shear_x) * grid.height > _SAME * grid.height or abs(shear_y) * grid.width > _SAME * grid.width
    )
    if sheared or scale_x <= 0 or scale_y <= 0:
        return None
    return scale_x, offset_x, scale_y, offset_y


def _places(image: Image, grid: Image, window: Window) -> _Places:
    """Return which pixels of `image` stand at the pixels of `window`."""
    found = _offset(image, grid)
    if found is None:
        raise InputError(f"{image.path} and {grid.path} lie in different coordinate systems.")
    scale_x, offset_x, scale_y, offset_y = found
    same = abs(scale_x - 1) * grid.width < _SAME and abs(scale_y - 1) * grid.height < _SAME
    same = same and abs(offset_x) < _SAME and abs(offset_y) < _SAME
    if same and (image.width, image.height) == (grid.width, grid.height):
        return _Places(window)
    columns = np.floor((np.arange(window.width) + window.col_off + 0.5) * scale_x + offset_x + _SAME).astype(
        np.intp
    )
    rows = np.floor((np.arange(window.height) + window.row_off + 0.5) * scale_y + offset_y + _SAME).astype(
        np.intp
    )
    beyond_x, beyond_y = (columns < 0) | (columns >= image.width), (rows < 0) | (rows >= image.height)
    columns, rows = np.clip(columns, 0, image.width - 1), np.clip(rows, 0, image.height - 1)
    left, top = int(columns.min()), int(rows.min())
    outside = beyond_y[:, np.newaxis] | beyond_x if beyond_x.any() or beyond_y.any() else None
    read = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
    return _Places(read, rows - top, columns - left, outside)


def _grown(window: Window, halo: int, grid: Image) -> Window:
    """Return the window with `halo` more pixels on all sides, as far as the image goes.

    It ends where the image ends, so that a function sees the image's true edge, as it would with the whole array.
    """
    top, left = max(0, window.row_off - halo), max(0, window.col_off - halo)
    bottom = min(grid.height, window.row_off + window.height + halo)
    right = min(grid.width, window.col_off + window.width + halo)
    return Window(left, top, right - left, bottom - top)


def windows(grid: Image, size: int = _WINDOW) -> Iterator[Window]:
    """Yield windows that cover the grid, each a whole number of the file's blocks so that none is decoded twice."""
    block_rows, block_columns = (max(1, edge) for edge in grid.blocks)
    if block_columns >= grid.width > 1:
        # Strips, as planetary files have: whole rows, as many as make up the same number of pixels.
        columns = grid.width
        rows = max(1, size * size // grid.width)
        rows = rows // block_rows * block_rows or min(block_rows, max(rows, 1))
    else:
        columns = max(1, size // block_columns) * block_columns
        rows = max(1, size // block_rows) * block_rows
    columns, rows = min(columns, 2 * size, grid.width) or 1, min(rows, grid.height) or 1
    for top in range(0, grid.height, rows):
        for left in range(0, grid.width, columns):
            yield Window(left, top, min(columns, grid.width - left), min(rows, grid.height - top))

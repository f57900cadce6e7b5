"""Pixels of image files at the places of a grid, from the fitting level of the pyramid.

GDAL's warper is not used for tiles: a tile needs the values at 256 x 256 places and no more. The places are
carried from the grid to the image (`places`), the window around them is read from one overview, and NumPy picks the
pixels. That takes half of the CPU time, needs no warped file per tile, works across the antimeridian and around the
poles, and is the same for planes, swaths and the sky.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError
from cupola.lab.chains.pixels.grids import AnyGrid, Grid, HipsGrid, ImageGrid, tile_grid
from cupola.lab.chains.pixels.places import lying
from cupola.lab.chains.pixels.resampling import MANY, METHODS, SMOOTH, between, check, gather, inside
from cupola.lab.collections.images import describe, fingerprint, open_image, physical

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.collections.images import Band, Image

__all__ = [
    "METHODS",
    "AnyGrid",
    "Grid",
    "HipsGrid",
    "ImageGrid",
    "Sampler",
    "dataset",
    "tile_grid",
]

Floats = Any  # NDArray[np.float64], written short

_OPEN_FILES = 48
"""Datasets that each thread keeps open."""
_SPARSE = 4
"""Pixels in the window for each that is wanted, from which on they are picked one by one where the file allows it."""
_MAX_READ = 4096
"""Rows and columns read at most for one tile: a file without a pyramid is decimated by GDAL instead."""
_MOST_SAMPLES = 16
"""Samples along each side of a pixel for averages: where more pixels lie under one, they are an even choice."""
_SAMPLES_AT_ONCE = 2_000_000

_local = threading.local()


def dataset(path: str, level: int | None = None) -> Any:
    """Return an open dataset of this thread, kept until the file changes; `level` chooses an overview.

    GDAL datasets are not safe to share between threads, so each thread has its own.
    """
    cache: OrderedDict[tuple[Any, ...], Any] | None
    cache = getattr(_local, "datasets", None)
    if cache is None:
        cache = _local.datasets = OrderedDict()
    key = (*fingerprint(path), level)
    found = cache.get(key)
    if found is not None:
        cache.move_to_end(key)
        return found
    options = {} if level is None else {"overview_level": level}
    opened = open_image(path, **options)
    cache[key] = opened
    while len(cache) > _OPEN_FILES:
        cache.popitem(last=False)[1].close()
    return opened


class Sampler:
    """Reads bands of images at the places of one grid; what bands of one image grid share is computed once."""

    def __init__(self, grid: AnyGrid) -> None:
        self.grid = grid
        self._places: dict[str, _Places | None] = {}
        self._raw: dict[tuple[Any, ...], NDArray[Any]] = {}

    def prefetch(self, bands: list[Band]) -> bool:
        """Read all wanted bands of each file in one go, as files that store pixels together are decoded once.

        Returns whether any of them has a pixel here.
        """
        found = False
        by_path: dict[str, list[int]] = {}
        for band in bands:
            by_path.setdefault(band.path, []).append(band.index)
        for path, indexes in by_path.items():
            image = describe(path)
            places = self._find(image)
            if places is None:
                continue
            found = True
            wanted = sorted(set(indexes))
            for index, raw in zip(wanted, places.read(image, wanted), strict=True):
                self._raw[path, index] = raw
            if image.masked:
                self._raw[path, 0] = places.read_mask(image)
        return found

    def touches(self, bands: list[Band]) -> bool:
        """Return whether any of the bands has a pixel here; nothing is read."""
        return any(self._find(describe(path)) is not None for path in {band.path for band in bands})

    def covered(self, image: Image) -> NDArray[np.bool_]:
        """Tell which of the grid's places (rows, columns) lie in an image."""
        places = self._find(image)
        shape = self.grid.height, self.grid.width
        covered = np.full(shape, places is not None and places.inside is None)
        if places is not None and places.inside is not None:
            covered[places.inside] = True
        return covered

    def forget(self) -> None:
        """Let go of what was read, and keep where places lie: the next image may lie on the same grid."""
        self._raw.clear()

    def decimation(self, image: Image) -> float:
        """Return how many pixels of an image make one of the level of the pyramid that is read of it."""
        places = self._find(image)
        return 1.0 if places is None or places.level is None else float(image.overviews[places.level])

    def read(self, band: Band, resampling: str = "nearest") -> NDArray[np.float32]:
        """Return the band's physical values (rows, columns) at the grid's places, NaN outside of the image.

        Parameters
        ----------
        band
            Which one.
        resampling
            ``nearest`` (pixels as they are), ``bilinear`` or ``cubic`` (between pixels of the fitting level of the
            pyramid), ``average`` or ``mode`` (of the pixels under each of the grid's; as ``nearest`` where the grid
            is the finer one).

        Raises
        ------
        ImageError
            When the file cannot be read.
        InputError
            When there is no such resampling.
        """
        image = describe(band.path)
        places = self._find(image)
        if places is None:
            return np.full((self.grid.height, self.grid.width), np.nan, dtype=np.float32)
        if check(resampling) in SMOOTH:
            return self._spread(band, image, places, resampling)
        if resampling in MANY and places.factor > 1:
            return self._gathered(band, places, resampling)
        if (band.path, band.index) not in self._raw:
            self.prefetch([band])
        raw = self._raw[band.path, band.index]
        return places.put(physical(raw, band, image, self._raw.get((band.path, 0))))

    def _find(self, image: Image) -> _Places | None:
        key = image.lattice
        if image.placement is None or isinstance(self.grid, ImageGrid):
            key = f"{image.path} {key}"
        if key not in self._places:
            self._places[key] = _find_places(self.grid, image)
        return self._places[key]

    def _spread(self, band: Band, image: Image, places: _Places, method: str) -> NDArray[np.float32]:
        """Return values between the pixels of the fitting level."""
        source = dataset(image.path, places.level)
        if places.sparse(source):
            return places.put(_between_picked(band, image, source, places.exact, method))
        window, left, top = places.around(image, 2)
        values = _physical_block(band, image, places.level, window)
        columns, rows = places.near
        aside, below = int(places.window.col_off) - left, int(places.window.row_off) - top
        return places.put(between(values, columns + aside, rows + below, method))

    def _gathered(self, band: Band, places: _Places, method: str) -> NDArray[np.float32]:
        """Return averages or modes of all pixels under each of the grid's, some rows of the grid at a time."""
        times = min(_MOST_SAMPLES, max(1, int(np.ceil(places.factor - 1e-6))))
        grid = self.grid
        values = np.full((grid.height, grid.width), np.nan, dtype=np.float32)
        rows = max(1, _SAMPLES_AT_ONCE // (grid.width * times * times))
        for top in range(0, grid.height, rows):
            strip = grid.window(0, top, grid.width, min(rows, grid.height - top))
            samples = Sampler(strip.finer(times)).at_level(band, places.level)
            if samples is not None:
                values[top : top + strip.height] = gather(samples, times, method)
        return values

    def at_level(self, band: Band, level: int | None) -> NDArray[np.float32] | None:
        """Return the nearest pixels of one level of the pyramid; nothing where the band has none here."""
        image = describe(band.path)
        places = _find_places(self.grid, image, level)
        if places is None:
            return None
        mask = places.read_mask(image) if image.masked else None
        return places.put(physical(places.read(image, [band.index])[0], band, image, mask))


def _between_picked(
    band: Band, image: Image, source: Any, places: tuple[Floats, Floats], method: str
) -> NDArray[np.float32]:
    """Return values between pixels that are picked one by one."""
    columns, rows = np.broadcast_arrays(*places)
    left, top = (np.floor(axis - 0.5) for axis in (columns, rows))
    corner = left.astype(np.intp), top.astype(np.intp)
    part_x, part_y = (columns - left - 0.5).astype(np.float32), (rows - top - 0.5).astype(np.float32)
    if method == "bilinear":
        found = _of_four(band, image, source, corner, (part_x, part_y))
        if not np.isnan(found).any():
            return found
    # Each place gets its own few pixels, side by side in a picture of their own.
    size = 4 if method == "cubic" else 2
    before = size // 2 - 1
    steps = np.arange(size) - before
    across = corner[0].ravel()[:, np.newaxis] + steps
    down = corner[1].ravel()[:, np.newaxis] + steps[:, np.newaxis, np.newaxis]
    raw = source.pick(band.index, inside(down, source.height), inside(across, source.width)[np.newaxis])
    values = physical(raw.reshape(size, -1), band, image)
    own_columns = np.arange(columns.size).reshape(columns.shape) * size + before + 0.5 + part_x
    return between(values, own_columns, before + 0.5 + part_y, method)


def _of_four(
    band: Band, image: Image, source: Any, corner: tuple[Any, Any], part: tuple[Any, Any]
) -> NDArray[np.float32]:
    """Return what lies between four pixels from `corner` (column, row) on; NaN where one of them is missing."""
    columns = [inside(corner[0] + step, source.width) for step in (0, 1)]
    found: NDArray[np.float32] | None = None
    for step, weight_y in ((0, 1 - part[1]), (1, part[1])):
        row = inside(corner[1] + step, source.height)
        one, other = (physical(source.pick(band.index, row, column), band, image) for column in columns)
        # In place: an array of this size costs more to get than to fill.
        other -= one
        other *= part[0]
        one += other
        one *= weight_y
        found = one if found is None else np.add(found, one, out=found)
    return np.empty(0, dtype=np.float32) if found is None else found


def _physical_block(band: Band, image: Image, level: int | None, window: Window) -> NDArray[np.float32]:
    """Read a window of one level as physical values."""
    source = dataset(image.path, level)
    shape = (min(int(window.height), _MAX_READ), min(int(window.width), _MAX_READ))
    try:
        raw = source.read([band.index], window=window, out_shape=(1, *shape), resampling=Resampling.nearest)[
            0
        ]
        mask = source.dataset_mask(window=window, out_shape=shape) if image.masked else None
    except RasterioError as error:
        raise _damaged(image) from error
    values = physical(raw, band, image, mask)
    if shape != (window.height, window.width):
        down = np.arange(int(window.height)) * shape[0] // int(window.height)
        across = np.arange(int(window.width)) * shape[1] // int(window.width)
        values = values[down][:, across]
    return values


@dataclass(frozen=True)
class _Places:
    """Where in an image the places of a grid lie."""

    size: tuple[int, int]
    """Rows and columns of the grid."""
    inside: NDArray[np.bool_] | tuple[slice, slice] | None
    """Of the grid: whether the place is in the image, or which rows and columns are; nothing where all are."""
    near: tuple[Floats, Floats]
    """Columns and rows of the places inside, in pixels of the level from the corner of `window`, between its pixels;
    one row of columns and one column of rows if straight."""
    window: Window
    """In pixels of the level."""
    level: int | None
    shape: tuple[int, int]
    """As read: the window's own size, or less where GDAL decimates."""
    factor: float
    """How many pixels of the level make one of the grid."""

    def read(self, image: Image, indexes: list[int]) -> list[NDArray[Any]]:
        """Return the stored numbers of these bands at the places inside."""
        source = dataset(image.path, self.level)
        if self.sparse(source):
            columns, rows = (axis.astype(np.intp) for axis in self.exact)
            rows, columns = np.minimum(rows, source.height - 1), np.minimum(columns, source.width - 1)
            return [source.pick(index, rows, columns) for index in indexes]
        try:
            block = source.read(
                indexes,
                window=self.window,
                out_shape=(len(indexes), *self.shape),
                resampling=Resampling.nearest,
            )
        except RasterioError as error:
            raise _damaged(image) from error
        return [self.pick(layer) for layer in block]

    @property
    def exact(self) -> tuple[Floats, Floats]:
        """Columns and rows of the places inside, in pixels of the level."""
        columns, rows = self.near
        return columns + float(self.window.col_off), rows + float(self.window.row_off)

    @cached_property
    def _index(self) -> NDArray[np.intp] | tuple[slice, slice]:
        """Which of the pixels that were read stand at the places inside: their numbers, or a rectangle of them."""
        columns, rows = (
            _numbers(axis, int(whole), part)
            for axis, whole, part in zip(
                self.near, (self.window.width, self.window.height), self.shape[::-1], strict=True
            )
        )
        if columns.shape != rows.shape:
            across, down = _consecutive(columns.ravel()), _consecutive(rows.ravel())
            if across is not None and down is not None:
                return down, across
        else:
            rows *= self.shape[1]
            rows += columns
            return rows
        return np.asarray(rows * self.shape[1] + columns)

    def pick(self, layer: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels of what was read (rows, columns) that stand at the places inside."""
        index = self._index
        return layer[index] if isinstance(index, tuple) else layer.reshape(-1).take(index)

    def sparse(self, source: Any) -> bool:
        """Whether the places are so few among the pixels around them that those are picked one by one."""
        columns, rows = self.near
        wanted = columns.size if columns.shape == rows.shape else columns.size * rows.size
        return getattr(source, "picks", False) and self.window.width * self.window.height > _SPARSE * wanted

    def read_mask(self, image: Image) -> NDArray[np.uint8]:
        """Return the file's own mask at the places inside, 0 where there is no data."""
        source = dataset(image.path, self.level)
        try:
            mask = source.dataset_mask(window=self.window, out_shape=self.shape)
        except RasterioError as error:
            raise _damaged(image) from error
        return np.asarray(self.pick(np.asarray(mask)), dtype=np.uint8)

    def put(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values of the places inside where they belong in the grid, NaN elsewhere."""
        if self.inside is None:
            return values.reshape(self.size)
        whole = np.full(self.size, np.nan, dtype=np.float32)
        whole[self.inside] = values
        return whole

    def around(self, image: Image, more: int) -> tuple[Window, int, int]:
        """Return the window with some pixels more on all sides, as far as the level goes, and where it begins."""
        level = dataset(image.path, self.level)
        left, top = max(0, int(self.window.col_off) - more), max(0, int(self.window.row_off) - more)
        right = min(level.width, int(self.window.col_off + self.window.width) + more)
        bottom = min(level.height, int(self.window.row_off + self.window.height) + more)
        return Window(left, top, right - left, bottom - top), left, top


def _damaged(image: Image) -> ImageError:
    return ImageError(f"{image.path} cannot be read to its end: the file is damaged or cut off.")


_FITTING = -1
"""Stands for the level that fits the grid."""


def _find_places(grid: AnyGrid, image: Image, wanted: int | None = _FITTING) -> _Places | None:
    """Return where the grid's places lie in the image; nothing if none does. `wanted` asks for one level."""
    found = lying(grid, image)
    if found is None:
        return None
    columns, rows, hull = found.columns, found.rows, found.hull
    inside: NDArray[np.bool_] | tuple[slice, slice] | None = None
    if hull is None or hull[0] < 0 or hull[1] >= image.width or hull[2] < 0 or hull[3] >= image.height:
        with np.errstate(invalid="ignore"):
            in_x = (columns >= -found.left) & (columns < image.width - found.left)
            in_y = (rows >= -found.top) & (rows < image.height - found.top)
        inside, columns, rows = _keep(columns, rows, in_x, in_y)
        if not columns.size or not rows.size:
            return None
        hull = (
            float(columns.min()) + found.left,
            float(columns.max()) + found.left,
            float(rows.min()) + found.top,
            float(rows.max()) + found.top,
        )
    level, scale_x, scale_y, width, height = _level(
        image, found.factor if wanted == _FITTING else None, wanted
    )
    left, right = (min(int(edge * scale_x), width - 1) for edge in hull[:2])
    top, bottom = (min(int(edge * scale_y), height - 1) for edge in hull[2:])
    window = Window(left, top, right - left + 1, bottom - top + 1)
    # In place: an array of this size costs more to get than to fill.
    for axis, scale, first in (
        (columns, scale_x, found.left * scale_x - left),
        (rows, scale_y, found.top * scale_y - top),
    ):
        if scale != 1.0:
            axis *= scale  # noqa: PLW2901
        if first:
            axis += first  # noqa: PLW2901
    shape = (min(int(window.height), _MAX_READ), min(int(window.width), _MAX_READ))
    return _Places(
        (grid.height, grid.width),
        inside,
        (columns, rows),
        window,
        level,
        shape,
        found.factor * min(scale_x, scale_y),
    )


def _numbers(near: Floats, whole: int, part: int) -> NDArray[np.intp]:
    """Return numbers of columns or rows of what was read: `part` of the `whole` of a window, where it was decimated."""
    numbers: NDArray[np.intp] = near.astype(np.intp)
    # Rounding may bring a place at the very edge to the next pixel.
    numbers = inside(numbers, whole)
    return numbers if whole == part else numbers * part // whole


def _consecutive(numbers: NDArray[np.intp]) -> slice | None:
    """Return numbers that follow one another as a slice; nothing if they do not."""
    first, last = int(numbers[0]), int(numbers[-1])
    if last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all():
        return slice(first, last + 1)
    return None


def _keep(
    columns: Floats, rows: Floats, in_x: NDArray[np.bool_], in_y: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_] | tuple[slice, slice] | None, Floats, Floats]:
    """Return which places of the grid are in the image, and columns and rows of only those."""
    if in_x.all() and in_y.all():
        return None, columns, rows
    if columns.shape != rows.shape:
        across, down = _run(in_x.ravel()), _run(in_y.ravel())
        return (down, across), columns[:, across], rows[down]
    inside = in_x & in_y
    return inside, columns[inside], rows[inside]


def _run(inside: NDArray[np.bool_]) -> slice:
    """Return the places inside as a slice: along a straight line they follow one another."""
    found = np.flatnonzero(inside)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _level(
    image: Image, factor: float | None, wanted: int | None
) -> tuple[int | None, float, float, int, int]:
    """Choose the overview that is just fine enough, or the one that is asked for: its number, scale and size."""
    level = wanted
    if factor is not None:
        fitting = [(scale, n) for n, scale in enumerate(image.overviews) if scale <= factor * 1.0001]
        level = max(fitting)[1] if fitting else None
    if level is None:
        return None, 1.0, 1.0, image.width, image.height
    with_level = dataset(image.path, level)
    width, height = with_level.width, with_level.height
    return level, width / image.width, height / image.height, width, height

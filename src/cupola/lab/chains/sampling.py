"""Pixels of image files at the places of a grid: nearest neighbour, from the fitting level of the pyramid.

GDAL's warper is not used for tiles: a tile needs the values at 256 x 256 places and no more. The places are
carried from the grid to the image through a coarse net of control points (exactly where the net is not good
enough), the window around them is read from one overview, and NumPy picks the pixels. That takes half of the
CPU time, needs no warped file per tile, and works across the antimeridian and around the poles.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from cupola.exceptions import ImageError
from cupola.lab.collections.images import describe, fingerprint, open_image, physical
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    import rasterio
    from numpy.typing import NDArray

    from cupola.lab.collections.images import Band, Image
    from cupola.lab.projection import LonLat

__all__ = ["Grid", "Lies", "Sampler", "as_it_lies", "dataset", "tile_grid"]

Floats = Any  # NDArray[np.float64], written short

_NET = 17
"""Control points along each side."""
_TOLERANCE = 0.125
"""How far the net may be off, in pixels of the level that is read; GDAL's warper takes the same."""
_OPEN_FILES = 48
"""Datasets that each thread keeps open."""
_MAX_READ = 4096
"""Rows and columns read at most for one tile: a file without a pyramid is decimated by GDAL instead."""

_MOST_AS_IT_LIES = 9
"""Times as many pixels as the grid has: a turned image has its corners outside, and a level may be twice as fine."""

_local = threading.local()


def dataset(path: str, level: int | None = None) -> rasterio.io.DatasetReader:
    """Return an open dataset of this thread, kept until the file changes; `level` chooses an overview.

    GDAL datasets are not safe to share between threads, so each thread has its own.
    """
    cache: OrderedDict[tuple[Any, ...], rasterio.io.DatasetReader] | None
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
        return Grid(
            self.plane,
            self.left - halo * self.resolution_x,
            self.top + halo * self.resolution_y,
            self.resolution_x,
            self.resolution_y,
            self.width + 2 * halo,
            self.height + 2 * halo,
        )

    def lonlat(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Return longitude and latitude in degrees of places given in pixels from the grid's corner."""
        x = self.left + columns * self.resolution_x
        y = self.top - rows * self.resolution_y
        return self.plane.inverse(x, y)


class Sampler:
    """Reads bands of images at the places of one grid; what bands of one image grid share is computed once."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._places: dict[tuple[Any, ...], _Places | None] = {}
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

    def read(self, band: Band) -> NDArray[np.float32]:
        """Return the band's physical values (rows, columns) at the grid's places, NaN outside of the image.

        Raises
        ------
        ImageError
            When the file cannot be read.
        """
        image = describe(band.path)
        places = self._find(image)
        values = np.full((self.grid.height, self.grid.width), np.nan, dtype=np.float32)
        if places is None:
            return values
        if (band.path, band.index) not in self._raw:
            self.prefetch([band])
        raw = self._raw[band.path, band.index]
        mask = self._raw.get((band.path, 0))
        values[places.inside] = physical(raw, band, image, mask)
        return values

    def _find(self, image: Image) -> _Places | None:
        key = (image.wkt, image.transform, image.width, image.height, image.overviews)
        if key not in self._places:
            self._places[key] = _find_places(self.grid, image)
        return self._places[key]


@dataclass(frozen=True)
class _Places:
    """Where in an image the places of a grid lie."""

    inside: NDArray[np.bool_]
    """Of the grid: whether the place is in the image."""
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    """Of the places inside, in pixels of `window` as read."""
    window: Window
    """In pixels of the level."""
    level: int | None
    shape: tuple[int, int]
    """As read: the window's own size, or less where GDAL decimates."""

    def read(self, image: Image, indexes: list[int]) -> list[NDArray[Any]]:
        """Return the stored numbers of these bands at the places inside."""
        source = dataset(image.path, self.level)
        try:
            block = source.read(
                indexes,
                window=self.window,
                out_shape=(len(indexes), *self.shape),
                resampling=Resampling.nearest,
            )
        except RasterioError as error:
            raise _damaged(image) from error
        return [layer[self.rows, self.columns] for layer in block]

    def read_mask(self, image: Image) -> NDArray[np.uint8]:
        """Return the file's own mask at the places inside, 0 where there is no data."""
        source = dataset(image.path, self.level)
        try:
            mask = source.dataset_mask(window=self.window, out_shape=self.shape)
        except RasterioError as error:
            raise _damaged(image) from error
        return np.asarray(mask[self.rows, self.columns], dtype=np.uint8)


@dataclass(frozen=True)
class Lies:
    """The part of an image that a grid looks at, as it lies in the image."""

    grid: Grid
    """Its pixels, at the fitting level of the pyramid."""
    wanted: Grid
    places: _Places

    def bring(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values (bands, rows, columns) of the part's pixels at the places of the wanted grid, NaN outside."""
        brought = np.full((len(values), self.wanted.height, self.wanted.width), np.nan, dtype=np.float32)
        brought[:, self.places.inside] = values[:, self.places.rows, self.places.columns]
        return brought


def as_it_lies(grid: Grid, image: Image) -> Lies | None:
    """Return the part of `image` that `grid` looks at.

    Nothing where the grid has no place in it, where its rows do not run east, or where far more pixels would have to be
    computed than the grid has.
    """
    a, b, _, d, e, _ = image.transform[:6]
    places = _find_places(grid, image) if image.crs is not None else None
    if places is None or b or d or a <= 0 or e >= 0:
        return None
    rows, columns = places.shape
    decimated = places.shape != (places.window.height, places.window.width)
    if decimated or rows * columns > _MOST_AS_IT_LIES * grid.width * grid.height:
        return None
    level = dataset(image.path, places.level)
    step_x, step_y = a * image.width / level.width, -e * image.height / level.height
    left = image.transform[2] + places.window.col_off * step_x
    top = image.transform[5] - places.window.row_off * step_y
    part = Grid(lonlat_of_wkt(image.wkt), left, top, step_x, step_y, columns, rows)
    return Lies(part, grid, places)


def _damaged(image: Image) -> ImageError:
    return ImageError(f"{image.path} cannot be read to its end: the file is damaged or cut off.")


def _find_places(grid: Grid, image: Image) -> _Places | None:
    """Return where the grid's places lie in the image; nothing if none does."""
    if image.crs is None:
        return None
    columns, rows, factor = _image_pixels(grid, image)
    with np.errstate(invalid="ignore"):
        inside = (columns >= 0) & (columns < image.width) & (rows >= 0) & (rows < image.height)
    if not inside.any():
        return None
    level, scale_x, scale_y, width, height = _level(image, factor)
    columns = np.minimum((columns[inside] * scale_x).astype(np.intp), width - 1)
    rows = np.minimum((rows[inside] * scale_y).astype(np.intp), height - 1)
    left, top = int(columns.min()), int(rows.min())
    window = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
    columns -= left
    rows -= top
    shape = (min(int(window.height), _MAX_READ), min(int(window.width), _MAX_READ))
    if shape != (window.height, window.width):
        rows = (rows * shape[0]) // int(window.height)
        columns = (columns * shape[1]) // int(window.width)
    return _Places(inside, rows, columns, window, level, shape)


def _level(image: Image, factor: float) -> tuple[int | None, float, float, int, int]:
    """Choose the overview that is just fine enough: its number, its scale and its size."""
    fitting = [(scale, n) for n, scale in enumerate(image.overviews) if scale <= factor * 1.0001]
    if not fitting:
        return None, 1.0, 1.0, image.width, image.height
    level = max(fitting)[1]
    with_level = dataset(image.path, level)
    width, height = with_level.width, with_level.height
    return level, width / image.width, height / image.height, width, height


def _image_pixels(grid: Grid, image: Image) -> tuple[Floats, Floats, float]:
    """Return columns and rows of the grid's places in the image, and how many image pixels make one of the grid's.

    Places that the image's coordinate system does not have are NaN.
    """
    net_columns = np.linspace(0.5, grid.width - 0.5, _NET)
    net_rows = np.linspace(0.5, grid.height - 0.5, _NET)
    mesh = np.meshgrid(net_columns, net_rows)
    columns, rows = _transform(grid, image, *mesh)
    factor = _decimation(columns, rows, net_columns, net_rows)
    if _good_net(grid, image, mesh, (columns, rows), factor):
        return _spread(columns, grid), _spread(rows, grid), factor
    every = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    columns, rows = _transform(grid, image, *every)
    return columns, rows, _decimation(columns, rows, every[0][0], every[1][:, 0])


def _transform(grid: Grid, image: Image, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Carry places from the grid to the image, both in pixels."""
    shape = columns.shape
    longitudes, latitudes = grid.lonlat(columns.ravel(), rows.ravel())
    plane = lonlat_of_wkt(image.wkt)
    x, y = plane.forward(longitudes, latitudes)
    a, b, c, d, e, f = (~image.transform)[:6]
    with np.errstate(invalid="ignore", over="ignore"):
        if plane.period is not None:
            x = _unroll(x, plane.period, image)
        places = (a * x + b * y + c).reshape(shape), (d * x + e * y + f).reshape(shape)
    bad = ~(np.isfinite(places[0]) & np.isfinite(places[1]))
    for place in places:
        place[bad] = np.nan
    return places


def _unroll(x: Floats, period: float, image: Image) -> Floats:
    """Move x by whole turns to where the image lies: products count longitude from -180, 0 or elsewhere."""
    a, b, c = image.transform[:3]
    ends = [c, c + a * image.width, c + b * image.height, c + a * image.width + b * image.height]
    middle = (min(ends) + max(ends)) / 2
    return x - np.round((x - middle) / period) * period


def _decimation(columns: Floats, rows: Floats, at_x: Floats, at_y: Floats) -> float:
    """Return how many image pixels make one pixel of the grid, along the finer direction of the image."""
    if columns.shape[0] < 2 or columns.shape[1] < 2:  # noqa: PLR2004 - no step to measure
        return 1.0
    with np.errstate(invalid="ignore"):
        along_x = np.hypot(np.diff(columns, axis=1), np.diff(rows, axis=1)) / np.diff(at_x)
        along_y = np.hypot(np.diff(columns, axis=0), np.diff(rows, axis=0)) / np.diff(at_y)[:, np.newaxis]
    steps = [np.nanmedian(step) for step in (along_x, along_y) if np.isfinite(step).any()]
    return max(1.0, float(min(steps))) if steps else 1.0


def _good_net(grid: Grid, image: Image, mesh: Any, found: tuple[Floats, Floats], factor: float) -> bool:
    """Tell whether the net stands for all places between its points, by looking at the middles of its meshes."""
    if min(grid.width, grid.height) < 2 * _NET:
        return False
    columns, rows = found
    if not np.isfinite(columns).all():
        return False
    middle_x, middle_y = ((part[1:, 1:] + part[:-1, :-1]) / 2 for part in mesh)
    exact = _transform(grid, image, middle_x, middle_y)
    for whole, precise in zip((columns, rows), exact, strict=True):
        guess = (whole[1:, 1:] + whole[:-1, :-1] + whole[1:, :-1] + whole[:-1, 1:]) / 4
        difference = np.abs(guess - precise)
        if not np.isfinite(difference).all() or difference.max() > _TOLERANCE * factor:
            return False
    return True


def _spread(net: Floats, grid: Grid) -> Floats:
    """Return values at the net's points spread over all pixels of the grid, linearly.

    Not as a product of matrices: for ones so small BLAS would spend ten times as long on waking its threads.
    """
    lower, part = _between(grid.width)
    along_x = net[:, lower] * (1 - part) + net[:, lower + 1] * part
    lower, part = _between(grid.height)
    part = part[:, np.newaxis]
    return along_x[lower] * (1 - part) + along_x[lower + 1] * part


@lru_cache(maxsize=32)
def _between(size: int) -> tuple[NDArray[np.intp], Floats]:
    """Return, for each of `size` pixels, the net's point before it and how far on it is to the next."""
    position = np.linspace(0, _NET - 1, size)
    lower = np.minimum(position.astype(np.intp), _NET - 2)
    return lower, position - lower


def tile_grid(plane: LonLat, bounds: tuple[float, float, float, float], size: int) -> Grid:
    """Return the grid of a square tile with these bounds (left, bottom, right, top)."""
    left, bottom, right, top = bounds
    return Grid(plane, left, top, (right - left) / size, (top - bottom) / size, size, size)

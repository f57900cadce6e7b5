"""The grid that a composite is written on: chosen from the data or given, and cut into pieces.

It is a plain rectangle of pixels in one coordinate system. Its corner lies on a multiple of the pixel size (or on
the pixels of the images themselves, where all share one grid), so that composites made at different times fit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import rasterio.crs
from pyproj.exceptions import CRSError

from cupola.exceptions import BodyError, InputError, LimitError
from cupola.lab import bodies
from cupola.lab.chains.compute.outputgrid import PIECE, OutputGrid
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.chains.pixels.ground import image_spacing
from cupola.lab.collections.footprint import check_box
from cupola.lab.collections.images import describe
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.collections.collection import Collection
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Image
    from cupola.lab.collections.items import Item

__all__ = [
    "PIECE",
    "OutputGrid",
    "bands_read",
    "box_around",
    "choose_grid",
    "chosen",
    "pieces_with_items",
    "plan",
]

_PIECES = (256, 16_384)
_MOST_PIECES = 100_000
"""As many inputs as a job takes."""
_MOST_CELLS = 200_000
"""Most pieces looked at, with and without data."""
_LOOKED_AT = 200
"""Most items whose files are opened to choose a grid."""
_NARROW = 12.0
"""Degrees of longitude over which a transverse Mercator system is not yet a nuisance."""
_POLAR = 60.0
"""Data that lie beyond this latitude altogether are drawn around the pole."""
_CIRCLE = 360.0
_MESH = 33
_SNAP = 1e-4
"""Of a pixel: what is so near to a pixel's edge lies on it."""


def bands_read(chain: Chain) -> list[tuple[Collection, list[str]]]:
    """Return the collections that a chain reads, each with the names of its bands."""
    names: dict[str, dict[str, None]] = {}
    for step in chain.program.of_kind(Bands):
        names.setdefault(step.source.key, {}).update(dict.fromkeys(step.names))
    return [(source.collection, list(names.get(source.key, {}))) for source in chain.sources]


def plan(
    chain: Chain,
    *,
    grid: str | None = None,
    resolution: float | None = None,
    bbox: Iterable[float] | None = None,
    piece: int | None = None,
) -> OutputGrid:
    """Return the grid that a run of a chain writes; see `choose_grid`.

    Where a chain reads several collections, that of the smallest extent says where and how finely: a global terrain
    model that masks some scenes does not make the result global.
    """
    return chosen(bands_read(chain), grid=grid, resolution=resolution, bbox=bbox, piece=piece)


def chosen(
    read: Iterable[tuple[Collection, list[str]]],
    *,
    grid: str | None = None,
    resolution: float | None = None,
    bbox: Iterable[float] | None = None,
    piece: int | None = None,
) -> OutputGrid:
    """Return the grid that a run writes which reads these bands of these collections; see `plan`."""
    boxed: list[tuple[float, int, Collection, list[str], Box | None]] = []
    for collection, names in read:
        box = collection.bbox_filter or box_around([item.bbox for item in collection.items])
        area = ((box[2] - box[0]) % 360 or 360) * (box[3] - box[1]) if box else float("inf")
        boxed.append((area, len(boxed), collection, names, box))
    _, _, collection, names, box = min(boxed, key=lambda one: one[:2])
    asked = check_box(bbox) if bbox is not None else box
    everything = bbox is None and collection.bbox_filter is None
    return choose_grid(
        collection.items if asked is None else collection.touching(asked) or collection.items,
        names,
        box=asked,
        grid=grid,
        resolution=resolution,
        piece=PIECE if piece is None else piece,
        everything=everything,
    )


def box_around(boxes: Sequence[Box | None]) -> Box | None:
    """Return the narrowest box around others: the widest gap between them, on the circle of longitudes, stays outside."""
    table = np.array([box for box in boxes if box is not None], dtype=np.float64).reshape(-1, 4)
    if not len(table):
        return None
    width = table[:, 2] - table[:, 0]
    width = np.where(np.abs(width) >= _CIRCLE, _CIRCLE, width % _CIRCLE)
    order = np.argsort(table[:, 0] % _CIRCLE)
    west = table[order, 0] % _CIRCLE
    reach = np.maximum.accumulate(west + width[order])
    # Gaps after each box up to the next one, and after the last one up to the first.
    gaps = np.append(west[1:] - reach[:-1], west[0] + _CIRCLE - reach[-1])
    widest = int(gaps.argmax())
    south, north = float(table[:, 1].min()), float(table[:, 3].max())
    if gaps[widest] <= 0 or (reach[-1] - _CIRCLE > west[0] and widest != len(gaps) - 1):
        return -180.0, south, 180.0, north
    start = float(west[(widest + 1) % len(west)])
    end = float(reach[widest])
    return _wrapped(start), south, _wrapped(end) if end % _CIRCLE != _CIRCLE / 2 else 180.0, north


def _wrapped(longitude: float) -> float:
    return (longitude + _CIRCLE / 2) % _CIRCLE - _CIRCLE / 2


def choose_grid(  # noqa: PLR0913 - each says one thing about the grid
    items: Sequence[Item],
    bands: Iterable[str],
    *,
    box: Box | None,
    grid: str | None = None,
    resolution: float | None = None,
    piece: int = PIECE,
    everything: bool = False,
) -> OutputGrid:
    """Return the grid for a composite of `items`.

    Parameters
    ----------
    items
        What it is made of.
    bands
        Names of the bands that are read; the finest of them gives the resolution.
    box
        West, south, east, north in degrees that it covers.
    grid
        A coordinate system (``EPSG:32629``, ``IAU_2015:30135``) or the name of a tile grid (``Moon2015spolar``). Where
        nothing is said: that of the images where all share one, else equirectangular metres of their body, and polar
        stereographic metres around a pole.
    resolution
        Metres per pixel on the ground; that of the finest band where nothing is said.
    piece
        Rows and columns of each file.
    everything
        Whether the box stands for all of the images: a few that share a system then give the edges to the pixel.

    Raises
    ------
    InputError
        When the images have no coordinate system, or something of the above is not so.
    BodyError
        When the images show more than one body, or another one than the grid's.
    LimitError
        When that would be more pieces than a job takes.
    """
    _check(resolution, piece)
    if box is None:
        raise InputError(
            "These items do not say where they lie: give a bbox of west, south, east, north in degrees."
        )
    images = _images(items, bands)
    body = _one_body(images)
    shared = _shared(images, box)
    system = _system(grid, body) if grid else (shared.wkt if shared else _of_body(body, box))
    finest = min(images, key=_metres)
    if shared is not None and shared.wkt == system and resolution is None:
        step_x, step_y = abs(shared.transform.a), abs(shared.transform.e)
        phase = (shared.transform.c % step_x, shared.transform.f % step_y)
    else:
        step_x = step_y = _step(system, body, resolution or _tidy(_metres(finest)))
        phase = (0.0, 0.0)
    if everything and shared is not None and shared.wkt == system and len(items) <= _LOOKED_AT:
        extent = _bounds(images)
    else:
        extent = _extent(system, check_box(box))
    return _framed(system, extent, (step_x, step_y), phase, piece)


def _bounds(images: Sequence[Image]) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top around images of one system, in its units."""
    corners = [
        image.transform * corner
        for image in images
        for corner in ((0, 0), (image.width, 0), (0, image.height), (image.width, image.height))
    ]
    across, up = zip(*corners, strict=True)
    return min(across), min(up), max(across), max(up)


def _check(resolution: float | None, piece: int) -> None:
    if resolution is not None and not (math.isfinite(resolution) and resolution > 0):
        raise InputError(f"resolution is a positive number of metres per pixel, not {resolution!r}.")
    least, most = _PIECES
    if type(piece) is not int or not least <= piece <= most:
        raise InputError(f"piece is a whole number of pixels from {least} to {most}, not {piece!r}.")


def _images(items: Sequence[Item], bands: Iterable[str]) -> list[Image]:
    """Return the finest file of each of some items, spread over all of them."""
    names = list(bands)
    found = []
    for number in sorted({int(n) for n in np.linspace(0, len(items) - 1, min(len(items), _LOOKED_AT))}):
        files = {band.path for name in names for band in items[number].band(name)}
        images = [describe(path) for path in files]
        bare = next((image for image in images if image.placement is None), None)
        if bare is not None or not images:
            raise InputError(
                f"{capital(items[number])} has no coordinate system, so it has no place on a grid: run the chain "
                "without grid, resolution and bbox, which gives one product per image."
            )
        found.append(min(images, key=_metres))
    return found


def _one_body(images: Sequence[Image]) -> Body:
    found = {body.name: body for image in images if (body := image.body) is not None}
    if len(found) != 1:
        raise BodyError(f"A composite shows one body, and these images show {' and '.join(sorted(found))}.")
    return next(iter(found.values()))


def _shared(images: Sequence[Image], box: Box) -> Image | None:
    """Return the finest image where all have one coordinate system, north up, that serves the whole box."""
    first = images[0]
    if any(image.wkt != first.wkt or image.curved is not None for image in images):
        return None
    system = pyproj.CRS.from_wkt(first.wkt)
    operation = system.coordinate_operation
    narrow = operation is not None and "Transverse" in operation.method_name
    if narrow and (box[2] - box[0]) % 360 > _NARROW:
        return None
    finest = min(images, key=_metres)
    a, b, _, d, e, _ = finest.transform[:6]
    return finest if b == d == 0 and a > 0 > e else None


def _of_body(body: Body, box: Box) -> str:
    """Return the body's own system for a box: equirectangular metres, polar stereographic around a pole.

    On the sky, arcseconds of right ascension and declination.
    """
    if body == bodies.SKY:
        return _of_tms(bodies.tms_name(body))
    north, south = box[1] >= _POLAR, box[3] <= -_POLAR
    if body.name == bodies.EARTH.name:
        return str(
            pyproj.CRS.from_user_input(
                "EPSG:3995" if north else "EPSG:3031" if south else "EPSG:4087"
            ).to_wkt()
        )
    projection = "npolar" if north else "spolar" if south else "eqc"
    return _of_tms(bodies.tms_name(body, projection))


def _of_tms(name: str) -> str:
    system = bodies.tile_matrix_set(name).crs
    return str(system._pyproj_crs.to_wkt())  # noqa: SLF001 - morecantile has no other way


def _system(grid: str, body: Body) -> str:
    """Return the well-known text of a grid that was asked for by name."""
    text = str(grid).strip()
    try:
        wkt = _of_tms(text) if ":" not in text and not text.startswith(("PROJ", "GEO", "+")) else None
        wkt = wkt or str(pyproj.CRS.from_user_input(text).to_wkt())
    except CRSError as error:
        raise InputError(
            f"grid={grid!r} is no coordinate system: write one such as 'EPSG:32629', 'IAU_2015:30135' or the name of a "
            f"tile grid such as {bodies.tms_name(body)!r}."
        ) from error
    if body == bodies.SKY and text == bodies.tms_name(body):
        return wkt
    other = bodies.body_of_crs(rasterio.crs.CRS.from_wkt(wkt))
    if other is None or other.name != body.name:
        raise BodyError(
            f"The images show {body.name}, which cannot be drawn on {grid} of {other.name if other else 'no body'}; "
            f"use a grid of {body.name} such as {bodies.tms_name(body)!r}."
        )
    return wkt


def _metres(image: Image) -> float:
    """Return about how many metres of ground (arcseconds on the sky) a pixel of an image covers along a side."""
    if image.curved is not None:
        return _metres_of_curved(image)
    if image.curved is not None:
        return math.sqrt(math.prod(image_spacing(image, image.body)))
    system = pyproj.CRS.from_wkt(image.wkt)
    length = math.sqrt(abs(image.transform.determinant))
    unit = float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0
    if system.is_geographic and system.ellipsoid is not None:
        return length * unit * float(system.ellipsoid.semi_major_metre)
    return length * unit


def _metres_of_curved(image: Image) -> float:
    """Return the shorter side of the pixel in the middle of a swath or of an image of the sky."""
    grid = ImageGrid.of(image)
    columns = np.array([0.0, 1.0, 0.0]) + image.width // 2
    rows = np.array([0.0, 0.0, 1.0]) + image.height // 2
    longitudes, latitudes = (np.radians(part) for part in grid.lonlat(columns, rows))
    east = (longitudes - longitudes[0] + np.pi) % (2 * np.pi) - np.pi
    apart = np.hypot(east * np.cos(latitudes[0]), latitudes - latitudes[0])[1:]
    radius = image.body.radius if image.body else 1.0
    if not (np.isfinite(apart).all() and apart.min() > 0):
        raise InputError(
            f"The middle of {image.path} has no place, so its resolution is not known: give a resolution."
        )
    return float(apart.min()) * radius


def _step(wkt: str, body: Body, metres: float) -> float:
    """Return a length on the ground in the units of a system."""
    system = pyproj.CRS.from_wkt(wkt)
    unit = float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0
    return metres / unit / (body.radius if system.is_geographic else 1.0)


def _tidy(metres: float) -> float:
    """Round to three digits: 9.9973 m per pixel is 10 m."""
    digits = 2 - math.floor(math.log10(metres))
    return round(metres, digits)


def _framed(
    wkt: str,
    extent: tuple[float, float, float, float],
    step: tuple[float, float],
    phase: tuple[float, float],
    piece: int,
) -> OutputGrid:
    """Return the smallest grid of these pixels around left, bottom, right and top."""
    left, bottom, right, top = extent
    first = math.floor((left - phase[0]) / step[0] + _SNAP), math.floor((bottom - phase[1]) / step[1] + _SNAP)
    last = math.ceil((right - phase[0]) / step[0] - _SNAP), math.ceil((top - phase[1]) / step[1] - _SNAP)
    width, height = max(1, last[0] - first[0]), max(1, last[1] - first[1])
    if math.ceil(width / piece) * math.ceil(height / piece) > _MOST_CELLS:
        raise LimitError(
            f"A grid of {width:,} x {height:,} pixels is more than a job can write: give a coarser resolution, "
            "a smaller bbox or larger pieces."
        )
    return OutputGrid(
        wkt,
        phase[0] + first[0] * step[0],
        phase[1] + (first[1] + height) * step[1],
        step[0],
        step[1],
        width,
        height,
        piece,
    )


def _extent(wkt: str, box: Box) -> tuple[float, float, float, float]:
    """Return left, bottom, right, top of a box in degrees, its inside included: a pole may lie there."""
    west, south, east, north = box
    east = east + 360 if east < west else east
    steps = np.linspace(0, 1, _MESH)
    longitudes, latitudes = np.meshgrid(west + (east - west) * steps, south + (north - south) * steps)
    plane = lonlat_of_wkt(wkt)
    x, y = plane.forward(longitudes.ravel(), latitudes.ravel())
    x, y = x.reshape(longitudes.shape), y.reshape(longitudes.shape)
    good = np.isfinite(x) & np.isfinite(y)
    if not good.any():
        raise InputError(
            f"Nothing of the box {box} lies on this grid: choose another grid or a smaller bbox."
        )
    if plane.period is not None and good.all():
        x = np.unwrap(x, period=plane.period, axis=1)
        if east - west >= 360 - 1e-9:
            x[:, -1] = x[:, 0] + plane.period
    return float(x[good].min()), float(y[good].min()), float(x[good].max()), float(y[good].max())


def pieces_with_items(grid: OutputGrid, boxes: Sequence[Box | None]) -> list[tuple[int, int]]:
    """Return column and row of the pieces that any of these boxes in degrees touches.

    Raises
    ------
    InputError
        When none is touched.
    LimitError
        When they are more than a job takes.
    """
    import shapely

    parts = [part for box in boxes if box is not None for part in _split(box)]
    places: list[tuple[int, int]] = []
    areas: list[Box] = []
    for row in range(grid.rows):
        for column in range(grid.columns):
            area = grid.part(column, row).box
            for part in _split(area) if area else ():
                places.append((column, row))
                areas.append(part)
    found: list[tuple[int, int]] = []
    if parts and areas:
        tree = shapely.STRtree(shapely.box(*np.array(parts, dtype=np.float64).T))
        hits = tree.query(shapely.box(*np.array(areas, dtype=np.float64).T))[0]
        found = list(dict.fromkeys(places[number] for number in np.unique(hits)))
    if not found:
        raise InputError("None of the items lies on this grid: look at the bbox.")
    if len(found) > _MOST_PIECES:
        raise LimitError(
            f"That would be {len(found):,} pieces and a job takes at most {_MOST_PIECES:,}: give a coarser resolution, "
            "a smaller bbox or larger pieces."
        )
    return found


def _split(box: Box) -> Iterator[Box]:
    """Yield a box in parts that do not cross the antimeridian."""
    west, south, east, north = box
    if west <= east:
        yield box
    else:
        yield west, south, 180.0, north
        yield -180.0, south, east, north

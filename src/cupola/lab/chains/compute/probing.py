"""What a chain is worth at a place and in an area: its values, those of each item over time, and their statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import BandError, InputError, LimitError
from cupola.lab.chains.compute.evaluation import Evaluation
from cupola.lab.chains.graph.reduce import Reduce
from cupola.lab.chains.pixels.grids import Grid, ImageGrid
from cupola.lab.chains.pixels.ground import centre_spacing, image_spacing

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.items import Item

__all__ = ["Area", "AreaItem", "BandStatistics", "Probe", "ProbeItem", "area", "probe"]

MOST_ITEMS = 1000
"""Items of a time series, the newest: each costs some milliseconds."""
AREA_PIXELS = 1_000_000
"""Pixels of an area where no scale is said: larger ones are looked at more coarsely."""
MOST_AREA_PIXELS = 16_000_000
_BINS = 32
_DENSER = 128
"""Points along the longer side of an area's outline: a straight line of degrees is bent on most maps."""


@dataclass(frozen=True)
class ProbeItem:
    """An item at a place."""

    id: str
    datetime: datetime | None
    values: list[float | None]
    """Per band; nothing where there is no data."""


@dataclass(frozen=True)
class Probe:
    """A chain at a place."""

    values: list[float | None] | None
    """Per band, as a map shows them; nothing where there is no image."""
    items: list[ProbeItem]
    """The time series under the place, the newest first: before the reduction, for a chain that reduces."""
    scale: float
    """Metres per pixel."""


@dataclass(frozen=True)
class BandStatistics:
    """The valid pixels of one band in an area."""

    count: int
    mean: float | None = None
    median: float | None = None
    min: float | None = None
    max: float | None = None
    std: float | None = None
    histogram: dict[str, list[float]] | None = None
    """``edges`` and ``counts``."""


@dataclass(frozen=True)
class AreaItem:
    """An item in an area."""

    id: str
    datetime: datetime | None
    bands: list[BandStatistics]


@dataclass(frozen=True)
class Area:
    """A chain in an area."""

    bands: list[BandStatistics]
    """Of what a map shows."""
    items: list[AreaItem]
    """The time series, the newest first: before the reduction, for a chain that reduces."""
    scale: float
    """Metres per pixel."""


def probe(chain: Chain, longitude: float, latitude: float) -> Probe:
    """Return a chain's values at a place, at full resolution.

    Parameters
    ----------
    chain
        What to compute.
    longitude, latitude
        In degrees of the body, right ascension and declination on the sky; column and row of the image (counted from
        its upper left corner) where there is no coordinate system.

    Raises
    ------
    InputError
        When they are no numbers; besides the errors of `tile`.
    """
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise InputError(
            f"A place is a longitude and a latitude in degrees, not {longitude!r}, {latitude!r}."
        )
    evaluation = Evaluation(chain.program, chain.body)
    found: list[ProbeItem] = []
    values: list[float | None] | None = None
    pixel: ImageGrid | None = None
    place = _series(chain)
    for item in _items_at(chain, place, longitude, latitude):
        try:
            grid = _pixel(evaluation, place, item, longitude, latitude)
        except BandError:
            continue
        if grid is None:
            continue
        pixel = pixel or grid
        got = evaluation.values(place, grid, item)
        if got is None:
            continue
        seen = _numbers(got)
        found.append(ProbeItem(item.id, item.datetime, seen))
        if values is None and any(value is not None for value in seen):
            values = seen
    if chain.reduced and pixel is not None:
        got = evaluation.values(chain.program.last, pixel)
        values = None if got is None else _numbers(got)
    scale = 0.0 if pixel is None else math.sqrt(math.prod(image_spacing(pixel.image, evaluation.body)))
    return Probe(values, found, max(scale, evaluation.scale))


def _series(chain: Chain) -> int:
    """Return the line that has one image for each item: the last, or what the last reduction is of."""
    program = chain.program
    if program.source is not None:
        return program.last
    for line in reversed(program.lines):
        if isinstance(line.step, Reduce):
            return line.lines[0]
    return program.last


def _items_at(chain: Chain, place: int, longitude: float, latitude: float) -> list[Item]:
    source = chain.program.lines[place].source
    if source is None:
        return []
    collection = source.collection
    if chain.body is None:
        return list(collection.items[:MOST_ITEMS])
    longitude = (longitude + 180) % 360 - 180
    return list(collection.touching((longitude, latitude, longitude, latitude))[:MOST_ITEMS])


def _pixel(
    evaluation: Evaluation, place: int, item: Item, longitude: float, latitude: float
) -> ImageGrid | None:
    """Return the pixel of an item's finest image at a place; nothing where it has none there."""
    image = evaluation.images(place, item)[0]
    if image.placement is None:
        column, row = longitude, latitude
    else:
        columns, rows = image.placement.pixels(np.array([longitude]), np.array([latitude]))
        column, row = float(columns[0]), float(rows[0])
    if not (0 <= column < image.width and 0 <= row < image.height):
        return None
    return ImageGrid.of(image).window(int(column), int(row), 1, 1)


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values[:, 0, 0]]


def area(chain: Chain, geometry: Any, metres: float | None = None) -> Area:
    """Return statistics of a chain in an area.

    Parameters
    ----------
    chain
        What to compute.
    geometry
        GeoJSON of a polygon or several (a geometry, a feature or a collection of features), or one of shapely, in
        degrees of the body; in columns and rows where there is no coordinate system. A pixel counts whose centre
        lies in it.
    metres
        Size of the pixels on the ground; where nothing is said that of the image, or coarser for a large area.

    Raises
    ------
    InputError
        When it is no area, or the size no positive number; besides the errors of `tile`.
    LimitError
        When there are too many pixels of this size.
    """
    outline = _outline(geometry)
    place = _series(chain)
    source = chain.program.lines[place].source
    evaluation = Evaluation(chain.program, chain.body)
    items = [] if source is None else _items_in(chain, place, outline)
    grid = _area_grid(chain, items, outline, metres)
    if grid is None:
        return Area([], [], 0.0)
    inside = _inside(outline, grid)
    series: list[AreaItem] = []
    shown: NDArray[np.float32] | None = None
    for item, values in evaluation.each(place, grid, items):
        picked = values[:, inside]
        if not np.isfinite(picked).any():
            continue
        series.append(AreaItem(item.id, item.datetime, [_statistics(band) for band in picked]))
        if chain.reduced:
            continue
        if shown is None:
            shown = picked.copy()
        elif shown.shape == picked.shape:
            empty = ~np.isfinite(shown).any(axis=0)
            shown[:, empty] = picked[:, empty]
    if chain.reduced:
        whole = evaluation.values(chain.program.last, grid)
        shown = None if whole is None else whole[:, inside]
    bands = [] if shown is None else [_statistics(band) for band in shown]
    return Area(bands, series, max(evaluation.scale, centre_spacing(grid, evaluation.body)))


def _outline(geometry: Any) -> Any:
    """Return an area as a geometry of shapely."""
    import shapely
    from shapely.geometry import shape

    try:
        found = (
            geometry
            if isinstance(geometry, shapely.Geometry)
            else shapely.union_all(_shapes(geometry, shape))
        )
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError) as error:
        raise InputError(f"An area is a polygon as GeoJSON; this cannot be read as one ({error}).") from error
    found = shapely.make_valid(found)
    if found.area <= 0 or not all(map(math.isfinite, found.bounds)):
        raise InputError("An area is a polygon as GeoJSON, and this encloses nothing.")
    return found


def _shapes(document: Any, shape: Any) -> list[Any]:
    if document["type"] == "FeatureCollection":
        return [shape(feature["geometry"]) for feature in document["features"]]
    return [shape(document["geometry"] if document["type"] == "Feature" else document)]


def _items_in(chain: Chain, place: int, outline: Any) -> list[Item]:
    source = chain.program.lines[place].source
    if source is None:
        return []
    collection = source.collection
    if chain.body is None:
        return list(
            collection.items[:1] if chain.program.source is not None else collection.items[:MOST_ITEMS]
        )
    west, south, east, north = outline.bounds
    if east - west >= 360:  # noqa: PLR2004 - degrees
        west, east = -180.0, 180.0
    else:
        west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    return list(collection.touching((west, max(south, -90.0), east, min(north, 90.0)))[:MOST_ITEMS])


def _area_grid(chain: Chain, items: list[Item], outline: Any, metres: float | None) -> AnyGrid | None:
    """Return the grid of an area: the finest image's own pixels, or larger ones; nothing where there is no image."""
    if not items:
        return None
    if chain.body is None:
        image = Evaluation(chain.program, None).images(_series(chain), items[0])[0]
        return _around(ImageGrid.of(image), outline, None, metres)
    from cupola.lab.chains.compute.areas import frame_of

    return _around(frame_of(chain, items).grid, outline, chain.body, metres)


def _around(whole: AnyGrid, outline: Any, body: Body | None, metres: float | None) -> AnyGrid | None:
    """Return the part of a grid around an outline, with pixels of a size."""
    import shapely

    if metres is not None and not (math.isfinite(metres) and metres > 0):
        raise InputError(f"The size of pixels is a positive number of metres, not {metres!r}.")
    places = shapely.get_coordinates(_on(outline, whole))
    places = places[np.isfinite(places).all(axis=1)]
    if not len(places):
        return None
    left, top = np.floor(places.min(axis=0))
    right, bottom = np.ceil(places.max(axis=0))
    wide, high = max(1.0, right - left), max(1.0, bottom - top)
    own = centre_spacing(whole.window(int(left), int(top), int(wide), int(high)), body) or 1.0
    times = metres / own if metres else max(1.0, math.sqrt(wide * high / AREA_PIXELS))
    if wide * high / times**2 > MOST_AREA_PIXELS:
        raise LimitError(
            f"This area has {wide * high / times**2 / 1e6:,.0f} million pixels of {times * own:g} m, more than are "
            f"looked at together ({MOST_AREA_PIXELS / 1e6:.0f}): give larger ones with metres=."
        )
    width, height = math.ceil(wide / times), math.ceil(high / times)
    if isinstance(whole, ImageGrid):
        return ImageGrid(whole.image, left, top, whole.step * times, width, height, whole.down * times)
    if not isinstance(whole, Grid):
        raise InputError("Areas are looked at on maps and images.")
    return Grid(
        whole.plane,
        whole.left + left * whole.resolution_x,
        whole.top - top * whole.resolution_y,
        whole.resolution_x * times,
        whole.resolution_y * times,
        width,
        height,
    )


def _on(outline: Any, grid: AnyGrid) -> Any:
    """Return an outline in the pixels of a grid."""
    import shapely

    if isinstance(grid, ImageGrid):
        corner, size = (grid.left, grid.top), (grid.step, grid.down)
        return shapely.transform(outline, lambda places: (places - corner) / size)
    west, south, east, north = outline.bounds
    dense = shapely.segmentize(outline, max(east - west, north - south) / _DENSER)
    return shapely.transform(dense, lambda places: np.column_stack(grid.pixels(places[:, 0], places[:, 1])))


def _inside(outline: Any, grid: AnyGrid) -> NDArray[np.bool_]:
    """Tell which pixels of a grid have their centres in an outline; for a tiny outline the pixel it lies in."""
    from rasterio.features import geometry_mask
    from rasterio.transform import Affine

    drawn = _on(outline, grid)
    found: NDArray[np.bool_] = geometry_mask(
        [drawn], (grid.height, grid.width), Affine.identity(), invert=True
    )
    if not found.any():
        found = geometry_mask(
            [drawn], (grid.height, grid.width), Affine.identity(), invert=True, all_touched=True
        )
    return found


def _statistics(values: NDArray[np.float32]) -> BandStatistics:
    known = values[np.isfinite(values)].astype(np.float64)
    if not known.size:
        return BandStatistics(0)
    counts, edges = np.histogram(known, bins=_BINS)
    return BandStatistics(
        count=int(known.size),
        mean=float(known.mean()),
        median=float(np.median(known)),
        min=float(known.min()),
        max=float(known.max()),
        std=float(known.std()),
        histogram={"edges": [float(edge) for edge in edges], "counts": [float(count) for count in counts]},
    )

"""Zonal statistics: what a chain is worth in each region of a vector layer.

A pixel belongs to a region when its centre lies in it or on its border. Mean and standard deviation count each pixel by its
area on the ground (in degrees, pixels near a pole are small); medians and percentiles count pixels. Images are computed in
windows, so that memory holds one window and the statistics; only medians and percentiles keep values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains.areas import WINDOW, Bounds, bounds_of_box, frame_of
from cupola.lab.chains.evaluate import on_grid
from cupola.lab.chains.evaluation import Evaluation
from cupola.lab.chains.graph.context import ground_spacing
from cupola.lab.chains.regions import inside, read_regions
from cupola.lab.chains.tallies import Budget, Tally, check_statistics, needs_values
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import geopandas
    from numpy.typing import NDArray

    from cupola.lab.chains.areas import Frame
    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.grids import Grid
    from cupola.lab.collections.items import Item
    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["Zonal", "empty", "of_item", "touching", "zonal"]

_MOST_PIXELS = 20_000_000_000
"""Pixels looked at in all: hours of work."""


@dataclass(frozen=True, eq=False)
class Zonal:
    """Statistics of a chain in regions, not computed yet: `compute` here, or `run` as a job."""

    chain: Chain
    regions: geopandas.GeoDataFrame
    """Longitude and latitude of the body in degrees."""
    statistics: tuple[str, ...]
    metres: float | None = None
    by_item: bool = False
    by_area: bool = True

    def compute(self, *, progress: Callable[[int, int], None] | None = None) -> geopandas.GeoDataFrame:
        """Compute the statistics.

        Parameters
        ----------
        progress
            Called with the number of windows that are done, and of all.

        Returns
        -------
        table
            The regions with their properties and one column per statistic (``mean``; ``mean_1``, ``mean_2`` for chains with
            several bands). By item there is a row for each region and item that has data in it, with ``item`` and
            ``datetime``.

        Raises
        ------
        NotFoundError
            When no image touches the regions.
        LimitError
            When medians or percentiles would need too much memory, or there are too many pixels.
        BandError, BodyError, ImageError, InputError
            As for tiles of the chain.
        """
        return _table(self, _tallied(self, progress))

    def run(self, name: str, **options: Unpack[Options]) -> Job:
        """Compute the statistics as a job.

        The table appears as ``statistics.parquet`` (GeoParquet) and ``statistics.csv`` in ``~/products/NAME`` (``NAME-2``
        when that is taken), with their provenance in ``statistics.json``. By item each image is a task of its own.

        Parameters
        ----------
        name
            For people, and for the folder.
        **options
            As for `Chain.run`.

        Raises
        ------
        InputError, BandError
            When the collection is empty or lacks the bands.
        UnavailableError
            When the platform does not answer.
        """
        from cupola.lab.chains.zonaljob import run

        return run(self, name, **options)

    def to_openeo(self) -> dict[str, Any]:
        """Return the statistics as an openEO process graph that ends in ``aggregate_spatial``.

        Raises
        ------
        InputError
            When openEO counts otherwise: it knows one statistic at a time, of all images, pixel by pixel.
        """
        from cupola.lab.chains.openeo import zonal_graph

        return zonal_graph(self)


def zonal(  # noqa: PLR0913 - what, where, and how pixels count
    chain: Chain,
    regions: Any,
    statistics: Sequence[str],
    *,
    metres: float | None = None,
    by: str | None = None,
    by_area: bool = True,
) -> Zonal:
    """Return the statistics of a chain in regions, not computed yet; see `Chain.zonal`."""
    if by not in (None, "item"):
        raise InputError(f"Statistics are made by='item' or of all items together (by=None), not by={by!r}.")
    if by == "item" and chain.reduced:
        raise InputError("This chain is one image of all items already: leave by='item' out.")
    body = chain.body
    if body is None:
        raise InputError(
            f"{capital(chain.collection)} has no coordinate system, so regions have no place on its images."
        )
    names = check_statistics(statistics)
    return Zonal(chain, read_regions(regions, body), names, metres, by_item=by == "item", by_area=by_area)


Key = tuple[int, str | None]
Tallies = dict[Key, list[Tally]]


def _tallied(wanted: Zonal, progress: Callable[[int, int], None] | None) -> Tallies:
    """Go over all windows that both a region and an item touch."""
    import shapely

    chain = wanted.chain
    shapely.prepare(wanted.regions.geometry.to_numpy())
    items = touching(wanted)
    if not items:
        raise NotFoundError(f"No image of {chain.collection} touches the regions.")
    frame = frame_of(chain, items, wanted.metres)
    windows = _windows(wanted, frame, items)
    budget = Budget() if needs_values(wanted.statistics) else None
    tallies: Tallies = {}
    for done, (bounds, numbers) in enumerate(windows.items(), 1):
        grid = frame.window(bounds)
        members = None
        for item, values in _values(wanted, grid):
            if members is None:
                # Found once there is something to put into the regions.
                members = _members(wanted, frame, grid, numbers)
            for number, (place, areas) in members.items():
                tally = tallies.setdefault((number, item), [Tally() for _ in values])
                for band, one in zip(values, tally, strict=True):
                    seen = band[place]
                    good = np.isfinite(seen)
                    one.add(seen[good], areas[good], by_area=wanted.by_area, budget=budget)
        if progress is not None:
            progress(done, len(windows))
    return tallies


def touching(wanted: Zonal) -> list[Item]:
    """Return the items whose boxes touch those of the regions, the newest first."""
    from cupola.lab.collections.footprint import check_box

    found: dict[str, Item] = {}
    chosen: set[str] = set()
    for west, south, east, north in wanted.regions.geometry.bounds.to_numpy():
        west, east = (-180.0, 180.0) if east - west >= 360 else (_turned(west), _turned(east))  # noqa: PLR2004, PLW2901
        box = check_box((west, max(south, -90.0), east, min(north, 90.0)))
        for item in wanted.chain.collection.touching(box):
            chosen.add(item.id)
            found[item.id] = item
    order = {
        item.id: number for number, item in enumerate(wanted.chain.collection.items) if item.id in chosen
    }
    return sorted(found.values(), key=lambda item: order.get(item.id, 0))


def _turned(longitude: float) -> float:
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180  # noqa: PLR2004 - a turn


def _windows(wanted: Zonal, frame: Frame, items: Sequence[Item]) -> dict[Bounds, list[int]]:
    """Return the windows that regions and items share, with the numbers of the regions, in the order of the rows."""
    seen: set[tuple[int, int]] = set()
    for item in items:
        bounds = bounds_of_box(frame, item.bbox) if item.bbox else None
        if bounds is not None:
            seen.update(_tiles(bounds))
    found: dict[tuple[int, int], list[int]] = {}
    for number, region in enumerate(wanted.regions.geometry):
        for tile in _tiles_of_region(frame, region):
            if tile in seen:
                found.setdefault(tile, []).append(number)
    if len(found) * WINDOW * WINDOW > _MOST_PIXELS:
        raise LimitError(
            f"These regions have {len(found) * WINDOW * WINDOW / 1e9:,.0f} billion pixels: give larger ones with metres=."
        )
    windows: dict[Bounds, list[int]] = {}
    for row, column in sorted(found):
        left, top = column * WINDOW, row * WINDOW
        clipped = frame.clipped((left, top, left + WINDOW, top + WINDOW))
        if clipped is not None:
            windows[clipped] = found[row, column]
    return windows


def _tiles_of_region(frame: Frame, region: Any) -> set[tuple[int, int]]:
    """Return the windows around a region, part by part: a part on the other side of the antimeridian lies far away."""
    import shapely

    tiles: set[tuple[int, int]] = set()
    for part in shapely.get_parts(region):
        if part.area == 0:
            continue
        west, south, east, north = part.bounds
        bounds = bounds_of_box(frame, (west, south, east, north))
        if bounds is not None:
            tiles.update(_tiles(bounds))
    return tiles


def _tiles(bounds: Bounds) -> Iterator[tuple[int, int]]:
    left, top, right, bottom = bounds
    if (right - left) * (bottom - top) > 100 * _MOST_PIXELS:
        raise LimitError("These regions have far too many pixels: give larger ones with metres=.")
    # A pixel more on all sides: what is between the points of the outline may bend outwards.
    for row in range((top - 1) // WINDOW, bottom // WINDOW + 1):
        for column in range((left - 1) // WINDOW, right // WINDOW + 1):
            yield row, column


def _values(wanted: Zonal, grid: Grid) -> Iterator[tuple[str | None, NDArray[np.float32]]]:
    """Yield the chain's values on a grid, of each item or of all together."""
    chain = wanted.chain
    if not wanted.by_item:
        pixels = on_grid(chain, grid, max_items=None)
        if pixels.valid.any():
            yield None, pixels.data
        return
    evaluation = Evaluation(chain.program, chain.body, limited=False)
    source = chain.program.source
    if source is None:
        raise InputError("This chain is one image of all items already: leave by='item' out.")
    for item, values in evaluation.each(chain.program.last, grid, evaluation.items(source, grid)):
        if np.isfinite(values).any():
            yield item.id, values


def _members(
    wanted: Zonal, frame: Frame, grid: Grid, numbers: Sequence[int]
) -> dict[int, tuple[Any, NDArray[np.float64]]]:
    """Return which pixels of a grid belong to which region, and their areas on the ground in square metres."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    longitudes, latitudes = (
        np.asarray(part).reshape(columns.shape) for part in grid.lonlat(columns.ravel(), rows.ravel())
    )
    across, down = ground_spacing(grid, frame.body)
    areas = np.broadcast_to(across * down, columns.shape)
    found: dict[int, tuple[Any, NDArray[np.float64]]] = {}
    for number in numbers:
        place = np.nonzero(inside(wanted.regions.geometry.iloc[number], longitudes, latitudes))
        if place[0].size:
            found[number] = place, np.nan_to_num(areas[place])
    return found


def _table(wanted: Zonal, tallies: Tallies) -> geopandas.GeoDataFrame:
    """Return what was found as a table."""
    import geopandas
    import pandas as pd

    bands = max((len(tally) for tally in tallies.values()), default=1)
    keys = sorted(tallies, key=lambda key: (key[0], key[1] or "")) if wanted.by_item else _all_keys(wanted)
    rows: list[dict[str, Any]] = []
    for key in keys:
        row: dict[str, Any] = {}
        if wanted.by_item and key[1] is not None:
            row = {"item": key[1], "datetime": wanted.chain.collection.item(key[1]).datetime}
        for band, tally in enumerate(tallies.get(key) or [Tally() for _ in range(bands)], 1):
            ending = f"_{band}" if bands > 1 else ""
            row |= {f"{name}{ending}": value for name, value in tally.results(wanted.statistics).items()}
        rows.append(row)
    found = pd.DataFrame(rows)
    for name in [name for name in found.columns if name == "count" or name.startswith("count_")]:
        found[name] = found[name].astype("int64")
    regions = wanted.regions.iloc[[key[0] for key in keys]].reset_index(names="region")
    regions = regions.rename(
        columns={name: f"{name}_of_region" for name in found.columns if name in regions.columns}
    )
    items = touching(wanted)
    crs = frame_of(wanted.chain, items, wanted.metres).lonlat_crs if items else None
    joined = pd.concat([regions.drop(columns="geometry"), found], axis=1)
    return geopandas.GeoDataFrame(joined, geometry=list(regions.geometry), crs=crs)


def empty(wanted: Zonal) -> geopandas.GeoDataFrame:
    """Return the table of regions that no image touches, without statistics."""
    table = _table(wanted, {})
    return table.drop(columns=[name for name in wanted.statistics if name in table.columns])


def _all_keys(wanted: Zonal) -> list[Key]:
    return [(number, None) for number in range(len(wanted.regions))]


def of_item(wanted: Zonal, item: str) -> Zonal:
    """Return the same statistics of one item alone."""
    from cupola.lab.chains.graph.bands import Bands
    from cupola.lab.chains.graph.source import Source

    chain = wanted.chain
    own = chain.program.source
    if own is None:
        raise InputError("This chain is one image of all items already.")
    alone = Source.of(own.collection.only(item))

    def change(step: Any) -> Any:
        return replace(step, source=alone) if isinstance(step, Bands) and step.source == own else step

    return replace(wanted, chain=type(chain).of_step(chain.program.rebuilt(change)))

"""Zonal statistics: what a chain is worth in each region of a vector layer.

A pixel belongs to a region when its centre lies in it or on its border. Mean and standard deviation count each pixel by its
area on the ground (in degrees, pixels near a pole are small); medians and percentiles count pixels. Images are computed in
windows, so that memory holds one window and the statistics; only medians and percentiles keep values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from cupola.exceptions import InputError, LimitError, NotFoundError
from cupola.lab.chains.analysis.regions import inside, read_regions
from cupola.lab.chains.analysis.tallies import Budget, Tally, check_statistics, needs_values
from cupola.lab.chains.compute.areas import WINDOW, Bounds, bounds_of_box, frame_of
from cupola.lab.chains.compute.evaluate import on_grid
from cupola.lab.chains.compute.evaluation import Evaluation
from cupola.lab.chains.graph.context import ground_spacing
from cupola.lab.collections.footprint import check_box
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import geopandas
    from numpy.typing import NDArray

    from cupola.lab.chains.chain import Chain
    from cupola.lab.chains.compute.areas import Frame
    from cupola.lab.chains.pixels.grids import Grid
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.items import Item
    from cupola.lab.jobs import Job
    from cupola.lab.jobs.options import Options

__all__ = ["Zonal", "box_of", "empty", "of_item", "touching", "zonal"]

_MARGIN = 4
_FEW = 100
"""Regions that are asked for one by one."""
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

    @cached_property
    def items(self) -> list[Item]:
        """The items that touch the regions, the newest first."""
        return touching(self)

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

    def run(self, name: str, *, resume: bool = False, **options: Unpack[Options]) -> Job:
        """Compute the statistics as a job.

        The table appears as ``statistics.parquet`` (GeoParquet) and ``statistics.csv`` in ``~/products/NAME`` (``NAME-2``
        when that is taken), with their provenance in ``statistics.json``. By item each image is a task of its own.

        Parameters
        ----------
        name
            For people, and for the folder.
        resume
            Whether to go on with the run of the same name, chain, regions and statistics: what is whole and whose images
            have not changed is not computed again, and by item new images add their rows.
        **options
            As for `Chain.run`.

        Raises
        ------
        InputError, BandError
            When the collection is empty or lacks the bands, or what is to be resumed are other statistics.
        UnavailableError
            When the platform does not answer.
        """
        from cupola.lab.chains.analysis.zonaljob import run

        return run(self, name, resume=resume, **options)

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
    items = wanted.items
    if not items:
        raise NotFoundError(f"No image of {chain.collection} touches the regions.")
    frame = frame_of(chain, items, wanted.metres)
    windows = _windows(wanted, frame, items)
    budget = Budget() if needs_values(wanted.statistics) else None
    tallies: Tallies = {}
    for done, (bounds, regions) in enumerate(windows.items(), 1):
        grid = frame.window(bounds)
        members = None
        for item, values in _values(wanted, grid):
            if members is None:
                # Found once there is something to put into the regions.
                members = _members(wanted, frame, bounds, regions)
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
    import shapely

    boxes = wanted.regions.geometry.bounds.to_numpy()
    collection = wanted.chain.collection
    if len(boxes) <= _FEW:
        names = {item.id for box in boxes for item in collection.touching(box_of(box))}
        return [item for item in collection.touching(box_of(wanted.regions.total_bounds)) if item.id in names]
    # Thousands of questions to the collection would take longer than the statistics.
    tree = shapely.STRtree(shapely.box(*boxes.T))
    found = []
    for item in collection.touching(box_of(wanted.regions.total_bounds)):
        if item.bbox is None:
            continue
        west, south, east, north = item.bbox
        east = east + 360 if east < west else east
        turns = (shapely.box(west + turn, south, east + turn, north) for turn in (-360, 0, 360))
        if any(tree.query(box).size for box in turns):
            found.append(item)
    return found


def box_of(bounds: Any) -> Box:
    """Return the bounds of regions as a box to ask a collection for."""
    west, south, east, north = (float(number) for number in bounds)
    ends = (-180.0, 180.0) if east - west >= 360 else (_turned(west), _turned(east))  # noqa: PLR2004 - a turn
    return check_box((ends[0], max(south, -90.0), ends[1], min(north, 90.0)))


def _turned(longitude: float) -> float:
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180  # noqa: PLR2004 - a turn


def _windows(wanted: Zonal, frame: Frame, items: Sequence[Item]) -> dict[Bounds, dict[int, Bounds]]:
    """Return the windows that regions and items share, in the order of the rows, with where in them which region lies."""
    import shapely

    seen: set[tuple[int, int]] = set()
    for item in items:
        bounds = bounds_of_box(frame, item.bbox) if item.bbox else None
        if bounds is not None:
            seen.update(_tiles(bounds))
    found: dict[tuple[int, int], dict[int, Bounds]] = {}
    for number, region in enumerate(wanted.regions.geometry):
        # Part by part: one on the other side of the antimeridian lies far away.
        for part in shapely.get_parts(region):
            bounds = bounds_of_box(frame, part.bounds) if part.area else None
            for tile in () if bounds is None else _tiles(bounds):
                if bounds is not None and tile in seen:
                    here = found.setdefault(tile, {})
                    here[number] = _around(here.get(number, bounds), bounds)
    if len(found) * WINDOW * WINDOW > _MOST_PIXELS:
        raise LimitError(
            f"These regions have {len(found) * WINDOW * WINDOW / 1e9:,.0f} billion pixels: give larger ones with metres=."
        )
    windows: dict[Bounds, dict[int, Bounds]] = {}
    for row, column in sorted(found):
        left, top = column * WINDOW, row * WINDOW
        clipped = frame.clipped((left, top, left + WINDOW, top + WINDOW))
        if clipped is not None:
            windows[clipped] = found[row, column]
    return windows


def _around(one: Bounds, other: Bounds) -> Bounds:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


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
    wanted: Zonal, frame: Frame, window: Bounds, regions: dict[int, Bounds]
) -> dict[int, tuple[Any, NDArray[np.float64]]]:
    """Return which pixels of a window belong to which region, and their areas on the ground in square metres."""
    grid = frame.window(window)
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    longitudes, latitudes = (
        np.asarray(part).reshape(columns.shape) for part in grid.lonlat(columns.ravel(), rows.ravel())
    )
    across, down = ground_spacing(grid, frame.body)
    areas = np.broadcast_to(across * down, columns.shape)
    found: dict[int, tuple[Any, NDArray[np.float64]]] = {}
    for number, (left, top, right, bottom) in regions.items():
        # A few pixels more: what is between the points of an outline may bend outwards.
        first_row, first_column = max(0, top - window[1] - _MARGIN), max(0, left - window[0] - _MARGIN)
        here = np.s_[
            first_row : max(0, bottom - window[1] + _MARGIN),
            first_column : max(0, right - window[0] + _MARGIN),
        ]
        within = np.nonzero(inside(wanted.regions.geometry.iloc[number], longitudes[here], latitudes[here]))
        if within[0].size:
            place = within[0] + first_row, within[1] + first_column
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
    crs = frame_of(wanted.chain, wanted.items, wanted.metres).lonlat_crs if wanted.items else None
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

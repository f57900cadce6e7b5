"""How a chain is computed on a grid: which items, at which scale, on whose pixels.

Steps that stand next to each other are computed together on one grid (a section of the program). Where a section
ends, another way of looking begins: bands are read from files, a reduction goes over the items, and `at` has what lies
before it computed on a coarser grid of the image's own. A section that looks at neighbours is computed on pixels as they
lie in the image, and its result is then brought to the grid.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import BandError, BodyError, InputError, LimitError
from cupola.lab import bodies
from cupola.lab.chains.compute.composed import PINNED_PIXELS, pinned_whole
from cupola.lab.chains.compute.gaps import Uncovered
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.context import Context
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.graph.reduce import Reduce, accumulator
from cupola.lab.chains.graph.scale import At
from cupola.lab.chains.pixels.grids import ImageGrid
from cupola.lab.chains.pixels.ground import centre_spacing, image_spacing
from cupola.lab.chains.pixels.lattice import lattice_of, padded, steps_of
from cupola.lab.chains.pixels.places import image_pixels
from cupola.lab.chains.pixels.sampling import Sampler
from cupola.lab.collections.footprint import outline_box
from cupola.lab.collections.images import describe
from cupola.lab.collections.wording import capital

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from cupola.lab.bodies import Body
    from cupola.lab.chains.graph.program import Program, Section
    from cupola.lab.chains.graph.source import Source
    from cupola.lab.chains.pixels.grids import AnyGrid
    from cupola.lab.collections.footprint import Box
    from cupola.lab.collections.images import Band, Image
    from cupola.lab.collections.items import Item

__all__ = ["EXACT_PIXELS", "Evaluation", "check_body", "grid_box"]

EXACT_PIXELS = 4096 * 4096
"""Most pixels of an image that an exact preview computes."""
REDUCED_ITEMS = 500
"""Most images that a preview reduces: each costs 5 to 30 ms."""

_MOST_AS_IT_LIES = 9
"""Times as many pixels as the grid has: a turned image has its corners outside, and a level may be twice as fine."""
_LEAST_PINNED = 256 * 256
"""Pixels that a step with a scale of its own may always compute, of an image in a corner of a view."""
_STACK_BYTES = 256 * 1024 * 1024
"""Most memory for the images of a median or percentile; the grid is cut into strips beyond."""
_STRIPS = 4
"""So many times the opening of an image counts at most, where it is read strip by strip."""
_BANDS_KEPT = 256
_CLASS_BANDS = frozenset(
    {"scl", "qa_pixel", "qa60", "fmask", "cloud_mask", "qa_value", "dq", "classes", "lulc"}
)
"""Names of bands whose numbers are classes or flags: of these no averages are made."""

Floats = Any  # NDArray[np.float64], written short


@dataclass
class _Frame:
    """A grid with its halo, and what was found out for it."""

    outer: AnyGrid
    top: int
    left: int
    sampler: Sampler
    wholes: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)


class Evaluation:
    """Computes the lines of a program on grids, and remembers at which scale it did."""

    def __init__(
        self, program: Program, body: Body | None, *, exact: bool = False, limited: bool = True
    ) -> None:
        self.program = program
        self.body = body
        self.full = exact
        """Whether full-resolution pixels are wanted whatever the grid."""
        self.limited = limited
        """Whether somebody waits: a preview has limits that a run has not."""
        self.scale = 0.0
        self.exact = True
        """Whether a run would give these values at these places."""
        self.used: dict[str, None] = {}
        """Ids of the items that were computed, in order."""
        self.left_out = 0
        """Items that may have had something to show, and were not read: somebody waits."""
        self._frames: dict[tuple[int, int], _Frame] = {}
        self._kept: list[AnyGrid] = []
        self._bands: dict[tuple[Item, str], list[Band]] = {}

    # Values

    def values(
        self, place: int, grid: AnyGrid, item: Item | None = None, *, usual: str = "nearest"
    ) -> NDArray[np.float32] | None:
        """Return the value of a line on a grid: float32 (bands, rows, columns); nothing where it has no pixel there.

        Parameters
        ----------
        place
            Number of the line.
        grid
            Where.
        item
            Of which image, for a line that has one for each item.
        usual
            How bands are resampled that do not say.
        """
        step = self.program.lines[place].step
        if isinstance(step, Reduce):
            return self._reduced(place, grid, usual)
        if isinstance(step, At):
            return self._pinned(place, step.metres, grid, item)
        section = self.program.section(place)
        # At a scale of its own the pixels are that scale's, as a run has them.
        full = self.full and usual == "nearest"
        if item is not None and (section.halo or full):
            found = self._as_it_lies(section, grid, item, full=full)
            if found is not None:
                return found[0]
        if section.halo and usual == "nearest" and not _native(grid):
            # Neighbours on this grid are others than those that a run sees.
            self.note(centre_spacing(grid, self.body), exact=False)
        return self._computed(section, grid, item, usual)

    def of_a_run(self, grid: AnyGrid) -> NDArray[np.float32] | None:
        """Return the result on a grid that has the pixels of a run: neighbours are those that the run sees."""
        last = self.program.last
        if isinstance(self.program.lines[last].step, Reduce):
            return self._reduced(last, grid, "nearest")
        return self._computed(self.program.section(last), grid, None, "nearest")

    def _computed(
        self, section: Section, grid: AnyGrid, item: Item | None, usual: str
    ) -> NDArray[np.float32] | None:
        """Compute a section on a grid."""
        frame = self._frame(grid, section.halo)
        lines = self.program.lines
        read = {
            place: [step.taken(band) for name in step.names for band in self.band(item, name)]
            for place in section.leaves
            if isinstance(step := lines[place].step, Bands) and item is not None
        }
        if read and not self._has_pixels(frame, read, usual):
            return None
        others = {
            place: self._leaf(place, frame, item, usual) for place in section.leaves if place not in read
        }
        if others and not read and all(value is None for value in others.values()):
            return None
        size = (1, frame.outer.height, frame.outer.width)

        def leaf(place: int) -> NDArray[np.float32]:
            if place in read:
                how = self._resampling(place, usual)
                return _stacked([frame.sampler.read(band, how) for band in read[place]])
            value = others[place]
            return np.full(size, np.nan, dtype=np.float32) if value is None else value

        values = compute(
            self.program, section, leaf, Context(frame.outer, item, self.body, preview=self.limited)
        )
        if read:
            self._note(frame, [band for bands in read.values() for band in bands], pinned=usual != "nearest")
            frame.sampler.forget()
        if values.shape[1:] == (grid.height, grid.width):
            return values
        return values[:, frame.top : frame.top + grid.height, frame.left : frame.left + grid.width]

    def _has_pixels(self, frame: _Frame, read: dict[int, list[Band]], usual: str) -> bool:
        """Read what is read as it is, file by file; tell whether any band has a pixel here."""
        plain: list[Band] = []
        other: list[Band] = []
        for place, bands in read.items():
            nearest = self._resampling(place, usual) == "nearest"
            (plain if nearest else other).extend(bands)
        found = bool(plain) and frame.sampler.prefetch(plain)
        return found or (bool(other) and frame.sampler.touches(other))

    def _leaf(self, place: int, frame: _Frame, item: Item | None, usual: str) -> NDArray[np.float32] | None:
        """Return the value of a line that is fetched on its own; one image is fetched once for all items."""
        if self.program.lines[place].source is not None:
            return self.values(place, frame.outer, item, usual=usual)
        if place not in frame.wholes:
            frame.wholes[place] = self.values(place, frame.outer, usual=usual)
        return frame.wholes[place]

    def _frame(self, grid: AnyGrid, halo: int) -> _Frame:
        key = (id(grid), halo)
        if key not in self._frames:
            self._kept.append(grid)  # an id is its own only while the grid lives
            outer, top, left = padded(grid, halo)
            self._frames[key] = _Frame(outer, top, left, Sampler(outer))
        return self._frames[key]

    def band(self, item: Item | None, name: str) -> list[Band]:
        """Return the bands of an item that a name stands for; looked for once."""
        if item is None:
            raise InputError("Bands are read of items.")
        key = (item, name)
        if key not in self._bands:
            if len(self._bands) >= _BANDS_KEPT:
                self._bands.clear()
            self._bands[key] = item.band(name)
        return self._bands[key]

    def _resampling(self, place: int, usual: str) -> str:
        """Return how a line's bands are brought to a grid."""
        step = self.program.lines[place].step
        if not isinstance(step, Bands) or (step.resampling is None and usual == "nearest"):
            return "nearest"
        if step.resampling is not None:
            return step.resampling
        classes = any(name.rpartition(":")[2].casefold() in _CLASS_BANDS for name in step.names)
        return "nearest" if classes else usual

    # Pixels as they lie in an image

    def images(self, place: int, item: Item) -> list[Image]:
        """Return the files that are read of an item for a line, the one with the smallest pixels first."""
        steps = self.program.reads(place)
        source = self.program.lines[place].source or steps[0].source
        paths = {
            band.path: None
            for step in steps
            if step.source == source
            for name in step.names
            for band in self.band(item, name)
        }
        images = [describe(path) for path in paths]
        return sorted(images, key=lambda image: math.prod(image_spacing(image, self.body)))

    def _as_it_lies(
        self, section: Section, grid: AnyGrid, item: Item, *, full: bool
    ) -> tuple[NDArray[np.float32] | None] | None:
        """Compute a section on the image's own pixels; nothing where that would be far more than the grid has."""
        images = self.images(section.target, item)
        if not images:
            return None
        image = images[0]
        if isinstance(grid, ImageGrid) and grid.image == image:
            return None
        found = image_pixels(grid, image)
        if found is None:
            return (None,)
        columns, rows, factor = found
        step = 1.0 if full else max((n for n in image.overviews if n <= factor * 1.0001), default=1)
        lattice = lattice_of(image, columns, rows, (float(step), float(step)))
        if lattice is None:
            return (None,)
        pixels = lattice.grid.width * lattice.grid.height
        if full and self.limited and pixels > EXACT_PIXELS:
            raise LimitError(
                f"An exact preview would compute {pixels / 1e6:,.0f} million pixels of {item}, and at most "
                f"{EXACT_PIXELS / 1e6:.0f} million are: zoom in, or run the chain."
            )
        if not full and pixels > _MOST_AS_IT_LIES * grid.width * grid.height:
            return None
        values = self._computed(section, lattice.grid, item, "nearest")
        return (None if values is None else lattice.bring(values),)

    def _pinned(
        self, place: int, metres: float, grid: AnyGrid, item: Item | None
    ) -> NDArray[np.float32] | None:
        """Compute what lies before a scale at that scale, and bring it to the grid by the nearest pixel."""
        (before,) = self.program.lines[place].lines
        if item is None:
            return pinned_whole(self, before, metres, grid)
        images = self.images(before, item)
        image = images[0]
        found = image_pixels(grid, image)
        if found is None:
            return None
        size = metres
        while True:
            lattice = lattice_of(image, found[0], found[1], steps_of(image, self.body, size))
            if lattice is None:
                return None
            # What fills a corner of the view gets a corner of the work.
            share = float(lattice.inside.mean()) if self.limited else 1.0
            if lattice.grid.width * lattice.grid.height <= max(PINNED_PIXELS * share, _LEAST_PINNED):
                break
            size = self.coarser(size, metres)
        self.note(size, exact=size == metres)
        values = self.values(before, lattice.grid, item, usual="average")
        return None if values is None else lattice.bring(values)

    def coarser(self, size: float, metres: float) -> float:
        """Return the next size to try for a step that asked for `metres`, where its pixels are too many.

        Raises
        ------
        LimitError
            In a run, which must not give other values than were asked for.
        """
        if not self.limited:
            raise LimitError(
                f"at({metres:g}) makes too many pixels for one window of a run: choose a scale nearer to that of the "
                "images."
            )
        return size * 2

    def forget(self) -> None:
        """Let go of what was found out for grids: the next windows of a run lie elsewhere."""
        self._frames.clear()
        self._kept.clear()

    # Many items

    def items(self, source: Source, grid: AnyGrid) -> Sequence[Item]:
        """Return the items of a collection that a grid looks at, the newest first."""
        collection = source.collection
        if isinstance(grid, ImageGrid) and grid.image.placement is None:
            return collection.items
        box = grid_box(grid)
        found = collection.touching(box) if box else []
        if not len(found):
            # Data of another body may well have none of its places here: that is refused, and not empty.
            check_body(collection.items[:1], self.body)
        return found

    def each(
        self, place: int, grid: AnyGrid, items: Iterable[Item], usual: str = "nearest"
    ) -> Iterator[tuple[Item, NDArray[np.float32]]]:
        """Yield items and a line's values for them on a grid; those without the bands are passed over.

        Raises
        ------
        BandError
            When no item has the bands.
        """
        no_band: BandError | None = None
        seen = False
        for item in items:
            check_body((item,), self.body)
            try:
                values = self.values(place, grid, item, usual=usual)
            except BandError as error:
                no_band = no_band or error
                continue
            seen = True
            if values is not None:
                yield item, values
        if no_band is not None and not seen:
            raise no_band

    def covered(self, place: int, grid: AnyGrid, item: Item) -> NDArray[np.bool_]:
        """Tell which places of a grid (rows, columns) lie in the images of an item that a line reads."""
        sampler = self._frame(grid, 0).sampler
        found = np.zeros((grid.height, grid.width), dtype=np.bool_)
        for image in self.images(place, item):
            found |= sampler.covered(image)
        return found

    def _reduced(self, place: int, grid: AnyGrid, usual: str) -> NDArray[np.float32] | None:
        """Make one image of all items on a grid."""
        line = self.program.lines[place]
        step = line.step
        (before,) = line.lines
        source = self.program.lines[before].source
        if not isinstance(step, Reduce) or source is None:
            raise InputError("A reduction makes one image of many.")
        items = self.items(source, grid)
        on_top = step.how in {"mosaic", "last"}
        strips = 1 if step.streamed else self._strips(before, grid, items)
        # Each strip opens all images again.
        if self.limited and not on_top and len(items) * min(strips, _STRIPS) > REDUCED_ITEMS:
            raise LimitError(
                f"The {step.how} is of {len(items):,} images here, more than a preview waits for "
                f"({REDUCED_ITEMS // min(strips, _STRIPS)}): zoom in, choose a shorter time with "
                "filter(datetime=...), or run() it."
            )
        if strips > 1:
            return self._in_strips(place, grid, strips, usual)
        made = accumulator(step)
        queue = Uncovered(items, grid, REDUCED_ITEMS if self.limited and on_top else None)
        for item, values in self.each(before, grid, queue, usual):
            made.add(values)
            self.used[item.id] = None
            if made.full:
                break
            queue.missing = made.missing
            if queue.learns:
                queue.learn(self.covered(before, grid, item))
        if queue.left:
            self.left_out, self.exact = self.left_out + queue.left, False
        return None if made.empty else made.result()

    def _strips(self, place: int, grid: AnyGrid, items: Sequence[Item]) -> int:
        """Return into how many strips of rows a grid is cut so that all images fit into memory."""
        bands = 0
        for item in items[:1]:
            try:
                bands = sum(
                    len(self.band(item, name)) for step in self.program.reads(place) for name in step.names
                )
            except BandError:
                bands = 1
        needed = len(items) * max(bands, 1) * grid.width * grid.height * 4
        return min(grid.height, math.ceil(needed / _STACK_BYTES))

    def _in_strips(self, place: int, grid: AnyGrid, strips: int, usual: str) -> NDArray[np.float32] | None:
        edges = np.linspace(0, grid.height, strips + 1).astype(int)
        parts: list[tuple[int, NDArray[np.float32] | None]] = []
        for top, bottom in itertools.pairwise(edges):
            rows = int(bottom - top)
            parts.append((rows, self.values(place, grid.window(0, int(top), grid.width, rows), usual=usual)))
            self.forget()
        bands = max((part.shape[0] for _, part in parts if part is not None), default=0)
        if not bands:
            return None
        whole = [
            np.full((bands, rows, grid.width), np.nan, dtype=np.float32) if part is None else part
            for rows, part in parts
        ]
        return np.concatenate(whole, axis=1)

    # At which scale

    def note(self, scale: float, *, exact: bool) -> None:
        """Remember that something was computed at so many metres per pixel."""
        self.scale = max(self.scale, scale)
        self.exact = self.exact and exact

    def _note(self, frame: _Frame, bands: list[Band], *, pinned: bool) -> None:
        """Remember at which scale bands were read; at a scale of its own a run reads the same pixels."""
        if pinned:
            return
        grid = frame.outer
        for path in {band.path for band in bands}:
            image = describe(path)
            native = math.sqrt(math.prod(image_spacing(image, self.body)))
            decimation = frame.sampler.decimation(image)
            own = centre_spacing(grid, self.body)
            self.note(max(native * decimation, own), exact=decimation == 1 or self.full)


def _stacked(arrays: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)


def _native(grid: AnyGrid) -> bool:
    """Tell whether a grid has the pixels of an image as they are."""
    return isinstance(grid, ImageGrid) and grid.step == grid.down == 1.0


def check_body(items: Sequence[Item], body: Body | None) -> None:
    """Refuse data of one body on the grid of another.

    Raises
    ------
    BodyError
        When an item shows another body, or has no coordinate system.
    """
    if body is None:
        return
    for item in items:
        if item.body is None:
            raise BodyError(
                f"{capital(item)} has no coordinate system, so it has no place on a map of {body.name}; "
                "run the chain over it, or give it a camera model first."
            )
        if item.body.name != body.name:
            raise BodyError(
                f"{capital(item)} shows {item.body.name}, which cannot be drawn on a map of {body.name}; "
                f"use a map of {item.body.name} ({bodies.tms_name(item.body)})."
            )


def grid_box(grid: AnyGrid) -> Box | None:
    """Return a grid's box in degrees, poles and antimeridian taken into account; nothing where it has no place."""
    steps = np.linspace(0, 1, 17)
    zeros, ones = np.zeros_like(steps), np.ones_like(steps)
    # A hair inside: on the very edge of the world -180 and +180 are the same place.
    columns = 1e-6 + np.concatenate([steps, ones, steps[::-1], zeros]) * (grid.width - 2e-6)
    rows = 1e-6 + np.concatenate([zeros, steps, ones, steps[::-1]]) * (grid.height - 2e-6)
    return outline_box(*grid.lonlat(columns, rows))

"""What an overview is made of: which items a tile shows, and their values read from the files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import statistics
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from morecantile import Tile

from cupola.exceptions import BandError, CupolaError, ImageError, InputError
from cupola.lab import bodies
from cupola.lab.chains.compute.evaluation import Evaluation, check_body
from cupola.lab.chains.compute.gaps import Gaps
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.pixels.grids import tile_grid
from cupola.lab.chains.pixels.ground import centre_spacing, image_spacing
from cupola.lab.chains.pixels.sampling import Sampler
from cupola.lab.collections.images import describe, fingerprint
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt
from cupola.lab.tiles import records as room
from cupola.lab.tiles.records import COVERED, DEPTH, READ, SIZE, UNREADABLE, WAITING, Records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cupola.lab.chains import Chain
    from cupola.lab.chains.pixels.grids import Grid
    from cupola.lab.collections import Item

__all__ = ["FEW", "Where", "bands_of", "load", "locate", "read"]

VERSION = 2
FEW = 4
"""Tiles that show no more items are quick without an overview."""
LEAF = 400
"""Tiles that show no more items are made of their files, others of the tiles at the next level."""
AT_ONCE = 16
"""So many items are read between two looks at what is covered."""
STAMPED = 1000
"""Up to so many items of a tile have their files looked at for changes; of more, only the items' own."""
POINTWISE = frozenset({"bands", "ufunc", "where", "isin", "bits", "select", "stack", "map"})
"""Steps that look at one pixel of one item and nothing else (`map` without a halo)."""
MOST_SEEN = 4000
"""Tiles of which it is remembered that they were looked at."""


@dataclass(frozen=True)
class Where:
    """A tile, its grid, and the items that it shows."""

    key: str
    tms: str
    z: int
    x: int
    y: int
    grid: Grid
    items: Sequence[Item]
    leaf: bool
    """Whether it is made of files, and not of the tiles at the next level."""

    @property
    def path(self) -> Path:
        """The file of its records."""
        return room.folder() / self.key / f"{self.tms}-{self.z}-{self.x}-{self.y}.npz"


def bands_of(chain: Chain) -> tuple[str, ...] | None:
    """Return the names of the bands that a chain reads, if it looks at single pixels of single items only."""
    program = chain.program
    if program.source is None or len(program.sources) != 1 or program.halo:
        return None
    if any(line.step.op not in POINTWISE for line in program.lines):
        return None
    if any(
        step.resampling not in {None, "nearest"} or step.saturated is not None
        for step in program.of_kind(Bands)
    ):
        return None
    return tuple(sorted(program.bands(program.source)))


@lru_cache(maxsize=64)
def _plane(tms: str) -> Any:
    system = bodies.tile_matrix_set(tms).crs
    return lonlat_of_wkt(system._pyproj_crs.to_wkt())  # noqa: SLF001 - morecantile has no other way


def locate(  # noqa: PLR0913 - a tile of a chain, and what is asked of it
    chain: Chain,
    tms: str,
    place: tuple[int, int, int],
    names: tuple[str, ...],
    *,
    least: int = FEW + 1,
    part: bool = False,
) -> Where | None:
    """Return what is in a tile; nothing where it shows few items, or items that are larger than itself.

    A tile that is `part` of another shows items of any size.
    """
    z, x, y = place
    grid_set = bodies.tile_matrix_set(tms)
    if not grid_set.minzoom <= z <= grid_set.maxzoom:
        return None
    matrix = grid_set.matrix(z)
    source = chain.program.source
    if source is None or not (0 <= x < matrix.matrixWidth and 0 <= y < matrix.matrixHeight):
        return None
    box = grid_set.xy_bounds(Tile(x, y, z))
    grid = tile_grid(_plane(tms), (box.left, box.bottom, box.right, box.top), SIZE)
    body = bodies.body_of_tms(tms)
    items = Evaluation(chain.program, body).items(source, grid)
    if len(items) < least:
        return None
    boxes = [found for item in items[:50] if (found := item.bbox) is not None]
    tall = math.radians(statistics.median(north - south for _, south, _, north in boxes)) * body.radius
    # Metres of the grid are metres on the ground where it is true, and more elsewhere: the larger images get none then.
    wide = centre_spacing(grid, body) * SIZE
    if not part and tall >= wide:
        return None
    leaf = len(items) <= LEAF or 2 * tall >= wide or z >= grid_set.maxzoom
    text = json.dumps([VERSION, source.reference["source"], names])
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Where(key, tms, z, x, y, grid, items, leaf)


def _marks(items: Sequence[Item], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a text for each item that changes when its files do; nothing of very many."""
    return () if len(items) > STAMPED else tuple(_mark(item, names) for item in items)


def _mark(item: Item, names: tuple[str, ...]) -> str:
    parts: list[Any] = []
    for name in names:
        with contextlib.suppress(CupolaError):
            parts += [fingerprint(band.path) for band in item.band(name)]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


_seen: dict[tuple[str, Path], int] = {}


def load(where: Where, names: tuple[str, ...], revision: str) -> Records | None:
    """Return the records of a tile; nothing where there are none, or its items have changed since."""
    path = where.path
    records, changed = room.load(path)
    if records is None:
        return None
    # One look is enough for each revision: its collection is as it was when it was opened.
    if not revision or _seen.get((revision, path)) != changed:
        if records.keys != room.keys_of(where.items):
            return None
        if records.marks and records.marks != _marks(where.items, names):
            return None
        if len(_seen) > MOST_SEEN:
            _seen.clear()
        _seen[revision, path] = changed
    return records


class _Reading:
    """Reads the items of a tile as the evaluation reads them; those that are known already are taken over."""

    def __init__(self, chain: Chain, names: tuple[str, ...], where: Where, seconds: float) -> None:
        self.names = names
        self.items = where.items
        self.end = time.monotonic() + seconds
        self.evaluation = Evaluation(chain.program, bodies.body_of_tms(where.tms))
        self.sampler = Sampler(where.grid)
        self.keys, self.marks = room.keys_of(where.items), _marks(where.items, names)
        self.depth = np.zeros(SIZE * SIZE, dtype=np.uint8)
        self.state = np.full(len(where.items), WAITING, dtype=np.uint8)
        self.places = [np.zeros(0, np.uint16)] * len(where.items)
        self.values: list[NDArray[np.float32] | None] = [None] * len(where.items)
        self.no_band: BandError | None = None
        self.evaluation.note(centre_spacing(where.grid, self.evaluation.body), exact=True)
        before = room.load(where.path)[0]
        self.old = before.by_key() if before is not None else {}
        if before is not None:
            self.evaluation.note(before.scale, exact=before.exact)
        self.old_marks = before.marks if before is not None else ()
        self._grid = where.grid
        self._gaps: Gaps | None = None

    def records(self) -> Records:
        """Read until all is there, or the time is over."""
        count = len(self.items)
        for first in range(0, count, AT_ONCE):
            rows = np.arange(first, min(first + AT_ONCE, count))
            if first:
                rows = self._uncovered(rows)
            for row in rows.tolist():
                # Without a first few there is nothing to show; what is known already costs no time.
                if row >= AT_ONCE and time.monotonic() > self.end and self.keys[row] not in self.old:
                    continue
                self._take(row)
        if self.no_band is not None and not any(part is not None for part in self.values):
            raise self.no_band
        bands = {len(part) for part in self.values if part is not None}
        none = np.zeros((max(bands, default=0), 0), np.float32)
        return Records(
            self.keys,
            self.marks,
            self.state,
            np.array([len(part) for part in self.places], dtype=np.int64),
            np.concatenate(self.places),
            np.concatenate([none, *(part for part in self.values if part is not None)], axis=1),
            self.evaluation.scale,
            self.evaluation.exact,
        )

    def _uncovered(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of the rows whose items lie where fewer than `DEPTH` others do; note the rest."""
        missing = (self.depth < DEPTH).reshape(SIZE, SIZE)
        if missing.all():
            return rows
        if self._gaps is None:
            self._gaps = Gaps(self._grid, self.items)
        seen = self._gaps.seen(rows, missing)
        self.state[rows[~seen]] = COVERED
        return rows[seen]

    def _take(self, row: int) -> None:
        """Read an item, or take it over."""
        found = self._known(row)
        if found is None:
            item = self.items[row]
            self.state[row] = READ
            try:
                layers = _layers(self.evaluation, self.sampler, item, self.names)
            except BandError as error:
                self.no_band = self.no_band or error
                return
            except ImageError:
                self.state[row] = UNREADABLE
                return
            if layers is None:
                return
            if self._gaps is not None and self._gaps.learns(row):
                self._gaps.learn(row, self._covered(item))
            other = next((len(part) for part in self.values if part is not None), len(layers))
            if len(layers) != other:
                raise InputError(f"{capital(item)} has another number of bands than the other items.")
            at = np.flatnonzero(np.isfinite(layers).any(axis=0) & (self.depth < DEPTH))
            found = at.astype(np.uint16), layers[:, at]
        self.state[row] = READ
        self.depth[found[0]] += 1
        self.places[row], self.values[row] = found

    def _covered(self, item: Item) -> NDArray[np.bool_]:
        paths = {band.path for name in self.names for band in self.evaluation.band(item, name)}
        found = [self.sampler.covered(describe(path)) for path in paths]
        return np.asarray(np.logical_or.reduce(found), dtype=np.bool_)

    def _known(self, row: int) -> tuple[NDArray[np.uint16], NDArray[np.float32]] | None:
        """Return what is known of an item, if it and its files are as they were."""
        entry = self.old.get(self.keys[row])
        if entry is None:
            return None
        number, place, values = entry
        if self.marks and (not self.old_marks or self.old_marks[number] != self.marks[row]):
            return None
        return place, values


def read(chain: Chain, names: tuple[str, ...], where: Where, seconds: float) -> Records:
    """Return the records of a tile from its items' files, of as many as there is time for."""
    return _Reading(chain, names, where, seconds).records()


def _layers(
    evaluation: Evaluation, sampler: Sampler, item: Item, names: tuple[str, ...]
) -> NDArray[np.float32] | None:
    """Return an item's bands (bands, pixels) in the tile; nothing where it has none here."""
    body = evaluation.body
    check_body((item,), body)
    wanted = [band for name in names for band in evaluation.band(item, name)]
    if not sampler.prefetch(wanted):
        return None
    layers = np.stack([sampler.read(band) for band in wanted]).reshape(len(wanted), -1)
    for path in {band.path for band in wanted}:
        image = describe(path)
        decimation = sampler.decimation(image)
        native = math.sqrt(math.prod(image_spacing(image, body)))
        evaluation.note(native * decimation, exact=decimation == 1)
    sampler.forget()
    return layers

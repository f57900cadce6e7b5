"""Tiles that show many small images at once, from an overview of the collection.

At world zoom a tile shows dozens or thousands of items, each a few pixels wide: opening and reading them all takes
seconds. So the values of all items in such a tile are kept once, as the evaluation reads them from the items' own
pyramids: one record for each pixel of each item. A chain whose steps look at single pixels is then computed over all
records in one go and laid over one another as ever, the newest on top: the tile is the same as without the overview, at
the same scale. Any such chain over the same bands uses the same records.

Records are made in the background when such a tile is asked for the first time, and kept below
``$CUPOLA_RUNTIME/overviews``, one file for each tile. When items came or went, only tiles that show them are made again, and
only what is new is read. It is a cache: bounded, and anything missing, foreign or broken is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import statistics
import tempfile
import time
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from morecantile import Tile

from cupola.exceptions import BandError, CupolaError, InputError
from cupola.lab import bodies
from cupola.lab.chains.compute.evaluate import IMAGE_SPACE, Pixels
from cupola.lab.chains.compute.evaluation import Evaluation, check_body
from cupola.lab.chains.graph.bands import Bands
from cupola.lab.chains.graph.context import NOWHERE
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.pixels.grids import tile_grid
from cupola.lab.chains.pixels.ground import centre_spacing, image_spacing
from cupola.lab.chains.pixels.sampling import Sampler
from cupola.lab.collections.images import describe, fingerprint
from cupola.lab.collections.wording import capital
from cupola.lab.projection import lonlat_of_wkt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cupola.lab.chains import Chain
    from cupola.lab.chains.pixels.grids import Grid
    from cupola.lab.collections import Item

__all__ = ["FEW", "build", "tile", "work"]

VERSION = 1
SIZE = 256
FEW = 4
"""Tiles that show no more items are quick without an overview."""
DEPTH = 12
"""Most items kept over one another at one pixel: masks may make holes in those on top."""
MOST_TILES = 400
MOST_SECONDS = 300.0
"""What the making of one overview may take; what is missing is shown without it."""
MOST_BYTES = 512 * 1024 * 1024
"""Of all overviews together; those not used for longest go first."""
MEMORY_BYTES = 48 * 1024 * 1024
"""What a worker keeps of them."""
STAMPED = 1000
"""Up to so many items of a tile have their files looked at for changes; of more, only the items' own."""
POINTWISE = frozenset({"bands", "ufunc", "where", "isin", "bits", "select", "stack", "map"})
"""Steps that look at one pixel of one item and nothing else (`map` without a halo)."""


@dataclass(frozen=True)
class Records:
    """The values of all items in one tile: one record for each pixel of each item, the newest item first."""

    keys: tuple[str, ...]
    """Of the items, as they were when they were read."""
    counts: NDArray[np.int64]
    """Records of each item."""
    place: NDArray[np.uint16]
    """Of each record: row * 256 + column."""
    values: NDArray[np.float32]
    """(bands, records), the bands in the order of the key."""
    scale: float
    exact: bool

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.place.nbytes + self.values.nbytes)


@dataclass(frozen=True)
class _Where:
    """A tile, its grid, and the items that it shows."""

    key: str
    tms: str
    z: int
    x: int
    y: int
    grid: Grid
    items: tuple[Item, ...]

    @property
    def path(self) -> Path:
        return folder() / self.key / f"{self.tms}-{self.z}-{self.x}-{self.y}.npz"


def folder() -> Path:
    """Return where overviews are kept."""
    runtime = os.environ.get("CUPOLA_RUNTIME")
    return (Path(runtime) if runtime else Path.home() / ".cupola") / "overviews"


def tile(chain: Chain, tms: str, place: tuple[int, int, int], revision: str) -> tuple[Pixels | None, int]:
    """Return a tile made of an overview, and of how many items one is wanted.

    Parameters
    ----------
    chain
        What to compute.
    tms
        Name of the tile grid.
    place
        Zoom level, column and row; of 256 pixels.
    revision
        The word that stands for the state of the collection with which the chain was opened.

    Returns
    -------
    pixels
        Nothing where the tile has to be computed from the files.
    items
        How many the tile shows, where an overview would help and is not there; else none.
    """
    # In image space there is one image, so there is nothing to lay over one another.
    names = None if tms == IMAGE_SPACE else _bands(chain)
    where = _look(chain, tms, place, names) if names else None
    if names is None or where is None:
        return None, 0
    records = _load(where, names, revision)
    if records is None:
        return None, len(where.items)
    return _draw(chain, names, records, where), 0


def work(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make the overview of a chain's collection on the grid ``tms``; tells how many ``tiles`` it has."""
    return {"tiles": build(chain, request["tms"])}, b""


def build(chain: Chain, tms: str) -> int:
    """Make the tiles of the overview that are missing; return how many were made."""
    names = _bands(chain)
    if not names:
        return 0
    grid = bodies.tile_matrix_set(tms)
    first = grid.matrix(0)
    todo = [(0, x, y) for x in range(first.matrixWidth) for y in range(first.matrixHeight)]
    made, end = 0, time.monotonic() + MOST_SECONDS
    while todo and made < MOST_TILES and time.monotonic() < end:
        place = todo.pop(0)
        where = _look(chain, tms, place, names)
        if where is None:
            continue
        if _load(where, names, "") is None:
            # What is wrong with an item is told by the tile itself.
            with contextlib.suppress(CupolaError):
                _keep(where, _read(chain, names, where))
            made += 1
        z, x, y = place
        todo += [(z + 1, 2 * x + column, 2 * y + row) for row in (0, 1) for column in (0, 1)]
    _prune()
    return made


def _bands(chain: Chain) -> tuple[str, ...] | None:
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


def _look(chain: Chain, tms: str, place: tuple[int, int, int], names: tuple[str, ...]) -> _Where | None:
    """Return what is in a tile; nothing where it shows few items, or items that are larger than itself."""
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
    if len(items) <= FEW:
        return None
    boxes = [found for item in items[:50] if (found := item.bbox) is not None]
    tall = math.radians(statistics.median(north - south for _, south, _, north in boxes)) * body.radius
    # Metres of the grid are metres on the ground where it is true, and more elsewhere: the larger images get none then.
    if not boxes or tall >= centre_spacing(grid, body) * SIZE:
        return None
    text = json.dumps([VERSION, source.reference["source"], names])
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return _Where(key, tms, z, x, y, grid, tuple(items))


def _key(item: Item, names: tuple[str, ...], *, files: bool) -> str:
    """Return a text that changes when the item does."""
    parts: list[Any] = [item.id, str(item.path or item.image), item.stamp]
    if files or item.image is not None:
        for name in names:
            with contextlib.suppress(CupolaError):
                parts += [fingerprint(band.path) for band in item.band(name)]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


_memory: OrderedDict[tuple[Path, int], Records] = OrderedDict()
_seen: dict[tuple[str, Path], int] = {}


def _load(where: _Where, names: tuple[str, ...], revision: str) -> Records | None:
    """Return the records of a tile; nothing where there are none, or its items have changed since."""
    path = where.path
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None
    records = _memory.get((path, changed)) or _parse(path)
    if records is None:
        return None
    # One look is enough for each revision: its collection is as it was when it was opened.
    if not revision or _seen.get((revision, path)) != changed:
        if records.keys != _keys(where, names):
            return None
        if len(_seen) > MOST_TILES * 10:
            _seen.clear()
        _seen[revision, path] = changed
    _memory[path, changed] = records
    _memory.move_to_end((path, changed))
    while sum(kept.size for kept in _memory.values()) > MEMORY_BYTES and len(_memory) > 1:
        _memory.popitem(last=False)
    return records


def _keys(where: _Where, names: tuple[str, ...]) -> tuple[str, ...]:
    files = len(where.items) <= STAMPED
    return tuple(_key(item, names, files=files) for item in where.items)


def _parse(path: Path) -> Records | None:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            records = Records(
                tuple(about["keys"]),
                file["counts"],
                file["place"],
                file["values"],
                about["scale"],
                about["exact"],
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    whole = records.counts.sum() == records.place.size == records.values.shape[-1]
    return records if whole and len(records.keys) == len(records.counts) else None


def _old(records: Records | None) -> dict[str, tuple[NDArray[np.uint16], NDArray[np.float32]]]:
    """Return the records of the items that are known already."""
    if records is None:
        return {}
    ends = np.cumsum(records.counts)
    return {
        key: (records.place[end - count : end], records.values[:, end - count : end])
        for key, count, end in zip(records.keys, records.counts, ends, strict=True)
    }


def _read(chain: Chain, names: tuple[str, ...], where: _Where) -> Records:
    """Read the items of a tile as the evaluation reads them; those that are known already are taken over."""
    body = bodies.body_of_tms(where.tms)
    evaluation, sampler = Evaluation(chain.program, body), Sampler(where.grid)
    before, keys = _parse(where.path), _keys(where, names)
    old = _old(before)
    evaluation.note(centre_spacing(where.grid, body), exact=True)
    if before is not None:
        evaluation.note(before.scale, exact=before.exact)
    depth = np.zeros(SIZE * SIZE, dtype=np.uint8)
    places: list[NDArray[np.uint16]] = []
    values: list[NDArray[np.float32]] = []
    bands = {len(layers) for _, layers in old.values()}
    for item, key in zip(where.items, keys, strict=True):
        found = old.get(key)
        if found is None:
            layers = _layers(evaluation, sampler, item, names)
            if layers is None:
                places.append(np.zeros(0, np.uint16))
                continue
            bands.add(len(layers))
            if len(bands) > 1:
                raise InputError(f"{capital(item)} has another number of bands than the other items.")
            at = np.flatnonzero(np.isfinite(layers).any(axis=0) & (depth < DEPTH))
            found = at.astype(np.uint16), layers[:, at]
        depth[found[0]] += 1
        places.append(found[0])
        values.append(found[1])
    counts = np.array([len(part) for part in places], dtype=np.int64)
    everything = np.concatenate([np.zeros((max(bands, default=0), 0), np.float32), *values], axis=1)
    return Records(keys, counts, np.concatenate(places), everything, evaluation.scale, evaluation.exact)


def _layers(
    evaluation: Evaluation, sampler: Sampler, item: Item, names: tuple[str, ...]
) -> NDArray[np.float32] | None:
    """Return an item's bands (bands, pixels) in the tile; nothing where it has none here."""
    body = evaluation.body
    check_body((item,), body)
    try:
        wanted = [band for name in names for band in evaluation.band(item, name)]
    except BandError:
        return None
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


def _keep(where: _Where, records: Records) -> None:
    """Write records, whole or not at all; a full disk is no reason to fail."""
    path = where.path
    about = json.dumps({"keys": records.keys, "scale": records.scale, "exact": records.exact}).encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(
                    file,
                    about=np.frombuffer(about, np.uint8),
                    counts=records.counts,
                    place=records.place,
                    values=records.values,
                )
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def _prune() -> None:
    """Delete what was not used for longest, until all overviews together are small enough."""
    with contextlib.suppress(OSError):
        files = [(path, path.stat()) for path in folder().rglob("*.npz")]
        total = sum(status.st_size for _, status in files)
        for path, status in sorted(files, key=lambda entry: max(entry[1].st_mtime, entry[1].st_atime)):
            # A draft that is old was left behind by somebody who was killed.
            left = path.name.startswith(".") and status.st_mtime < time.time() - 3600
            if total <= MOST_BYTES and not left:
                continue
            path.unlink(missing_ok=True)
            total -= status.st_size


def _draw(chain: Chain, names: tuple[str, ...], records: Records, where: _Where) -> Pixels:
    """Compute a chain over the records of a tile, and lay the items over one another."""
    program = chain.program
    first, numbers = 0, {}
    item = next((item for item, count in zip(where.items, records.counts, strict=True) if count), None)
    data = np.full((1, SIZE, SIZE), np.nan, dtype=np.float32)
    if item is None:
        return Pixels(data, np.zeros((SIZE, SIZE), dtype=bool), [], records.scale, records.exact)
    for name in names:
        count = len(item.band(name))
        numbers[name] = range(first, first + count)
        first += count

    def leaf(place: int) -> NDArray[np.float32]:
        step = program.lines[place].step
        chosen = [number for name in getattr(step, "names", ()) for number in numbers[name]]
        return records.values[chosen][:, np.newaxis]

    values = compute(program, program.section(program.last), leaf, NOWHERE)[:, 0]
    good = np.flatnonzero(np.isfinite(values).any(axis=0))
    # Of several values for one place NumPy keeps the last, which has to be that of the newest item.
    good = good[::-1]
    place = records.place[good]
    data = np.full((len(values), SIZE * SIZE), np.nan, dtype=np.float32)
    data[:, place] = values[:, good]
    valid = np.zeros(SIZE * SIZE, dtype=bool)
    valid[place] = True
    owners = np.searchsorted(np.cumsum(records.counts), good, side="right")
    top = np.full(SIZE * SIZE, -1, dtype=np.int64)
    top[place] = owners
    shown = [where.items[number].id for number in np.unique(top[top >= 0])]
    shape = (SIZE, SIZE)
    return Pixels(data.reshape(-1, *shape), valid.reshape(shape), shown, records.scale, records.exact)

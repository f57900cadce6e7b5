"""Tiles that show many small images at once, from an overview of the collection.

At world zoom a tile shows dozens or thousands of items, each a few pixels wide: opening and reading them all takes
seconds. So the values of all items in such a tile are kept once, as the evaluation reads them from the items' own
pyramids: one record for each pixel of each item (`records`). A chain whose steps look at single pixels is then computed over
all records in one go and laid over one another as ever, the newest on top: the tile is the same as without the overview, at
the same scale. Any such chain over the same bands uses the same records.

A tile with some hundred items is made of their files, by whoever asks for it first as far as that is quick, and in the
background. A tile with more is made of the four at the next level, so that each of 100,000 files is read once; as long as
some of them wait, it shows what is there and says how many are missing. When items came or went, only tiles that show
them are made again, and only what is new is read.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cupola.exceptions import CupolaError, InputError
from cupola.lab import bodies
from cupola.lab.chains.compute import evaluate
from cupola.lab.chains.compute.evaluate import IMAGE_SPACE, Pixels
from cupola.lab.chains.graph.context import NOWHERE
from cupola.lab.chains.graph.program import compute
from cupola.lab.chains.pixels.ground import centre_spacing
from cupola.lab.tiles import records as room
from cupola.lab.tiles.reading import FEW, Where, bands_of, load, locate, read
from cupola.lab.tiles.records import COVERED, DEPTH, READ, SIZE, UNREADABLE, Records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains import Chain

__all__ = ["FEW", "SIZES", "Built", "Look", "build", "tile", "work"]

SIZES = (SIZE, 2 * SIZE)
"""Tiles of these sizes are made of overviews."""
WAIT_SECONDS = 1.0
"""So long somebody who asks for a tile waits for files; the rest is read in the background."""
MOST_TILES = 400
"""Tiles that are made before anybody asks for them, beside those that others are made of."""
MOST_AHEAD = 5000
"""Items of a collection up to which that is done."""
MOST_SECONDS = 300.0
"""What the making of one overview may take at once; what is missing is shown without it."""


class Look(NamedTuple):
    """A tile made of an overview."""

    pixels: Pixels | None
    """Nothing where the tile has to be computed from the files."""
    wanted: int = 0
    """Of how many items an overview is to be made, because it is not there or lacks some."""
    waiting: int = 0
    """How many items are missing in the tile that will be there later."""
    unreadable: int = 0
    """How many cannot be read."""


class Built(NamedTuple):
    """What was made of an overview."""

    made: int
    more: bool
    """Whether there was no time for some of it."""


def tile(chain: Chain, tms: str, place: tuple[int, int, int], revision: str, size: int = SIZE) -> Look:
    """Return a tile made of an overview, as far as there is one or it is quickly made.

    Parameters
    ----------
    chain
        What to compute.
    tms
        Name of the tile grid.
    place
        Zoom level, column and row.
    revision
        The word that stands for the state of the collection with which the chain was opened.
    size
        Rows and columns: 256, or 512, which are those of the four tiles at the next level.
    """
    # In image space there is one image, so there is nothing to lay over one another.
    names = None if tms == IMAGE_SPACE else bands_of(chain)
    where = locate(chain, tms, place, names) if names else None
    if names is None or where is None:
        return Look(None)
    if size == 2 * SIZE:
        return _of_four(chain, where, revision)
    records = load(where, names, revision)
    made = where.leaf and (records is None or records.waiting > 0)
    if made:
        records = read(chain, names, where, WAIT_SECONDS)
        room.keep(where.path, records)
    if records is None and (stale := room.load(where.path)[0]) is not None:
        # Better what is known of them than nothing, until they are looked at again.
        records = room.rebased(stale, room.keys_of(where.items))
        made = True
    if records is None or not (records.state == READ).any():
        return Look(None, len(where.items), len(where.items))
    pixels = _draw(chain, names, records, where)
    wanted = len(where.items) if made or records.waiting else 0
    return Look(pixels, wanted, records.waiting, int(np.count_nonzero(records.state == UNREADABLE)))


def _of_four(chain: Chain, where: Where, revision: str) -> Look:
    """Return a tile of 512 pixels."""
    if where.z + 1 > bodies.tile_matrix_set(where.tms).maxzoom:
        return Look(None)
    looks: list[Look] = []
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        place = where.z + 1, 2 * where.x + column, 2 * where.y + row
        look = tile(chain, where.tms, place, revision)
        if look.pixels is None:
            z, x, y = place
            most = evaluate.FIRST_ITEMS if look.wanted else evaluate.MAX_ITEMS
            look = look._replace(pixels=evaluate.tile(chain, where.tms, x, y, z, max_items=most))
        looks.append(look)
    parts = [look.pixels for look in looks if look.pixels is not None]
    bands = max(len(part.data) for part in parts)
    datas = [np.broadcast_to(part.data, (bands, SIZE, SIZE)) for part in parts]
    pixels = Pixels(
        np.concatenate([np.concatenate(datas[:2], axis=2), np.concatenate(datas[2:], axis=2)], axis=1),
        np.block([[parts[0].valid, parts[1].valid], [parts[2].valid, parts[3].valid]]),
        list(dict.fromkeys(name for part in parts for name in part.items)),
        max(part.scale for part in parts),
        all(part.exact for part in parts),
        sum(part.left_out for part in parts),
    )
    return Look(
        pixels,
        sum(look.wanted for look in looks),
        sum(look.waiting for look in looks),
        sum(look.unreadable for look in looks),
    )


def work(chain: Chain, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Make the overview of a chain's collection on the grid ``tms``, those tiles first that are ``wanted``.

    Tells how many ``tiles`` were made in so many ``seconds``, and whether there is ``more`` to do.
    """
    wanted = [(z, x, y) for z, x, y in request.get("wanted") or []]
    built = build(chain, request["tms"], wanted, request.get("most", MOST_SECONDS))
    return {"tiles": built.made, "more": built.more}, b""


def build(
    chain: Chain, tms: str, wanted: Sequence[tuple[int, int, int]] = (), seconds: float = MOST_SECONDS
) -> Built:
    """Make tiles of the overview that are missing, as many as there is time for.

    Parameters
    ----------
    chain
        Whose collection.
    tms
        Name of the tile grid.
    wanted
        Tiles (zoom level, column, row) that are made first.
    seconds
        After which no further file is read.
    """
    names = bands_of(chain)
    if not names:
        return Built(0, more=False)
    builder = _Builder(chain, names, tms, time.monotonic() + seconds)
    first = bodies.tile_matrix_set(tms).matrix(0)
    roots = [(0, x, y) for x in range(first.matrixWidth) for y in range(first.matrixHeight)]
    for place in [*wanted, *roots]:
        builder.bring(place)
    if len(chain.collection) <= MOST_AHEAD:
        builder.ahead(roots)
    room.prune()
    return Built(builder.made, builder.more)


class _Builder:
    """Makes tiles of an overview until its time is over."""

    def __init__(self, chain: Chain, names: tuple[str, ...], tms: str, end: float) -> None:
        self.chain = chain
        self.names = names
        self.tms = tms
        self.end = end
        self.made = 0
        self.more = False

    def bring(self, place: tuple[int, int, int], *, part: bool = False) -> tuple[Records | None, bool]:
        """Bring a tile up to date, those that it is made of first; return what it has, and whether that is all.

        A tile that is part of another is made however few items it shows.
        """
        where = locate(self.chain, self.tms, place, self.names, least=1 if part else FEW + 1, part=part)
        if where is None:
            return None, True
        found = load(where, self.names, "")
        if found is not None and not found.waiting:
            return found, True
        if time.monotonic() > self.end:
            self.more = True
            return found, False
        # What is wrong with an item is told by the tile itself.
        with contextlib.suppress(CupolaError):
            if where.leaf:
                found = read(self.chain, self.names, where, self.end - time.monotonic())
            else:
                found = self._merged(where)
            room.keep(where.path, found)
            self.made += 1
            self.more = self.more or found.waiting > 0
        return found, found is None or not found.waiting

    def _merged(self, where: Where) -> Records:
        parts: list[tuple[int, int, Records]] = []
        whole = True
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            place = where.z + 1, 2 * where.x + column, 2 * where.y + row
            found, complete = self.bring(place, part=True)
            whole = whole and complete
            if found is not None:
                parts.append((column, row, found))
        if len({len(found.values) for _, _, found in parts if found.place.size}) > 1:
            raise InputError("The items have different numbers of bands.")
        scale = centre_spacing(where.grid, bodies.body_of_tms(self.tms))
        return room.merged(room.keys_of(where.items), parts, whole=whole, odd=where.z % 2, scale=scale)

    def ahead(self, todo: list[tuple[int, int, int]]) -> None:
        """Make the tiles at the next levels, too, the coarse ones first."""
        seen = 0
        while todo and seen < MOST_TILES:
            place = todo.pop(0)
            if locate(self.chain, self.tms, place, self.names) is None:
                continue
            if time.monotonic() > self.end:
                self.more = True
                return
            self.bring(place)
            seen += 1
            z, x, y = place
            todo += [(z + 1, 2 * x + column, 2 * y + row) for row in (0, 1) for column in (0, 1)]


def _draw(chain: Chain, names: tuple[str, ...], records: Records, where: Where) -> Pixels:
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
    return Pixels(
        data.reshape(-1, *shape),
        valid.reshape(shape),
        shown,
        records.scale,
        records.exact,
        _deeper(records, valid),
    )


def _deeper(records: Records, valid: NDArray[np.bool_]) -> int:
    """Return how many items lie below those that were kept, if the chain has holes through all of these."""
    covered = int(np.count_nonzero(records.state == COVERED))
    if not covered or valid.all():
        return 0
    depth = np.bincount(records.place, minlength=SIZE * SIZE)
    return covered if (depth[~valid] >= DEPTH).any() else 0

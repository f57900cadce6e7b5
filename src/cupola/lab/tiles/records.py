"""What an overview keeps of a tile: the values of all items in it, one record for each pixel of each item.

A file for each tile, below ``$CUPOLA_RUNTIME/overviews``. It is a cache: bounded, and anything missing, foreign or broken is
made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.lab.collections.table import Items

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.collections import Item

__all__ = [
    "COVERED",
    "DEPTH",
    "READ",
    "SIZE",
    "UNREADABLE",
    "WAITING",
    "Records",
    "folder",
    "forget",
    "keep",
    "keys_of",
    "load",
    "merged",
    "prune",
    "rebased",
]

SIZE = 256
DEPTH = 12
"""Most items kept over one another at one pixel: masks may make holes in those on top."""
MOST_BYTES = 512 * 1024 * 1024
"""Of all overviews together; those not used for longest go first."""
MEMORY_BYTES = 48 * 1024 * 1024
"""What a worker keeps of them."""

WAITING, READ, COVERED, UNREADABLE = range(4)
"""How an item stands: not looked at so far, looked at, wholly below `DEPTH` newer ones, damaged."""


@dataclass(frozen=True)
class Records:
    """The values of all items in one tile: one record for each pixel of each item, the newest item first."""

    keys: tuple[str, ...]
    """Of the items, as they were when they were read."""
    marks: tuple[str, ...]
    """Of the items' files; nothing where these were not looked at."""
    state: NDArray[np.uint8]
    """Of each item."""
    counts: NDArray[np.int64]
    """Records of each item."""
    place: NDArray[np.uint16]
    """Of each record: row * 256 + column."""
    values: NDArray[np.float32]
    """(bands, records), the bands in the order of the key."""
    scale: float
    exact: bool
    whole: bool = True
    """Whether all parts of the tile were looked at."""

    @property
    def size(self) -> int:
        """Bytes."""
        return int(self.place.nbytes + self.values.nbytes) + 64 * len(self.keys)

    @property
    def waiting(self) -> int:
        """Items that were not looked at so far."""
        return int(np.count_nonzero(self.state == WAITING)) or int(not self.whole)

    def by_key(self) -> dict[str, tuple[int, NDArray[np.uint16], NDArray[np.float32]]]:
        """Return number, places and values of the items that were read."""
        ends = np.cumsum(self.counts).tolist()
        found = {}
        for number in np.flatnonzero(self.state == READ).tolist():
            part = slice(ends[number] - int(self.counts[number]), ends[number])
            found[self.keys[number]] = number, self.place[part], self.values[:, part]
        return found


def folder() -> Path:
    """Return where overviews are kept."""
    runtime = os.environ.get("CUPOLA_RUNTIME")
    return (Path(runtime) if runtime else Path.home() / ".cupola") / "overviews"


def keys_of(items: Sequence[Item]) -> tuple[str, ...]:
    """Return a text for each item that changes when the item does; of a hundred thousand in a tenth of a second."""
    if isinstance(items, Items):
        light, rows = items.table.light, items.rows.tolist()
        said = (
            f"{light.ids[row]}\n{light.names[row]}\n{stamp}"
            for row, stamp in zip(rows, light.stamps[items.rows].tolist(), strict=True)
        )
    else:
        said = (f"{item.id}\n{item.path or item.image}\n{list(item.stamp)}" for item in items)
    return tuple(hashlib.blake2b(text.encode(), digest_size=9).hexdigest() for text in said)


_memory: OrderedDict[tuple[Path, int], Records] = OrderedDict()


def load(path: Path) -> tuple[Records | None, int]:
    """Return the records in a file, and when it changed; nothing where there are none."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        return None, 0
    found = _memory.get((path, changed)) or _parse(path)
    if found is not None:
        _memory[path, changed] = found
        _memory.move_to_end((path, changed))
        while len(_memory) > 1 and sum(kept.size for kept in _memory.values()) > MEMORY_BYTES:
            _memory.popitem(last=False)
    return found, changed


def forget() -> None:
    """Let go of what is kept in memory."""
    _memory.clear()


def _parse(path: Path) -> Records | None:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            about = json.loads(bytes(file["about"]))
            found = Records(
                tuple(about["keys"]),
                tuple(about["marks"]),
                file["state"],
                file["counts"],
                file["place"],
                file["values"].astype(np.float32, copy=False),
                about["scale"],
                about["exact"],
                about["whole"],
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    whole = found.counts.sum() == found.place.size == found.values.shape[-1]
    return found if whole and len(found.keys) == len(found.counts) == len(found.state) else None


def keep(path: Path, records: Records) -> None:
    """Write records, whole or not at all; a full disk is no reason to fail."""
    said = {name: getattr(records, name) for name in ("keys", "marks", "scale", "exact", "whole")}
    about = json.dumps(said).encode()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".npz")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(
                    file,
                    about=np.frombuffer(about, np.uint8),
                    state=records.state,
                    counts=records.counts,
                    place=records.place,
                    values=_small(records.values),
                )
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise


def _small(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return whole numbers as such, in a quarter or half of the bytes."""
    if not values.size or not np.isfinite(values).all() or values.min() < 0:
        return values
    for kind in (np.uint8, np.uint16):
        if values.max() <= np.iinfo(kind).max:
            whole = values.astype(kind)
            return whole if np.array_equal(whole, values) else values
    return values


def prune() -> None:
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


def rebased(records: Records, keys: tuple[str, ...]) -> Records:
    """Return records as those of other items: what is not among them is left out, what is new waits."""
    number = {key: row for row, key in enumerate(keys)}
    mine = np.array([number.get(key, -1) for key in records.keys], dtype=np.int64)
    known = mine >= 0
    state = np.full(len(keys), WAITING, dtype=np.uint8)
    state[mine[known]] = records.state[known]
    counts = np.zeros(len(keys), dtype=np.int64)
    counts[mine[known]] = records.counts[known]
    owner = np.repeat(mine, records.counts)
    order = np.argsort(owner, kind="stable")[np.count_nonzero(owner < 0) :]
    return replace(
        records, keys=keys, marks=(), state=state, counts=counts, place=records.place[order],
        values=records.values[:, order],
    )  # fmt: skip


def merged(
    keys: tuple[str, ...],
    parts: list[tuple[int, int, Records]],
    *,
    whole: bool,
    odd: int,
    scale: float,
) -> Records:
    """Return the records of a tile from those of the four at the next level, of which every other pixel is taken.

    An item that has no pixel among these, but one beside it, keeps that one: small images do not vanish.

    Parameters
    ----------
    keys
        Of the tile's items.
    parts
        Column and row (0 or 1) and records of the tiles that it is made of.
    whole
        Whether these are all; else items in none of them wait.
    odd
        Whether the pixels at the odd columns and rows are taken (1) or those at the even ones (0): in turns from level
        to level, nothing is shifted.
    scale
        Metres of a pixel.
    """
    number = {key: row for row, key in enumerate(keys)}
    state = np.full(len(keys), READ if whole else WAITING, dtype=np.uint8)
    if not whole:
        for _, _, part in parts:
            state[[number[key] for key in part.keys if key in number]] = READ
    owners, places, values, ranks = [], [], [], []
    for column, row, part in parts:
        mine = np.array([number.get(key, -1) for key in part.keys], dtype=np.int64)
        known = mine >= 0
        for how in (UNREADABLE, COVERED, WAITING):
            at = mine[known & (part.state == how)]
            # What waits in one of them waits; what is covered in one was not read there.
            state[at] = WAITING if how == WAITING else np.where(state[at] == WAITING, WAITING, how)
        owner = np.repeat(mine, part.counts)
        across, down = part.place % SIZE, part.place // SIZE
        ranks.append((across % 2 != odd).astype(np.int64) + 2 * (down % 2 != odd))
        half = SIZE // 2
        places.append((row * half + down // 2).astype(np.int64) * SIZE + column * half + across // 2)
        owners.append(owner)
        values.append(part.values)
    bands = max((len(part) for part in values), default=0)
    values = [part if len(part) else np.zeros((bands, 0), np.float32) for part in values]
    owner, place, rank = (
        np.concatenate([np.zeros(0, np.int64), *found]) for found in (owners, places, ranks)
    )
    layers = np.concatenate([np.zeros((bands, 0), np.float32), *values], axis=1)
    here = owner >= 0
    owner, place, rank, layers = owner[here], place[here], rank[here], layers[:, here]
    # The best of each item at each pixel: sorted by both, and by how good they are.
    order = np.lexsort((rank, place, owner))
    first = np.ones(len(order), dtype=np.bool_)
    code = owner[order] * (SIZE * SIZE) + place[order]
    first[1:] = code[1:] != code[:-1]
    order = order[first]
    order = order[_on_top(place[order])]
    counts = np.bincount(owner[order], minlength=len(keys)).astype(np.int64)
    return Records(
        keys,
        (),
        state,
        counts,
        place[order].astype(np.uint16),
        layers[:, order],
        scale,
        exact=False,
        whole=whole,
    )


def _on_top(place: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which records have fewer than `DEPTH` others before them at their pixel."""
    order = np.argsort(place, kind="stable")
    ordered = place[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    kept = np.empty(len(place), dtype=np.bool_)
    kept[order] = np.arange(len(place)) - starts < DEPTH
    return kept

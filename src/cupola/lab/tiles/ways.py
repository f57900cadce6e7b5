"""Whether a chain is shown cheaper by tiles or by one image per viewport, from what its images cost so far.

One image saves the pixels that tiles have outside of the viewport and what each tile does anew (opening, decoding
blocks that neighbours share), but it is computed by one process and has to be made again at each move. So it pays for
functions that are slow; cheap ones are shown by tiles, which stay when the map moves.
"""

from __future__ import annotations

import math
import statistics
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Costs"]

CHAINS = 200
KEPT = 15
"""Images of each way whose cost is remembered."""
SLOW_SECONDS = 0.1
"""A tile that takes longer belongs to a slow function."""
GAIN = 0.8
"""One image has to cost less than this share of the tiles."""
SHARED = 0.5
"""What one image costs per pixel beside tiles, where no image was made yet: 2.2 times less was measured for NDVI."""
PATIENCE = 1.25
"""One image may come so many times later than the last tile of several workers, for the work it saves."""
TILE = 256


@dataclass
class _Chain:
    tiles: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))
    """Seconds per pixel."""
    views: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))


class Costs:
    """What images of chains cost, by chain and way; memory only."""

    def __init__(self) -> None:
        self._chains: OrderedDict[str, _Chain] = OrderedDict()

    def add(self, chain: str, way: str, pixels: int, seconds: float) -> None:
        """Remember that an image of so many pixels took so many seconds; `way` is ``tile`` or ``view``."""
        entry = self._chains.setdefault(chain, _Chain())
        self._chains.move_to_end(chain)
        while len(self._chains) > CHAINS:
            self._chains.popitem(last=False)
        (entry.views if way == "view" else entry.tiles).append(seconds / max(pixels, 1))

    def known(self, chain: str) -> bool:
        """Whether a tile or an image of `chain` was made."""
        return chain in self._chains

    def slow(self, chain: str) -> bool:
        """Whether tiles of `chain` may be slow: nothing is known yet, or they are."""
        entry = self._chains.get(chain)
        if entry is None or not entry.tiles:
            return True
        return statistics.median(entry.tiles) * TILE**2 > SLOW_SECONDS

    def way(self, chain: str, width: int, height: int, workers: int) -> dict[str, Any]:
        """Return how a viewport of `width` times `height` pixels of `chain` is best shown.

        Returns
        -------
        dict
            ``way``: tiles or view; ``ms``: milliseconds until it is complete, that way, on an idle machine;
            ``tiles_ms`` and ``view_ms``: CPU milliseconds of both ways, nothing where no image was made yet.
        """
        entry = self._chains.get(chain)
        tile = statistics.median(entry.tiles) if entry and entry.tiles else None
        view = statistics.median(entry.views) if entry and entry.views else None
        if tile is None and view is None:
            return {"way": "tiles", "ms": None, "tiles_ms": None, "view_ms": None}
        tile = view / SHARED if tile is None and view is not None else tile or 0.0
        view = tile * SHARED if view is None else view
        # A viewport lies over one more row and column of tiles than fit into it.
        number = (math.ceil(width / TILE) + 1) * (math.ceil(height / TILE) + 1)
        tiles_seconds, view_seconds = number * tile * TILE**2, width * height * view
        together = tiles_seconds / max(min(workers, number), 1)
        slow = tile * TILE**2 > SLOW_SECONDS
        whole = slow and view_seconds < GAIN * tiles_seconds and view_seconds < PATIENCE * together
        wait = view_seconds if whole else together
        return {
            "way": "view" if whole else "tiles",
            "ms": round(wait * 1000, 1),
            "tiles_ms": round(tiles_seconds * 1000, 1),
            "view_ms": round(view_seconds * 1000, 1),
        }

"""Why a tile could not be made, as the map shows it."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from pydantic import Field

from cupola.models.base import Model, Time, now

__all__ = ["Problems", "TileProblem"]

CHAINS = 200
"""Chains whose problems are remembered."""
TILES = 100
"""Tiles per chain whose problem is remembered."""
STRIKES = 2
"""After so many kills or crashes in a row a chain is left alone for a while."""
REST_SECONDS = 30.0


class TileProblem(Model):
    """Why a tile could not be made."""

    code: str
    """Machine code: that of a `CupolaError`, or function, time-limit, crash, memory, worker."""
    status: int
    """The HTTP status the tile is answered with."""
    message: str
    """One sentence."""
    line: str = ""
    """The line of the user's own code that raised, as ``function:line: text``."""
    traceback: str = ""
    time: Time = Field(default_factory=now)

    @property
    def costly(self) -> bool:
        """Whether finding out took a worker's life or the whole time limit."""
        return self.code in {"time-limit", "crash"}

    def to_json(self) -> dict[str, Any]:
        """Return the problem as plain data."""
        return self.model_dump(mode="json")


class _Chain:
    """What went wrong with the tiles of one chain."""

    def __init__(self) -> None:
        self.tiles: OrderedDict[str, TileProblem] = OrderedDict()
        self.strikes = 0
        self.rest_until = 0.0
        self.group = ""
        self.notes: dict[str, str] = {}


class Problems:
    """The last problems of the chains on this session's maps; memory only.

    A function that never ends costs a worker and the whole time limit per tile, and a map asks for a dozen:
    after two such tiles in a row a chain is refused for half a minute, so that other layers get their turn.
    """

    def __init__(self) -> None:
        self._chains: OrderedDict[str, _Chain] = OrderedDict()

    def add(self, chain: str, tile: str, problem: TileProblem) -> None:
        """Remember that `tile` of `chain` had `problem`."""
        entry = self._chains.setdefault(chain, _Chain())
        self._chains.move_to_end(chain)
        while len(self._chains) > CHAINS:
            self._chains.popitem(last=False)
        entry.tiles[tile] = problem
        entry.tiles.move_to_end(tile)
        while len(entry.tiles) > TILES:
            entry.tiles.popitem(last=False)
        if problem.costly:
            entry.strikes += 1
            if entry.strikes >= STRIKES:
                entry.rest_until = time.monotonic() + REST_SECONDS

    def clear(self, chain: str, tile: str) -> None:
        """Forget what was wrong with `tile`: it was made."""
        entry = self._chains.get(chain)
        if entry is not None:
            entry.tiles.pop(tile, None)
            entry.strikes = 0
            entry.rest_until = 0.0

    def note(self, chain: str, group: str, tile: str, sentence: str) -> None:
        """Remember what a tile that was made lacks, and forget what was said of other groups (zoom levels)."""
        entry = self._chains.get(chain)
        if entry is None:
            if not sentence:
                return
            entry = self._chains[chain] = _Chain()
        if entry.group != group:
            entry.group, entry.notes = group, {}
        entry.notes.pop(tile, None)
        if sentence and len(entry.notes) < TILES:
            entry.notes[tile] = sentence

    def last(self, chain: str) -> TileProblem | None:
        """Return the newest problem of `chain`, or else what its tiles lack."""
        entry = self._chains.get(chain)
        if entry is None:
            return None
        if entry.tiles or not entry.notes:
            return next(reversed(entry.tiles.values()), None)
        return TileProblem(code="left-out", status=200, message=next(reversed(entry.notes.values())))

    def count(self, chain: str) -> int:
        """Return how many tiles of `chain` have a problem."""
        entry = self._chains.get(chain)
        return len(entry.tiles) if entry is not None else 0

    def resting(self, chain: str) -> TileProblem | None:
        """Return the problem for which `chain` is left alone at the moment."""
        entry = self._chains.get(chain)
        if entry is None or time.monotonic() >= entry.rest_until:
            return None
        return next((problem for problem in reversed(entry.tiles.values()) if problem.costly), None)

"""In which order requests are begun: the newest viewport first, near the tiles that a worker has just made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Place", "Queue", "place_of"]

VIEWPORT_SECONDS = 1.0
"""Requests at one zoom level that follow each other sooner belong to one viewport: browsers send six at a time."""
TURN = 4
"""Each so many requests one of the oldest viewport is begun: in another tab somebody else may wait for it."""

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a tile is."""

    tms: str
    z: int
    x: int
    y: int

    def distance(self, other: Place | None) -> float:
        """Return how many tiles away `other` is; without end where it is of another zoom level or grid."""
        if other is None or (other.tms, other.z) != (self.tms, self.z):
            return float("inf")
        return abs(self.x - other.x) + abs(self.y - other.y)


def place_of(request: dict[str, Any]) -> Place | None:
    """Return where the tile of a request is; nothing for what is no tile."""
    if request.get("do") != "tile":
        return None
    z, x, y = request["tile"]
    return Place(request["tms"], z, x, y)


@dataclass
class _Viewport(Generic[T]):
    """Requests that were made for one view of a map."""

    kind: object
    newest: float
    waiting: list[tuple[Place | None, T]] = field(default_factory=list)


class Queue(Generic[T]):
    """Requests that no worker has begun.

    Parameters
    ----------
    clock
        Tells the seconds; the event loop's.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._viewports: list[_Viewport[T]] = []
        self._taken = 0

    def __len__(self) -> int:
        return sum(len(viewport.waiting) for viewport in self._viewports)

    def __contains__(self, thing: T) -> bool:
        return any(other is thing for viewport in self._viewports for _, other in viewport.waiting)

    def __iter__(self) -> Iterator[T]:
        return iter([thing for viewport in self._viewports for _, thing in viewport.waiting])

    def add(self, request: dict[str, Any], thing: T) -> None:
        """Let `thing`, which stands for `request`, wait."""
        place, now = place_of(request), self._clock()
        # What is no tile is asked for by a person who looks at the map now.
        kind = (place.tms, place.z) if place else request.get("do")
        newest = self._viewports[-1] if self._viewports else None
        if newest is None or newest.kind != kind or now - newest.newest > VIEWPORT_SECONDS:
            newest = _Viewport(kind, now)
            self._viewports.append(newest)
        newest.newest = now
        newest.waiting.append((place, thing))

    def remove(self, thing: T) -> None:
        """Forget `thing`; it need not be here."""
        for viewport in self._viewports:
            viewport.waiting = [entry for entry in viewport.waiting if entry[1] is not thing]
        self._tidy()

    def take(self, last: Place | None, busy: list[Place]) -> T:
        """Return what is begun next.

        Neighbours share blocks of the files, which a worker keeps decoded for a while: it goes on beside the tile that
        it made last, or begins far from the others.

        Parameters
        ----------
        last
            The tile that the worker made last.
        busy
            The tiles that other workers are at.
        """
        self._taken += 1
        viewport = self._viewports[0 if self._taken % TURN == 0 else -1]
        number = min(range(len(viewport.waiting)), key=lambda n: (*self._rank(viewport, n, last, busy), n))
        _, thing = viewport.waiting.pop(number)
        self._tidy()
        return thing

    @staticmethod
    def _rank(
        viewport: _Viewport[T], number: int, last: Place | None, busy: list[Place]
    ) -> tuple[float, float]:
        place = viewport.waiting[number][0]
        if place is None:
            return 0.0, 0.0
        near = place.distance(last)
        if near != float("inf"):
            return near, 0.0
        away = min((place.distance(other) for other in busy), default=float("inf"))
        return near, 0.0 if away == float("inf") else -away

    def _tidy(self) -> None:
        self._viewports = [viewport for viewport in self._viewports if viewport.waiting]

    def clear(self) -> None:
        """Forget all."""
        self._viewports.clear()

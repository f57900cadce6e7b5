"""Which notebooks are computing in which session, as the sessions tell: asked before one of them is stopped.

A session tells it with its owner's rights, so it may be wrong about another session of the same owner, and nothing is
done because of it. It is kept in memory, and forgotten soon: what is not told again is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cupola.models.session import Session

__all__ = ["AS_JOB", "Computing", "ComputingService"]

HOLDS_S = 60.0
"""Sessions tell it three times as often."""
AS_JOB = "cupola-job"
"""A Lab that is opened with this in its address shows the form that makes the notebook a job."""
MOST_SESSIONS = 10_000


@dataclass(frozen=True)
class Computing:
    """A notebook with a cell that runs."""

    path: str
    address: str
    """Where its owner makes a job of it."""


class ComputingService:
    """Remembers what sessions tell.

    Parameters
    ----------
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, tuple[float, tuple[str, ...]]] = {}

    def tell(self, session: Session, notebooks: Sequence[str]) -> None:
        """Remember what computes in a session just now.

        Parameters
        ----------
        session
            Whose owner tells it.
        notebooks
            Paths below the session's home.
        """
        self._told.pop(session.id, None)
        if notebooks:
            self._told[session.id] = (self._clock(), tuple(dict.fromkeys(notebooks)))
        while len(self._told) > MOST_SESSIONS:
            self._told.pop(next(iter(self._told)))

    def of(self, sessions: Iterable[Session]) -> dict[str, list[Computing]]:
        """Return what computes in each of `sessions` that can be opened, by its id."""
        since = self._clock() - HOLDS_S
        found = {}
        for session in sessions:
            told, paths = self._told.get(session.id, (0.0, ()))
            if paths and told > since and session.url:
                found[session.id] = [
                    Computing(path, _address(session.id, session.url, path)) for path in paths
                ]
        return found


def _address(session: str, url: str, path: str) -> str:
    place, found, _ = url.partition(f"/{session}/")
    return f"{place}{found}lab/tree/{quote(path)}?{AS_JOB}"

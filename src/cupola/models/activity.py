"""What a session tells of itself while it runs, and what it is answered: a stop that is announced before it comes.

Sessions keep their version for years, so both sides ignore what they do not know and every field has a default.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from cupola.models.base import Model, Time

__all__ = ["Activity", "NewMaintenance", "NotebookPath", "PlannedStop", "SnapshotTold", "StopKind"]

_MOST = 200
"""Names in one list; whoever has more open tells the first ones."""


def _stays_below(path: str) -> str:
    if {"", ".", ".."} & set(path.split("/")):
        raise ValueError("say the path of a notebook below the home")
    return path


NotebookPath = Annotated[
    str,
    Field(max_length=500, pattern=r"^[^/\\\x00-\x1f][^\\\x00-\x1f]*\.ipynb$"),
    AfterValidator(_stays_below),
]
"""Of a notebook, below the home."""


class _Lenient(Model):
    model_config = ConfigDict(frozen=True, extra="ignore")


class StopKind(StrEnum):
    """Why a session is to be stopped."""

    HIBERNATE = "hibernate"
    """Nobody used it, or its owner wishes it: it is woken with its variables."""
    VERSION = "version"
    """It is restarted, in the same or another version or size."""
    STOP = "stop"
    """Its owner stops it."""
    AGE = "age"
    """It has run for as long as a session may."""
    MAINTENANCE = "maintenance"
    """The whole platform is going to end for a while."""


class SnapshotTold(_Lenient):
    """That a session has done what `PlannedStop.snapshot` asked for."""

    wish: str = Field(max_length=64)
    """The same text as in the wish."""
    kernels: int = Field(default=0, ge=0)
    """How many kernels have written their variables."""
    kept: int = Field(default=0, ge=0)
    """How many variables are kept."""
    left: int = Field(default=0, ge=0)
    """How many could not be kept."""


class Activity(_Lenient):
    """What goes on in a session just now, as it tells every 20 s; every 5 s while a stop is near."""

    busy: list[NotebookPath] = Field(default_factory=list, max_length=_MOST)
    """Notebooks with a cell that runs or waits to."""
    kernels: int = Field(default=0, ge=0)
    """All kernels that compute, consoles and those of no notebook too."""
    terminals: int = Field(default=0, ge=0)
    """Terminals in which a program runs."""
    cpu_seconds: float | None = Field(default=None, ge=0)
    """What all its programs have used since they began. It may fall when one of them ends."""
    jobs: int = Field(default=0, ge=0)
    """Jobs of this session that have not ended; the portal counts for itself."""
    seen: Time | None = None
    """When a person did something in it."""
    idle_seconds: float | None = Field(default=None, ge=0)
    """How long ago that was, by a clock that only goes up; it is believed before `seen`."""
    notebooks: list[NotebookPath] = Field(default_factory=list, max_length=_MOST)
    """Notebooks that are open."""
    guardian: bool = False
    """Whether its kernels have guardians: then outputs and variables are kept over a stop."""
    snapshot: SnapshotTold | None = None
    """The last wish that was carried out; told until there is another one."""

    @property
    def computes(self) -> bool:
        """Whether anything in it works for its owner, CPU time apart."""
        return bool(self.busy or self.kernels or self.terminals or self.jobs)


class PlannedStop(_Lenient):
    """A stop that comes, unless somebody wishes otherwise."""

    at: Time
    """When."""
    reason: str
    """In a sentence for its owner."""
    kind: StopKind = StopKind.HIBERNATE
    seconds: float | None = None
    """How long from now: a machine whose clock is wrong counts down rightly by this."""
    keepable: bool = True
    """Whether `keep` puts it off."""
    snapshot: str | None = None
    """Take a snapshot now, and tell this text as `Activity.snapshot.wish` when all is written."""


class NewMaintenance(Model):
    """That the whole platform is going to end for a while."""

    seconds: float = Field(ge=0, le=7 * 24 * 3600)
    """From now."""
    reason: str = Field(default="", max_length=300)
    """For people, in a few words."""

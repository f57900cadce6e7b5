"""What a run of the main job found: stages with seconds and counts."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pydantic import Field

from cupola.models.base import Model, Time, now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Recorder", "Report", "Stage"]


class Stage(Model):
    """One verified step."""

    name: str
    title: str
    ok: bool
    seconds: float
    counts: dict[str, int | float | str] = Field(default_factory=dict)
    """What was counted or measured, by a short name."""
    error: str | None = None


class Report(Model):
    """All stages of one run."""

    address: str
    started: Time
    seconds: float
    ok: bool
    """Whether every stage was verified."""
    stages: list[Stage]


class Recorder:
    """Collects stages as they happen.

    Parameters
    ----------
    tell
        Called with each finished stage.
    """

    def __init__(self, tell: Callable[[Stage], None]) -> None:
        self._tell = tell
        self._started, self._clock = now(), time.perf_counter()
        self.stages: list[Stage] = []

    @asynccontextmanager
    async def stage(self, name: str, title: str) -> AsyncIterator[dict[str, int | float | str]]:
        """Record the block as one stage; what it puts into the yielded dictionary is its counts.

        An error is recorded and raised again: what follows stands on what failed.
        """
        counts: dict[str, int | float | str] = {}
        begun, error = time.perf_counter(), None
        try:
            yield counts
        except BaseException as failure:
            error = f"{type(failure).__name__}: {failure}"
            raise
        finally:
            took = round(time.perf_counter() - begun, 3)
            done = Stage(name=name, title=title, ok=error is None, seconds=took, counts=counts, error=error)
            self.stages.append(done)
            self._tell(done)

    def report(self, address: str, *, complete: bool) -> Report:
        """Return the report; `complete` says whether all stages that belong to the run were reached."""
        ok = complete and all(stage.ok for stage in self.stages)
        took = round(time.perf_counter() - self._clock, 3)
        return Report(address=address, started=self._started, seconds=took, ok=ok, stages=self.stages)

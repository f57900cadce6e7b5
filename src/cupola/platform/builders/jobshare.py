"""How cores are divided between the jobs that count for one person or team: pure, so that its tests are examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Share", "Taking", "room", "shares"]


@dataclass(frozen=True)
class Share:
    """What the jobs of one person, or of one team, may use together."""

    kind: str
    """``person`` or ``team``."""
    name: str
    cores: int | None = None
    hours: float | None = None

    @property
    def whose(self) -> str:
        """Whose jobs, in a sentence to a person."""
        return f"the jobs of the team {self.name}" if self.kind == "team" else "all your jobs"


@dataclass(frozen=True)
class Taking:
    """A job that divides a share with others; they come in the order in which they may start."""

    job: str
    cpus: int
    """Per task."""
    most: int
    """Tasks that it could use at a time."""
    given: int = 0
    """Tasks that it may run now."""
    running: int = 0


def shares(jobs: Sequence[Taking], cores: int) -> dict[str, int]:
    """Divide cores: one task for each job in order as far as they go, then more for whoever has the fewest cores.

    Nobody is overtaken: behind the first job whose task finds no room the others wait, too.
    """
    dealt = {job.job: 0 for job in jobs}
    left = cores
    for job in jobs:
        if job.cpus > cores:
            continue  # the limit was lowered: it waits for a higher one, and nobody for it
        if job.cpus > left:
            break
        if job.most:
            dealt[job.job] = 1
            left -= job.cpus
    while True:
        able = [job for job in jobs if 0 < dealt[job.job] < job.most and job.cpus <= left]
        if not able:
            return dealt
        following = min(able, key=lambda job: (dealt[job.job] + 1) * job.cpus)
        dealt[following.job] += 1
        left -= following.cpus


def room(jobs: Sequence[Taking], cores: int) -> dict[str, int]:
    """Return how many tasks of each job may run from now on: what one gains others have really given back."""
    wanted = shares(jobs, cores)
    # What one is told to give back it still has: a task may begin in this moment.
    have = {job.job: max(job.given, job.running) for job in jobs}
    free = cores - sum(have[job.job] * job.cpus for job in jobs)
    allowed = {}
    for job in jobs:
        more = max(0, min(wanted[job.job] - have[job.job], free // job.cpus))
        allowed[job.job] = min(wanted[job.job], have[job.job] + more)
        free -= more * job.cpus
    return allowed

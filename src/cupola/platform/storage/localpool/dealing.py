"""Who of those whose jobs run in containers gets how many cores: pure, so that its tests are examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Claim", "Usage", "deal"]

HALF_LIFE_S = 3600.0
"""After this long half of what somebody has used is forgotten, as `cupola.lab.jobs.cores` does."""


@dataclass(frozen=True)
class Claim:
    """A job that runs or waits."""

    job: str
    share: str
    """Whose it is."""
    cpus: int
    """Per task."""
    most: int
    """Tasks that it could use at a time."""


def deal(claims: Sequence[Claim], cores: int, used: Mapping[str, float]) -> dict[str, int]:
    """Return how many tasks of each job may run: people have alike first, the jobs of one person second.

    Each next task goes to whoever has fewest cores; among these to whoever has used least lately, then to the older job.
    """
    tasks = {claim.job: 0 for claim in claims}
    hands = dict.fromkeys((claim.share for claim in claims), 0)
    places = {claim.job: place for place, claim in enumerate(claims)}
    while True:
        able = [claim for claim in claims if tasks[claim.job] < claim.most and claim.cpus <= cores]
        if not able:
            return tasks
        following = min(
            able,
            key=lambda claim: (
                hands[claim.share],
                used.get(claim.share, 0.0),
                tasks[claim.job] * claim.cpus,
                places[claim.job],
            ),
        )
        tasks[following.job] += 1
        hands[following.share] += following.cpus
        cores -= following.cpus


class Usage:
    """What each share has used lately, in core-seconds."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}
        self._at: float | None = None

    def add(self, cores: Mapping[str, int], now: float) -> None:
        """Count what has been held since the last time."""
        seconds = 0.0 if self._at is None else max(0.0, now - self._at)
        kept = math.exp2(-seconds / HALF_LIFE_S)
        self._used = {share: used * kept for share, used in self._used.items()}
        for share, held in cores.items():
            self._used[share] = self._used.get(share, 0.0) + held * seconds
        self._at = now

    @property
    def used(self) -> Mapping[str, float]:
        """By share."""
        return self._used

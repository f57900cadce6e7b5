"""How fast a job gets on, lately."""

from __future__ import annotations

import math
import time
from collections import deque

__all__ = ["ENOUGH", "Rate"]

ENOUGH = 3
"""Inputs (or tasks) that must have ended before they say something about the others."""
WINDOW = 60.0
"""Seconds over which a rate is taken, or longer where fewer than `ENOUGH` inputs were settled in them."""
_APART = 1.0


class Rate:
    """How many inputs get settled, lately: a job that was held or retried goes at another rate than before."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def take(self, settled: int, at: float | None = None) -> None:
        """Take how many inputs are settled now."""
        at = time.monotonic() if at is None else at
        samples = self._samples
        if samples and settled < samples[-1][1]:  # a retry
            samples.clear()
        if len(samples) > 1 and at - samples[-2][0] < _APART:
            samples.pop()
        samples.append((at, settled))
        while len(samples) > 2 and at - samples[1][0] >= WINDOW and settled - samples[1][1] >= ENOUGH:  # noqa: PLR2004
            samples.popleft()

    def clear(self) -> None:
        """Begin anew: the job stands still for a reason."""
        self._samples.clear()

    @property
    def per_minute(self) -> float | None:
        """Inputs per minute to two digits, so that it stays the same while nothing changes much."""
        if len(self._samples) < 2:  # noqa: PLR2004
            return None
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        if after - before < ENOUGH or end <= start:
            return None
        rate = 60 * (after - before) / (end - start)
        return round(rate, max(0, 1 - math.floor(math.log10(rate))))

"""Against guessing passwords: who fails often has to wait, longer each time."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throttle"]


@dataclass
class _Failures:
    count: int
    last: float


class Throttle:
    """Counts the failures of names and of addresses.

    Parameters
    ----------
    free
        Failures without a wait.
    first_s, longest_s
        The wait in seconds after one more, doubled with each further one up to the longest.
    most
        Keys kept in memory; the one that failed longest ago is forgotten first.
    clock
        Seconds that only go up; tests bring their own.
    """

    def __init__(
        self,
        *,
        free: int = 5,
        first_s: float = 15.0,
        longest_s: float = 900.0,
        most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free, self._first, self._longest, self._most = free, first_s, longest_s, most
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def wait(self, key: str) -> float:
        """Return how many seconds `key` has to wait before the next try; 0 for none."""
        failures = self._failures.get(key)
        if failures is None or failures.count < self._free:
            return 0.0
        wait: float = min(self._longest, self._first * 2.0 ** min(30, failures.count - self._free))
        left = failures.last + wait - self._clock()
        if left < -self._longest:  # a quiet time as long as the longest wait: begin anew
            del self._failures[key]
        return max(0.0, left)

    def failed(self, key: str) -> None:
        """Count a failure."""
        failures = self._failures.pop(key, _Failures(0, 0.0))
        self._failures[key] = _Failures(failures.count + 1, self._clock())
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures of `key`."""
        self._failures.pop(key, None)

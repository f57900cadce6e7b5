"""Statistics of regions, gathered window by window."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from cupola.exceptions import InputError, LimitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["STATISTICS", "Budget", "Tally", "check_statistics", "needs_values"]

STATISTICS = ("mean", "min", "max", "std", "count", "sum", "median", "area")
"""Names of statistics; ``percentile_90`` and the like besides."""

_PERCENTILE = re.compile(r"percentile_(\d+(?:\.\d+)?)")
_MOST_KEPT = 100_000_000
"""Values kept for medians and percentiles: 400 MB."""


def check_statistics(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of statistics, each once.

    Raises
    ------
    InputError
        When there is no such statistic.
    """
    listed = (names,) if isinstance(names, str) else tuple(names)
    for name in listed:
        match = _PERCENTILE.fullmatch(str(name))
        if name not in STATISTICS and (match is None or float(match[1]) > 100):  # noqa: PLR2004 - per cent
            raise InputError(
                f"There is no statistic {name!r}; choose of {', '.join(STATISTICS)} and percentile_0 ... percentile_100."
            )
    if not listed:
        raise InputError(f"Choose at least one statistic of {', '.join(STATISTICS)}.")
    return tuple(dict.fromkeys(listed))


class Budget:
    """How many values may still be kept in memory."""

    def __init__(self) -> None:
        self.left = _MOST_KEPT

    def take(self, count: int) -> None:
        """Count values that are kept.

        Raises
        ------
        LimitError
            When they are too many.
        """
        self.left -= count
        if self.left < 0:
            raise LimitError(
                f"Medians and percentiles would keep more than {_MOST_KEPT / 1e6:,.0f} million values: give larger pixels "
                "with metres=, or fewer regions at a time."
            )


class Tally:
    """What is known of one band in one region; pieces are joined by the formula of Chan, Golub and LeVeque (1979)."""

    __slots__ = ("_values", "area", "count", "high", "low", "mean", "scatter", "total", "weight")

    def __init__(self) -> None:
        self.count, self.weight, self.area, self.total, self.mean, self.scatter = 0, 0.0, 0.0, 0.0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf
        self._values: list[NDArray[np.float32]] = []

    def add(
        self,
        values: NDArray[np.float32],
        areas: NDArray[np.float64],
        *,
        by_area: bool = True,
        budget: Budget | None = None,
    ) -> None:
        """Take pixels.

        Parameters
        ----------
        values
            Finite ones.
        areas
            Of these pixels on the ground, in square metres.
        by_area
            Whether mean and deviation count a pixel by its area.
        budget
            For medians and percentiles, which need all values at once; nothing where none are wanted.
        """
        if values.size == 0:
            return
        exact = values.astype(np.float64)
        weights = areas if by_area else np.ones_like(exact)
        weight = float(weights.sum())
        mean = float((exact * weights).sum()) / weight
        joined, apart = self.weight + weight, mean - self.mean
        self.scatter += (
            float((weights * (exact - mean) ** 2).sum()) + apart * apart * self.weight * weight / joined
        )
        self.mean += apart * weight / joined
        self.weight = joined
        self.count += values.size
        self.area += float(areas.sum())
        self.total += float(exact.sum())
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        if budget is not None:
            budget.take(values.size)
            self._values.append(values)

    def results(self, names: Sequence[str]) -> dict[str, float]:
        """Return statistics by name; NaN for those that need a value where there is none."""
        found: dict[str, float] = {"count": self.count, "area": self.area}
        if self.count:
            found |= {"mean": self.mean, "min": self.low, "max": self.high, "sum": self.total}
            found["std"] = math.sqrt(self.scatter / self.weight)
            every = np.concatenate(self._values) if self._values else None
            for name in names:
                share = 50.0 if name == "median" else _share(name)
                if share is not None and every is not None:
                    found[name] = float(np.percentile(every, share))
        return {name: found.get(name, math.nan) for name in names}


def needs_values(names: Sequence[str]) -> bool:
    """Return whether any of these statistics needs all values at once."""
    return any(name == "median" or _share(name) is not None for name in names)


def _share(name: str) -> float | None:
    match = _PERCENTILE.fullmatch(name)
    return float(match[1]) if match else None

"""Statistics of a product's bands, gathered window by window while they are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Statistics"]


class Statistics:
    """Count, smallest, largest, mean and standard deviation per band; missing values and infinities are left out.

    Windows are joined with the formula of Chan, Golub and LeVeque (1979), which keeps the variance of values far
    from zero.
    """

    def __init__(self) -> None:
        self.total = 0
        """Pixels seen, per band."""
        self.beyond = 0
        """Values of all bands that the type they are stored as cannot hold."""
        self._bands: list[_Band] = []

    @property
    def count(self) -> int:
        """Values of all bands."""
        return sum(band.count for band in self._bands)

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest value of all bands; infinities the wrong way round where there is none."""
        return (
            min((band.low for band in self._bands), default=math.inf),
            max((band.high for band in self._bands), default=-math.inf),
        )

    @property
    def empty(self) -> bool:
        """Whether no pixel of any band had a value."""
        return self.count == 0

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in a window of values (bands, rows, columns), NaN where there is no data."""
        if not self._bands:
            self._bands = [_Band() for _ in range(len(values))]
        self.total += values.shape[1] * values.shape[2]
        for band, layer in zip(self._bands, values, strict=True):
            band.add(layer)

    def to_json(self, number: int) -> dict[str, Any]:
        """Return what STAC calls ``statistics``, of one band counted from 0."""
        band = self._bands[number]
        valid = {"count": band.count, "valid_percent": round(100.0 * band.count / max(self.total, 1), 6)}
        if band.count == 0:
            return valid
        deviation = math.sqrt(band.squares / band.count)
        return {"minimum": band.low, "maximum": band.high, "mean": band.mean, "stddev": deviation, **valid}


class _Band:
    """What is known of one band so far."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, layer: NDArray[np.float32]) -> None:
        low, high = float(layer.min()), float(layer.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            layer = layer[np.isfinite(layer)]
            if layer.size == 0:
                return
            low, high = float(layer.min()), float(layer.max())
        count, mean = layer.size, float(layer.mean(dtype=np.float64))
        # Around the window's own mean float32 is precise enough, and twice as fast.
        away = (layer - np.float32(mean)).ravel()
        shift = mean - float(np.float32(mean))
        squares = float(np.dot(away, away)) - count * shift * shift
        joined = self.count + count
        apart = mean - self.mean
        self.squares += max(squares, 0.0) + apart * apart * self.count * count / joined
        self.mean += apart * count / joined
        self.count = joined
        self.low, self.high = min(self.low, low), max(self.high, high)

"""A cratered plain on a planet: heights in metres, and the same ground as a camera would see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cupola.lab.samples.noise import Floats, blur, fractal, generator, ramp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["ground", "shaded", "stereo_gaps"]

_COMPLEX_KM = 8.0
"""Diameter above which Martian craters have flat floors and central peaks."""


def ground(shape: tuple[int, int], pixel: float, *, place: str = "mars", lava: bool = True) -> Floats:
    """Return heights in metres of `shape` rows and columns with pixels of `pixel` metres.

    `place` chooses the ground: another word gives another one. Without `lava` no plain was flooded half-way.
    """
    rng = generator(place, *shape)
    height = 420 * fractal(rng, shape, 2.1) + 85 * fractal(rng, shape, 1.75, largest=150)
    height += np.linspace(500, -700, shape[1], dtype=np.float32)[None, :]
    texture = fractal(rng, shape, 1.5, largest=60)
    plan = list(_impacts(rng, shape, pixel))
    for number, impact in enumerate(plan):
        _dig(height, texture, pixel, *impact)
        if lava and number == len(plan) // 2:
            # Half-way through the history lava fills the lowest ground, so that young craters stand on a plain.
            _flood(height, texture)
    height += 5 * texture + 2.5 * fractal(rng, shape, 0.6)
    return (height - 2100).astype(np.float32)


def _impacts(
    rng: np.random.Generator, shape: tuple[int, int], pixel: float
) -> Iterator[tuple[float, float, float, float]]:
    """Yield row, column, diameter in pixels and freshness (0 to 1) of each crater, the oldest first."""
    rows, columns = shape
    smallest, largest = 3.5, 0.3 * rows
    count = int(rows * columns / 700)
    # Cumulative numbers fall with the square of the diameter, as on old surfaces.
    size = smallest / np.sqrt(1 - rng.uniform(0, 1 - (smallest / largest) ** 2, count))
    fresh = rng.uniform(0, 1, count) ** 1.3
    places = rng.uniform((-0.05, -0.03), (1.05, 1.03), (count, 2)) * (rows, columns)
    # Two that everybody finds: an old basin, and a young crater with rays.
    special = [(0.36, 0.24, 0.46 * rows, 0.35), (0.58, 0.67, 0.27 * rows, 1.0)]
    found = [(y * rows, x * columns, d, f) for y, x, d, f in special]
    found += [
        (float(y), float(x), float(d), float(f)) for (y, x), d, f in zip(places, size, fresh, strict=True)
    ]
    # Large craters fade slowly: what is fresh is young, what is small and worn was worn quickly.
    order = [
        f + rng.uniform(-0.15, 0.15) - (0.25 if d > 40 * pixel / 200 else 0) * (f < 1) for _, _, d, f in found
    ]
    for number in np.argsort(order, kind="stable"):
        yield found[number]


def _dig(  # noqa: PLR0913, PLR0917 - where and how
    height: Floats, texture: Floats, pixel: float, row: float, column: float, diameter: float, fresh: float
) -> None:
    """Dig one crater into `height`: bowl, terraces, central peak, rim, and ejecta around it."""
    reach = int(1.7 * diameter) + 3
    top, left = max(0, int(row) - reach), max(0, int(column) - reach)
    window = np.s_[top : int(row) + reach + 1, left : int(column) + reach + 1]
    old = height[window]
    if not old.size:
        return
    y, x = np.mgrid[top : top + old.shape[0], left : left + old.shape[1]].astype(np.float32)
    angle = np.arctan2(y - np.float32(row), x - np.float32(column))
    phase = np.float32(row % 6.283)
    radius = np.hypot(y - np.float32(row), x - np.float32(column)) / np.float32(diameter / 2)
    # No rim is a perfect circle.
    radius *= 1 + 0.025 * np.sin(3 * angle + phase) + 0.012 * np.sin(7 * angle - 2 * phase)
    radius += np.float32(0.012) * texture[window]
    km = diameter * pixel / 1000
    depth = 1000 * (0.2 * km if km < _COMPLEX_KM else 0.36 * km**0.49 * 1.2)
    depth *= 0.25 + 0.75 * fresh
    rim = (0.2 + 0.05 * fresh) * depth
    inside = ramp(radius, 1.04, 0.8)
    level = float(np.average(old, weights=(radius < 1.5) + 1e-6))
    # Old ground shows through the floor and is gone where the bowl is.
    keep = old + inside * 0.85 * (np.float32(level) - old)
    shape = _bowl(radius, km, fresh) * depth
    wall = np.float32(rim) * np.maximum(radius, 1) ** np.float32(-3.2 - 2 * fresh)
    hummocks = 1 + 0.28 * texture[window] * ramp(radius, 0.95, 1.4)
    fade = ramp(radius, 3.2, 1.6)
    height[window] = keep + shape + wall * hummocks * fade


def _bowl(radius: Floats, km: float, fresh: float) -> Floats:
    """Return the depth of the hole in units of the crater's depth, 0 at the rim and beyond."""
    if km < _COMPLEX_KM:
        bowl: Floats = (1.2 * (np.minimum(radius**2, 1) - 1)).astype(np.float32)
        return bowl
    # Wide craters: a flat floor, terraced walls, and a peak in the middle.
    wall = ramp(radius, 0.55, 1.0)
    steps = (
        np.float32(0.035 * fresh)
        * np.sin(np.float32(30) * radius)
        * ramp(radius, 0.55, 0.68)
        * ramp(radius, 1, 0.85)
    )
    peak = np.float32(0.34 * (0.3 + 0.7 * fresh)) * np.exp(-((radius / np.float32(0.14)) ** 2))
    result: Floats = (wall - 1 + steps + peak).astype(np.float32)
    return result


def _flood(height: Floats, texture: Floats) -> None:
    """Fill what lies low with lava: level, but for wrinkle ridges."""
    level = np.float32(np.quantile(height[::4, ::4], 0.24))
    ridges = 22 * np.exp(-((blur(texture, 6) * 9) ** 2))
    lava = level + ridges.astype(np.float32)
    np.copyto(height, lava + 0.06 * (height - lava), where=height < lava)


def shaded(height: Floats, pixel: float, *, sun_elevation: float = 27) -> NDArray[np.uint8]:
    """Return how a camera sees the ground with the sun at the upper left, `sun_elevation` degrees high, 1 to 255."""
    down, across = np.gradient(height / np.float32(pixel))
    elevation, azimuth = np.radians(sun_elevation), np.radians(315)
    east, north = -across, down
    light = (east * np.sin(azimuth) + north * np.cos(azimuth)) * np.cos(elevation) + np.sin(elevation)
    light /= np.sqrt(1 + east**2 + north**2)
    shape = (height.shape[0], height.shape[1])
    dust = fractal(generator("albedo", *shape), shape, 1.6)
    albedo = 1 + 0.09 * dust + 0.05 * ramp(-height, 1500, 3200)
    grain = generator("grain", *shape).normal(0, 1.2, shape)
    values = 255 * np.clip(light, 0.02, None) * albedo + grain
    result: NDArray[np.uint8] = np.clip(np.rint(values), 1, 255).astype(np.uint8)
    return result


def stereo_gaps(height: Floats) -> NDArray[np.bool_]:
    """Return where stereo matching failed: a few smooth floors, and a ragged stripe between two image strips."""
    rows, columns = height.shape
    rng = generator("gaps", rows, columns)
    speckle = fractal(rng, (rows, columns), 1.3, largest=40)
    steepness = blur(np.hypot(*np.gradient(height)).astype(np.float32), 3)
    bland = (speckle > 2.7) & (steepness < np.quantile(steepness[::4, ::4], 0.3))
    middle = 0.845 * columns + 0.09 * (np.arange(rows) - rows / 2)
    gap = np.abs(np.arange(columns)[None, :] - middle[:, None]) < 1.5 + 2.2 * np.maximum(speckle, 0)
    stripe = gap & (np.arange(rows)[:, None] < 0.62 * rows)
    result: NDArray[np.bool_] = bland | stripe
    return result

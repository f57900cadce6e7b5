"""The shape of a surface from its heights: pure functions on arrays, which know nothing of chains.

Heights are a 2-D array (rows, columns) whose rows go down the map, NaN where nothing is known. `across` and `down` are the
distances on the ground between neighbouring columns and rows in metres, as numbers or as arrays of shape (rows, 1) where
they change with latitude. Slopes follow B. K. P. Horn, "Hill shading and the reflectance map", Proc. IEEE 69 (1981), the
method of most geographic software.

Where a neighbour is missing (the edge of an image, a gap) the surface is carried on straight through the pixel: a plane
keeps its slope up to its very edge, and an image cut into windows gives what the whole image gives.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = [
    "aspect",
    "contour_lines",
    "curvature",
    "gradient",
    "hillshade",
    "neighbours",
    "position_index",
    "roughness",
    "ruggedness",
    "slope",
]

Array = Any  # NDArray[np.float32], written short
Metres = Any  # a number, or an array (rows, 1)

_STRAIGHT = (("north", "south"), ("west", "east"))
_DIAGONAL = (
    ("northwest", "north", "west", "southeast"),
    ("northeast", "north", "east", "southwest"),
    ("southwest", "south", "west", "northeast"),
    ("southeast", "south", "east", "northwest"),
)


def neighbours(heights: Array) -> dict[str, Array]:
    """Return the eight neighbours of every pixel, by ``north``, ``northeast`` ... (north is up the array)."""
    wide = np.pad(np.asarray(heights, dtype=np.float32), 1, constant_values=np.nan)
    rows, columns = wide.shape[0] - 2, wide.shape[1] - 2

    def shifted(row: int, column: int) -> Array:
        return wide[1 + row : 1 + row + rows, 1 + column : 1 + column + columns]

    middle = shifted(0, 0)
    given = {
        "north": shifted(-1, 0),
        "south": shifted(1, 0),
        "west": shifted(0, -1),
        "east": shifted(0, 1),
        "northwest": shifted(-1, -1),
        "northeast": shifted(-1, 1),
        "southwest": shifted(1, -1),
        "southeast": shifted(1, 1),
    }
    if not np.isnan(wide[1:-1, 1:-1]).any() and min(rows, columns) > 2:  # noqa: PLR2004 - has an inside
        return _filled_at_the_edge(given, middle)
    return _filled(given, middle)


def _filled(given: dict[str, Array], middle: Array) -> dict[str, Array]:
    """Put straight continuations where neighbours are missing."""
    found: dict[str, Array] = {}
    for one, other in _STRAIGHT:
        for name, opposite in ((one, other), (other, one)):
            through = 2 * middle - given[opposite]
            best = np.where(np.isnan(through), middle, through)
            found[name] = np.where(np.isnan(given[name]), best, given[name])
    for name, upright, level, opposite in _DIAGONAL:
        through = 2 * middle - given[opposite]
        best = np.where(np.isnan(through), found[upright] + found[level] - middle, through)
        found[name] = np.where(np.isnan(given[name]), best, given[name])
    return found


def _filled_at_the_edge(given: dict[str, Array], middle: Array) -> dict[str, Array]:
    """Do what `_filled` does where only the outermost pixels lack neighbours: most images, and six times as quick."""
    found = {name: array.copy() for name, array in given.items()}
    last_row, last_column = middle.shape[0] - 1, middle.shape[1] - 1
    for rows, columns in (
        (slice(0, 1), slice(None)),
        (slice(last_row, None), slice(None)),
        (slice(None), slice(0, 1)),
        (slice(None), slice(last_column, None)),
    ):
        part = _filled({name: array[rows, columns] for name, array in given.items()}, middle[rows, columns])
        for name, array in part.items():
            found[name][rows, columns] = array
    return found


def gradient(heights: Array, across: Metres, down: Metres) -> tuple[Array, Array]:
    """Return how much the surface rises per metre to the right and up the map (both dimensionless), by Horn's weights."""
    at = neighbours(heights)
    across, down = np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)
    # Differences first: heights may be radii of millions of metres, of which float32 keeps a digit behind the point.
    right = (at["northeast"] - at["northwest"]) + 2 * (at["east"] - at["west"])
    right = right + (at["southeast"] - at["southwest"])
    up = (at["northwest"] - at["southwest"]) + 2 * (at["north"] - at["south"])
    up = up + (at["northeast"] - at["southeast"])
    missing = np.isnan(heights)
    right, up = right / (8 * across), up / (8 * down)
    right[missing] = np.nan
    up[missing] = np.nan
    return right, up


def hillshade(  # noqa: PLR0913, PLR0917 - the light is two angles
    heights: Array,
    across: Metres,
    down: Metres,
    azimuth: float = 315.0,
    altitude: float = 45.0,
    exaggeration: float = 1.0,
) -> Array:
    """Return the shaded relief, 1 (dark) to 255 (towards the light), as GDAL's gdaldem before it rounds.

    Parameters
    ----------
    heights, across, down
        The surface; see above.
    azimuth
        Where the light comes from, in degrees clockwise from the top of the map.
    altitude
        Of the light above the horizon, in degrees.
    exaggeration
        Factor on the heights.
    """
    right, up = gradient(heights, across, down)
    right, up = right * np.float32(exaggeration), up * np.float32(exaggeration)
    towards, high = np.radians(azimuth), np.radians(altitude)
    east, north = np.float32(np.sin(towards) * np.cos(high)), np.float32(np.cos(towards) * np.cos(high))
    cosine = (np.float32(np.sin(high)) - east * right - north * up) / np.sqrt(1 + right * right + up * up)
    return np.asarray(1 + 254 * np.maximum(cosine, 0), dtype=np.float32)


def slope(heights: Array, across: Metres, down: Metres, unit: str = "degrees") -> Array:
    """Return how steep the surface is, in ``degrees`` or ``percent`` (100 is 45 degrees)."""
    steep = np.hypot(*gradient(heights, across, down))
    shown = np.degrees(np.arctan(steep)) if unit == "degrees" else steep * 100
    return np.asarray(shown, dtype=np.float32)


def aspect(heights: Array, across: Metres, down: Metres, north: Array | float = 0.0) -> Array:
    """Return which way the surface falls, in degrees clockwise from north, 0 up to 360; NaN where it is level.

    `north` is the direction of north on the map, in degrees clockwise from its top: 0 on maps whose meridians run up.
    """
    right, up = gradient(heights, across, down)
    falls = np.degrees(np.arctan2(-right, -up))
    answer = np.asarray(np.mod(falls - north, 360.0), dtype=np.float32)
    # float32 has no number between 359.99998 and 360.
    answer[answer >= 360] = 0  # noqa: PLR2004 - a full turn
    answer[(right == 0) & (up == 0)] = np.nan
    return answer


def curvature(heights: Array, across: Metres, down: Metres) -> Array:
    """Return the curvature of the surface in 1/m: positive on tops and ridges, negative in hollows, 0 on planes."""
    at = neighbours(heights)
    across, down = np.asarray(across, dtype=np.float32), np.asarray(down, dtype=np.float32)
    bent = ((heights - at["east"]) + (heights - at["west"])) / (across * across)
    bent = bent + ((heights - at["north"]) + (heights - at["south"])) / (down * down)
    return np.asarray(bent, dtype=np.float32)


def _stacked(heights: Array) -> Array:
    around = np.stack(list(neighbours(heights).values()))
    around[:, np.isnan(heights)] = np.nan
    return around


def position_index(heights: Array) -> Array:
    """Return the topographic position index: the height above the mean of the eight neighbours, in the heights' unit."""
    return np.asarray(heights - _stacked(heights).mean(axis=0), dtype=np.float32)


def ruggedness(heights: Array) -> Array:
    """Return the terrain ruggedness index after Riley (1999): the root of the summed squared differences to the neighbours."""
    return np.asarray(np.sqrt(((_stacked(heights) - heights) ** 2).sum(axis=0)), dtype=np.float32)


def roughness(heights: Array) -> Array:
    """Return the largest difference among a pixel and its neighbours, in the heights' unit."""
    every = np.concatenate([_stacked(heights), np.asarray(heights, dtype=np.float32)[np.newaxis]])
    return np.asarray(every.max(axis=0) - every.min(axis=0), dtype=np.float32)


def contour_lines(heights: Array, interval: float, base: float = 0.0) -> Array:
    """Return the level of the contour line where one passes, NaN elsewhere.

    A line is one pixel wide and lies on the upper side: on pixels at or above a level with a neighbour (of four) below it.
    Where several levels pass between two pixels, as on a cliff, it is the highest.
    """
    heights = np.asarray(heights, dtype=np.float32)
    with np.errstate(invalid="ignore"):
        step = np.floor((heights.astype(np.float64) - base) / interval)
    wide = np.pad(step, 1, constant_values=np.nan)
    lower = np.zeros(heights.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        for beside in (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]):
            lower |= beside < step
    return np.where(lower, step * interval + base, np.nan).astype(np.float32)

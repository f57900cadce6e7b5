"""A made-up coast: hills, a river that winds through fields to the sea, woods, villages and roads.

All lengths are in pixels of 10 m, heights in metres. West is the sea, east are the hills.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cupola.lab.samples.noise import Floats, blur, fractal, generator, ramp

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Land", "make_land", "mixed"]

Integers = NDArray[np.int32]


@dataclass(frozen=True)
class Land:
    """What lies where; every field has the same rows and columns."""

    height: Floats
    """Metres above the sea; the sea floor is below 0."""
    sea: Floats
    """Share of sea in the pixel, 0 to 1."""
    river: Floats
    """Share of river or lake in the pixel."""
    plume: Floats
    """Share of river water in the sea: it is muddy."""
    sand: Floats
    town: Floats
    """Share of houses and streets."""
    road: Floats
    wood: Floats
    """Share of trees; hedges and the river's banks are among them."""
    heath: Floats
    parcel: Integers
    """Number of the field; fields are everywhere, though other things may cover them."""
    edge: NDArray[np.bool_]
    """Whether the pixel is on the edge of its field."""
    blocks: Integers
    """Numbers of the town's blocks."""


def make_land(shape: tuple[int, int]) -> Land:
    """Return the landscape of `shape` rows and columns; it is the same each time."""
    rows, columns = shape
    rng = generator("land", rows, columns)
    height = _relief(rng, shape)
    distance, width = _rivers(rng, height)
    # The valley: rivers lie low, and the ground rises gently from them.
    height = (height * ramp(distance, -8, 90 + rows / 16) + 2).astype(np.float32)
    height = np.where(height < 0, height, np.maximum(height, 0.02 * distance)).astype(np.float32)
    sea = ramp(blur(height, 0.6), 1.2, 0.2)
    mouth = sea * np.exp(-distance / (rows / 12)).astype(np.float32)
    wild = fractal(rng, shape, 1.5, largest=220)
    river = ramp(distance - width, 0.6, -0.6) * (1 - sea)
    slope = np.hypot(*np.gradient(blur(height, 1.5))).astype(np.float32)
    parcel, edge = _fields(rng, shape)
    centres = _centres(rng, height, distance, sea)
    town, road = _towns(rng, centres, shape)
    dry = (1 - sea) * (1 - river)
    banks = ramp(distance - width, 4.5, 1.5) * ramp(wild, -0.6, 0.2)
    # Woods are left where ploughing is hard: on slopes and high ground, and in patches on the plain.
    trees = ramp(wild + 0.55 * slope + height / 260, 1.3, 1.5)
    # A hedge stands along some of the edges only.
    hedges = 0.75 * edge * (mixed(parcel) % 5 < 2)
    wood = np.maximum.reduce([trees, banks, hedges]).astype(np.float32) * (1 - town) * (1 - road) * dry
    return Land(
        height=height,
        sea=sea,
        river=river,
        plume=np.clip(mouth * 1.3 + 0.12 * sea * ramp(fractal(rng, shape, 1.4), 0.2, 2), 0, 1),
        sand=_beach(rng, sea) * dry,
        town=(town * dry).astype(np.float32),
        road=(road * np.maximum(dry, river)).astype(np.float32),
        wood=wood.astype(np.float32),
        heath=(ramp(height + 22 * wild, 190, 250) * dry).astype(np.float32),
        parcel=parcel,
        edge=edge,
        blocks=_cells(rng, shape, turn=_turn(np.array(0.35)), sizes=(4, 9)),
    )


def _beach(rng: np.random.Generator, sea: Floats) -> Floats:
    """Return the share of sand: strips of changing width along the sea, none below cliffs."""
    gap = ndimage.distance_transform_edt(sea < 0.5).astype(np.float32)
    breadth = 2 + 3 * fractal(rng, sea.shape, 2, largest=200)
    return ramp(gap - breadth, 1, -1)


def _relief(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Return heights before the rivers cut in: sea floor in the west, hills in the east."""
    rows, columns = shape
    across = np.arange(columns, dtype=np.float32) / columns
    hills = fractal(rng, shape, 2.0, largest=600)
    detail = fractal(rng, shape, 1.7, largest=120)
    coast = 0.16 + 0.022 * fractal(rng, (rows, rows), 1.8)[:, :1]
    inland = across - coast
    plain = 60 * np.clip(inland, -1, 1) + 300 * np.clip(inland - 0.25, 0, 1) ** 1.3
    rough = 2 + 65 * np.clip(inland - 0.1, 0, 1) ** 1.2 * 2
    return (plain + rough * (0.8 * hills + 0.14 * detail) + 1.5).astype(np.float32)


def _rivers(rng: np.random.Generator, height: Floats) -> tuple[Floats, Floats]:
    """Return the distance to the nearest river, and half the width of that river."""
    rows, columns = height.shape
    main = _meander(
        rng, (columns + 4.0, rows * 0.42), heading=np.pi, length=columns * 1.1, wave=rows / 9 + 24, bend=1.7
    )
    # On the whole it keeps to the middle of the land.
    main[:, 1] += np.linspace(0, rows * 0.6 - main[-1, 1], len(main))
    streams = [(main, np.linspace(1.3, 6.5, len(main)))]
    for start, heading, joins in (((0.66, -0.02), 2.2, 0.55), ((0.85, 1.02), -2.5, 0.4)):
        x, y = start[0] * columns, start[1] * rows
        arm = _meander(rng, (x, y), heading=heading, length=rows * 2, wave=rows / 18 + 14, bend=1.0)
        gap = np.hypot(arm[:, None, 0] - main[None, ::9, 0], arm[:, None, 1] - main[None, ::9, 1]).min(axis=1)
        meets = np.flatnonzero(gap < 4)
        end = int(meets[0]) if len(meets) else int(len(arm) * joins)
        streams.append((arm[:end], np.linspace(0.35, 0.9, end)))
    drawn = np.zeros((rows, columns), dtype=np.float32)
    for path, half in streams:
        x, y = np.rint(path[:, 0]).astype(int), np.rint(path[:, 1]).astype(int)
        inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
        drawn[y[inside], x[inside]] = np.maximum(drawn[y[inside], x[inside]], half[inside])
    distance, (near_y, near_x) = ndimage.distance_transform_edt(drawn == 0, return_indices=True)
    return distance.astype(np.float32), drawn[near_y, near_x]


def _meander(  # noqa: PLR0913 - a river's shape has that many measures
    rng: np.random.Generator,
    start: tuple[float, float],
    *,
    heading: float,
    length: float,
    wave: float,
    bend: float,
) -> NDArray[np.float64]:
    """Return the points (x, y) of a river's middle line, from its source downstream.

    Its direction swings as a sine of the way along it, which is the shape of real meanders; it swings more the
    further it comes into the plain.
    """
    step = 0.4
    count = int(length * 1.7 / step)
    way = np.arange(count) * step
    jitter = ndimage.gaussian_filter1d(rng.standard_normal(count), wave / step)
    jitter /= jitter.std()
    swing = bend * np.linspace(0.35, 1, count) * (1 + 0.25 * jitter)
    drift = ndimage.gaussian_filter1d(rng.standard_normal(count), 2.5 * wave / step)
    drift *= 0.22 / drift.std()
    angle = heading + drift + swing * np.sin(2 * np.pi * way / wave + 1.4 * jitter)
    return np.column_stack(
        [start[0] + step * np.cumsum(np.cos(angle)), start[1] + step * np.cumsum(np.sin(angle))]
    )


def mixed(numbers: NDArray[np.generic]) -> NDArray[np.uint32]:
    """Return well-mixed whole numbers, so that neighbours have nothing in common."""
    mixed = numbers.astype(np.uint32)
    for factor in (0x9E3779B1, 0x85EBCA6B):
        mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(factor)
    result: NDArray[np.uint32] = mixed ^ (mixed >> np.uint32(13))
    return result


def _turn(angles: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Return cosine and sine."""
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _cells(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    turn: tuple[Floats, Floats],
    sizes: tuple[float, float],
) -> Integers:
    """Return the numbers of rectangles in rows, as land is parcelled out, turned by an angle."""
    cosine, sine = turn
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    u, v = x * cosine + y * sine, y * cosine - x * sine
    reach = 2 * (rows + columns)
    strips = np.cumsum(rng.uniform(*sizes, int(2 * reach / sizes[0]))) - reach
    strip = np.searchsorted(strips, v).astype(np.int32)
    shift = (mixed(strip) % 977).astype(np.float32)
    lots = np.cumsum(rng.uniform(1.2 * sizes[0], 2.2 * sizes[1], int(2 * reach / sizes[0]))) - reach
    lot = np.searchsorted(lots, u + shift).astype(np.int32)
    result: Integers = (strip * 4001 + lot).astype(np.int32)
    return result


def _fields(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Integers, NDArray[np.bool_]]:
    """Return the number of the field at each pixel, and the fields' edges."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    # Boundaries between parishes follow old ways: bent, not straight.
    x = x + 14 * fractal(rng, shape, 2, largest=160)
    y = y + 14 * fractal(rng, shape, 2, largest=160)
    count = max(4, rows * columns // 26_000)
    seeds = np.zeros(shape, dtype=np.int32)
    seeds[rng.integers(0, rows, count), rng.integers(0, columns, count)] = np.arange(1, count + 1)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    parish = seeds[nearest[0], nearest[1]][
        np.rint(y).astype(int).clip(0, rows - 1), np.rint(x).astype(int).clip(0, columns - 1)
    ]
    cosine, sine = _turn(rng.normal(0.3, 0.5, count + 1))
    parcel = _cells(rng, shape, turn=(cosine[parish], sine[parish]), sizes=(9, 24))
    parcel += parish * np.int32(20_011)
    edge: NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
    edge[:, 1:] |= parcel[:, 1:] != parcel[:, :-1]
    edge[1:] |= parcel[1:] != parcel[:-1]
    return parcel, edge


def _centres(
    rng: np.random.Generator, height: Floats, distance: Floats, sea: Floats
) -> list[tuple[int, int, float]]:
    """Choose places for a town by the river and for villages: row, column, radius."""
    rows, columns = height.shape
    good = (sea < 0.01) & (height < 160)
    suits = np.where(good & (distance > 8) & (distance < 40), 1.0, 0.1) * good
    suits *= rng.uniform(0.2, 1, height.shape)
    suits[:, : columns // 5] = 0
    suits[:, int(columns * 0.6) :] *= 0.3
    found: list[tuple[int, int, float]] = []
    for radius in [0.055 * rows + 8, *rng.uniform(0.4, 1, 9) * (0.018 * rows + 7)]:
        row, column = np.unravel_index(int(suits.argmax()), suits.shape)
        found.append((int(row), int(column), float(radius)))
        gap = rows // 5 + 20
        suits[max(0, row - gap) : row + gap, max(0, column - gap) : column + gap] = 0
    return found


def _towns(
    rng: np.random.Generator, centres: Sequence[tuple[int, int, float]], shape: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return the share of built-up ground, and the roads that lead from place to place."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    ragged = fractal(rng, shape, 1.5, largest=60)
    town = np.zeros(shape, dtype=np.float32)
    for row, column, radius in centres:
        gap = np.hypot(y - row, x - column) / radius
        town = np.maximum(town, ramp(gap + 0.33 * ragged, 1.15, 0.7))
    drawn = np.ones(shape, dtype=bool)
    for number, (row, column, _) in enumerate(centres[1:], 1):
        near = min(centres[:number], key=lambda other: (other[0] - row) ** 2 + (other[1] - column) ** 2)
        way = np.linspace(0, 1, 4 * int(abs(near[0] - row) + abs(near[1] - column)) + 2)
        bow = rng.normal(0, 0.1) * np.sin(np.pi * way) + 0.012 * np.sin(5 * np.pi * way)
        line_y = np.rint(row + (near[0] - row) * way + bow * (near[1] - column)).astype(int)
        line_x = np.rint(column + (near[1] - column) * way - bow * (near[0] - row)).astype(int)
        drawn[line_y.clip(0, rows - 1), line_x.clip(0, columns - 1)] = False
    gap = ndimage.distance_transform_edt(drawn).astype(np.float32)
    return town, 0.7 * ramp(gap, 1.3, 0.2)

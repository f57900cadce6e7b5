"""Values between pixels: bilinear and cubic, and what many pixels under one are worth: average and mode.

Missing pixels (NaN) spread nothing: a place is missing where the pixel it lies in is, and weights of missing
neighbours go to the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MANY", "METHODS", "SMOOTH", "between", "check", "gather", "inside"]

Floats = Any  # NDArray[np.float64], written short

METHODS = ("nearest", "bilinear", "cubic", "average", "mode")
SMOOTH = frozenset({"bilinear", "cubic"})
"""Look at the neighbours of a place."""
MANY = frozenset({"average", "mode"})
"""Look at all pixels under a place."""


def check(method: str) -> str:
    """Return the name of a method.

    Raises
    ------
    InputError
        When there is none of that name.
    """
    if method not in METHODS:
        raise InputError(f"There is no resampling {method!r}; choose one of {', '.join(METHODS)}.")
    return method


def between(values: NDArray[np.float32], columns: Floats, rows: Floats, method: str) -> NDArray[np.float32]:
    """Return values at places between pixels.

    Parameters
    ----------
    values
        (rows, columns), NaN where there is no data.
    columns, rows
        Places in pixels from the corner of `values`, any shape.
    method
        ``bilinear`` or ``cubic``.
    """
    height, width = values.shape
    x, y = columns - 0.5, rows - 0.5
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    part_x, part_y = (x - left).astype(np.float32), (y - top).astype(np.float32)
    # Most images have no hole: their weights need no looking after, which is two thirds of the work.
    missing = bool(np.isnan(values).any())
    found = _weighted(values, (left, top), _linear(part_x), _linear(part_y), whole=not missing)
    if method == "cubic":
        # Four by four pixels; where one of them is missing, what two by two give.
        wide = _weighted(values, (left - 1, top - 1), _catmull_rom(part_x), _catmull_rom(part_y), whole=True)
        found = np.where(np.isfinite(wide), wide, found)
    if not missing:
        return found
    own = values[
        np.clip(np.floor(rows).astype(np.intp), 0, height - 1),
        np.clip(np.floor(columns).astype(np.intp), 0, width - 1),
    ]
    found[np.isnan(own)] = np.nan
    return found


def inside(numbers: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return numbers of rows or columns, those before the first as the first and those beyond the last as the last."""
    # Hardly any place lies at an edge, and two looks cost less than clipping all.
    if numbers.size == 0 or (numbers.min() >= 0 and numbers.max() < size):
        return numbers
    return np.clip(numbers, 0, size - 1)


def _linear(part: Floats) -> list[Floats]:
    return [1 - part, part]


def _catmull_rom(t: Floats) -> list[Floats]:
    """Return the weights of four pixels for a place `t` beyond the second of them."""
    return [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _weighted(
    values: NDArray[np.float32],
    first: tuple[Any, Any],
    across: list[Floats],
    down: list[Floats],
    *,
    whole: bool = False,
) -> NDArray[np.float32]:
    """Return weighted sums of pixels from `first` (column, row) on; NaN where one is missing and `whole` is asked."""
    height, width = values.shape
    flat = values.ravel()
    columns = [inside(first[0] + number, width) for number in range(len(across))]
    total = np.zeros(np.broadcast_shapes(first[0].shape, first[1].shape), dtype=np.float32)
    weights = np.zeros_like(total)
    for number, weight_y in enumerate(down):
        start = inside(first[1] + number, height) * width
        for column, weight_x in zip(columns, across, strict=True):
            pixel, weight = flat[start + column], weight_x * weight_y
            if whole:
                pixel *= weight
                total += pixel
                continue
            known = pixel == pixel  # noqa: PLR0124 - NaN is not; quicker than isnan and its inverse
            total += np.where(known, pixel * weight, np.float32(0))
            weights += weight * known
    if whole:
        return total
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weights > 1e-6, total / weights, np.float32(np.nan))  # noqa: PLR2004 - no neighbour at all


def gather(samples: NDArray[np.float32], times: int, method: str) -> NDArray[np.float32]:
    """Return what `times` x `times` samples are worth: their average, or the value most of them have.

    Parameters
    ----------
    samples
        (rows · times, columns · times), NaN where there is no data.

    Returns
    -------
    values
        (rows, columns), NaN where all are missing.
    """
    rows, columns = samples.shape[0] // times, samples.shape[1] // times
    blocks = samples.reshape(rows, times, columns, times)
    if method == "average":
        known = np.isfinite(blocks)
        count = known.sum(axis=(1, 3))
        total = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(count > 0, total / count, np.nan).astype(np.float32)
    return _mode(blocks.transpose(0, 2, 1, 3).reshape(rows, columns, times * times))


def _mode(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the value that occurs most often along the last axis, the smallest of those where several do."""
    ordered = np.sort(samples, axis=-1)
    best = ordered[..., 0].copy()
    most = np.where(np.isnan(best), 0, 1)
    run = most.copy()
    for number in range(1, ordered.shape[-1]):
        here = ordered[..., number]
        run = np.where(np.isnan(here), 0, np.where(here == ordered[..., number - 1], run + 1, 1))
        more = run > most
        best[more], most[more] = here[more], run[more]
    return best

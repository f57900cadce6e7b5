"""Steps that make one image of many: over time, or one on top of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.base import Part, Step, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["REDUCTIONS", "STREAMED", "Accumulator", "Reduce", "accumulator"]

REDUCTIONS = ("mean", "median", "min", "max", "sum", "std", "count", "first", "last", "percentile", "mosaic")
STREAMED = frozenset(REDUCTIONS) - {"median", "percentile"}
"""Those that hold no more than a few images, however many there are."""

_ALL_PERCENT = 100.0


@step("reduce")
@dataclass(frozen=True, eq=False)
class Reduce(Step):
    """One image of all items, band by band; missing values are left out."""

    how: str = "mean"
    q: float | None = None
    """Of a percentile, 0 to 100."""

    leaf: ClassVar[bool] = True
    arity: ClassVar[int | None] = 1

    @override
    def options(self) -> dict[str, Any]:
        return {"how": self.how} if self.q is None else {"how": self.how, "q": self.q}

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        how, q = options["how"], options.get("q")
        if how not in REDUCTIONS:
            raise ValueError(f"there is no reduction {how!r}")
        if (how == "percentile") != (q is not None):
            raise ValueError("q goes with percentile, and with nothing else")
        if q is not None and not 0 <= float(q) <= _ALL_PERCENT:
            raise ValueError(f"a percentile goes from 0 to 100, not {q}")
        return cls(inputs, how, None if q is None else float(q))

    @property
    def streamed(self) -> bool:
        """Whether it needs no more than a few images at a time."""
        return self.how in STREAMED

    @override
    def words(self, parts: Sequence[str]) -> str:
        if self.how == "mosaic":
            return f"mosaic of {parts[0]}, the newest on top"
        if self.how in {"first", "last"}:
            return f"{'earliest' if self.how == 'first' else 'latest'} value over time of {parts[0]}"
        name = f"{self.q:g}th percentile" if self.q is not None else self.how
        return f"{name} over time of {parts[0]}"

    @override
    def label(self, bands: str) -> str:
        return f"{f'{self.q:g}th percentile' if self.q is not None else self.how} of {bands}"


class Accumulator:
    """Takes one image after another, the newest first, and gives what they make together."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] | None = None

    def add(self, values: NDArray[np.float32]) -> None:
        """Take an image (bands, rows, columns), NaN where it has no data.

        Raises
        ------
        InputError
            When it has another number of bands than those before it.
        """
        if self._shape is None:
            self._shape = values.shape
            self._begin(values)
            return
        if values.shape != self._shape:
            raise InputError(
                f"The chain has {values.shape[0]} bands for one image and {self._shape[0]} for another: "
                "its function must return the same number for all."
            )
        self._more(values)

    @property
    def full(self) -> bool:
        """Whether further images cannot change anything."""
        return False

    @property
    def missing(self) -> NDArray[np.bool_] | None:
        """Where further images may change something (rows, columns); nothing where they may everywhere."""
        return None

    @property
    def empty(self) -> bool:
        """Whether no image was given."""
        return self._shape is None

    def result(self) -> NDArray[np.float32]:
        """Return the image that they make, NaN where none has data."""
        raise NotImplementedError

    def _begin(self, values: NDArray[np.float32]) -> None:
        raise NotImplementedError

    def _more(self, values: NDArray[np.float32]) -> None:
        raise NotImplementedError


class _Moments(Accumulator):
    """Number, mean and scatter, by the method of Welford (1962): no difference of large sums."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    @override
    def _begin(self, values: NDArray[np.float32]) -> None:
        known = np.isfinite(values)
        self._count = known.astype(np.int32)
        self._mean = np.where(known, values, 0).astype(np.float64)
        self._scatter = np.zeros(values.shape) if self._how == "std" else None

    @override
    def _more(self, values: NDArray[np.float32]) -> None:
        known = np.isfinite(values)
        self._count += known
        off = np.where(known, values, self._mean) - self._mean
        before = off.copy() if self._scatter is not None else off
        np.divide(off, self._count, out=off, where=self._count > 0)
        self._mean += off
        if self._scatter is not None:
            # off is now the step of the mean: (value - old mean) (value - new mean)
            self._scatter += before * (before - off)

    @override
    def result(self) -> NDArray[np.float32]:
        match self._how:
            case "count":
                found = self._count.astype(np.float64)
            case "sum":
                found = self._mean * self._count
            case "std" if self._scatter is not None:
                found = np.sqrt(self._scatter / np.maximum(self._count, 1))
            case _:
                found = self._mean.copy()
        found[self._count == 0] = np.nan
        return found.astype(np.float32)


class _Picked(Accumulator):
    """The least, the greatest, the earliest or the latest value."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self._how = how

    @override
    def _begin(self, values: NDArray[np.float32]) -> None:
        self._value = np.where(np.isfinite(values), values, np.float32(np.nan))

    @override
    def _more(self, values: NDArray[np.float32]) -> None:
        match self._how:
            case "min":
                np.fmin(self._value, values, out=self._value, where=np.isfinite(values))
            case "max":
                np.fmax(self._value, values, out=self._value, where=np.isfinite(values))
            case "first":
                np.copyto(self._value, values, where=np.isfinite(values))
            case _:
                np.copyto(self._value, values, where=np.isnan(self._value) & np.isfinite(values))

    @property
    @override
    def full(self) -> bool:
        return self._how == "last" and not self.empty and bool(np.isfinite(self._value).all())

    @property
    @override
    def missing(self) -> NDArray[np.bool_] | None:
        if self._how != "last" or self.empty:
            return None
        return np.asarray(~np.isfinite(self._value).all(axis=0), dtype=np.bool_)

    @override
    def result(self) -> NDArray[np.float32]:
        return self._value


class _Mosaic(Accumulator):
    """The newest image that has any band at a pixel, with all its bands there."""

    @override
    def _begin(self, values: NDArray[np.float32]) -> None:
        self._value = values.copy()
        self._seen = np.isfinite(values).any(axis=0)
        self._value[:, ~self._seen] = np.nan

    @override
    def _more(self, values: NDArray[np.float32]) -> None:
        new = np.isfinite(values).any(axis=0) & ~self._seen
        np.copyto(self._value, values, where=new)
        self._seen |= new

    @property
    @override
    def full(self) -> bool:
        return not self.empty and bool(self._seen.all())

    @property
    @override
    def missing(self) -> NDArray[np.bool_] | None:
        return None if self.empty else np.logical_not(self._seen)

    @override
    def result(self) -> NDArray[np.float32]:
        return self._value


class _Ranked(Accumulator):
    """A percentile, which needs all images at once."""

    def __init__(self, q: float) -> None:
        super().__init__()
        self._share = q / _ALL_PERCENT

    @override
    def _begin(self, values: NDArray[np.float32]) -> None:
        self._images = [values]

    @override
    def _more(self, values: NDArray[np.float32]) -> None:
        self._images.append(values)

    @override
    def result(self) -> NDArray[np.float32]:
        stack = np.stack(self._images)
        self._images = []
        stack[~np.isfinite(stack)] = np.nan
        stack.sort(axis=0)  # what is missing comes last
        count = np.isfinite(stack).sum(axis=0)
        place = (np.maximum(count, 1) - 1) * self._share
        below = np.floor(place).astype(np.intp)
        above = np.minimum(below + 1, np.maximum(count, 1) - 1)
        low = np.take_along_axis(stack, below[np.newaxis], axis=0)[0]
        high = np.take_along_axis(stack, above[np.newaxis], axis=0)[0]
        found: NDArray[np.float32] = (low + (high - low) * (place - below)).astype(np.float32)
        return found


def accumulator(reduction: Reduce) -> Accumulator:
    """Return what computes a reduction."""
    match reduction.how:
        case "mean" | "sum" | "std" | "count" as how:
            return _Moments(how)
        case "min" | "max" | "first" | "last" as how:
            return _Picked(how)
        case "mosaic":
            return _Mosaic()
        case _:
            return _Ranked(50.0 if reduction.q is None else reduction.q)

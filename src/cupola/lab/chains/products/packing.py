"""How computed values are stored in a product: as floats, or packed into integers with scale and nodata."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cupola.exceptions import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Packing"]

_INTEGERS = ("uint8", "int16", "uint16", "int32", "uint32")
_FLOATS = ("float32", "float64")


@dataclass(frozen=True)
class Packing:
    """Stored number x scale = value; `nodata` stands for NaN."""

    dtype: str
    scale: float
    nodata: float

    @classmethod
    def of(cls, dtype: str, scale: float | None, nodata: float | None) -> Packing:
        """Return a packing, with the usual nodata where none is given.

        Raises
        ------
        InputError
            When type, scale and nodata do not fit.
        """
        name = str(dtype)
        if name not in (*_INTEGERS, *_FLOATS):
            raise InputError(f"dtype is one of {', '.join((*_FLOATS, *_INTEGERS))}, not {dtype!r}.")
        if scale is not None and not (math.isfinite(scale) and scale > 0):
            raise InputError(f"scale is a positive number such as 0.0001, not {scale!r}.")
        if name in _FLOATS:
            if scale not in (None, 1.0):
                raise InputError(
                    f"A scale is for integers: leave it out for {name}, or choose dtype='int16'."
                )
            return cls(name, 1.0, math.nan if nodata is None else float(nodata))
        limits = np.iinfo(name)
        # The far end of the range: nought is a measurement, and what comparisons say.
        missing = float(limits.min or limits.max) if nodata is None else float(nodata)
        if not missing.is_integer() or not limits.min <= missing <= limits.max:
            raise InputError(f"nodata must be a number that {name} can hold, not {nodata!r}.")
        return cls(name, 1.0 if scale is None else float(scale), missing)

    def to_json(self) -> dict[str, Any]:
        """Return the packing as JSON can hold it."""
        missing = "nan" if math.isnan(self.nodata) else self.nodata
        return {"dtype": self.dtype, "scale": self.scale, "nodata": missing}

    @property
    def is_float(self) -> bool:
        """Whether values are stored as they are."""
        return self.dtype in _FLOATS

    @property
    def smooth(self) -> bool:
        """Whether numbers are quantities that may be averaged: integers without a scale may be classes."""
        return self.is_float or self.scale != 1.0

    @property
    def range(self) -> tuple[int, int]:
        """The least and the greatest number that an integer type stores for a value."""
        limits = np.iinfo(self.dtype)
        low, high = int(limits.min), int(limits.max)
        # A value that happens to come out as nodata would be lost: keep clear of it at the ends of the range.
        if self.nodata == low:
            low += 1
        elif self.nodata == high:
            high -= 1
        return low, high

    def beyond(self, values: NDArray[np.float32]) -> int:
        """Count the finite values that the type cannot hold: `pack` stores its nearest limit for them."""
        if self.is_float:
            return 0
        low, high = ((limit + step) * self.scale for limit, step in zip(self.range, (-0.5, 0.5), strict=True))
        return int(np.count_nonzero(((values < low) | (values > high)) & np.isfinite(values)))

    def pack(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return values as they are stored; what lies beyond the type's range becomes its nearest limit."""
        if self.is_float:
            stored = values.astype(self.dtype, copy=False)
            return stored if math.isnan(self.nodata) else np.where(np.isnan(stored), self.nodata, stored)
        limits = np.iinfo(self.dtype)
        low, high = self.range
        wide = np.float64 if limits.bits > 16 else np.float32  # noqa: PLR2004 - float32 holds 24 bits
        scaled: NDArray[Any] = values.astype(wide, copy=True)
        missing = np.isnan(scaled)
        if self.scale != 1.0:
            scaled /= wide(self.scale)
        np.rint(scaled, out=scaled)
        np.clip(scaled, low, high, out=scaled)
        scaled[missing] = self.nodata
        return scaled.astype(self.dtype)

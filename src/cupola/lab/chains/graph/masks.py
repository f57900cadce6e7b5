"""Steps that make masks of class numbers and flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.lab.chains.graph.base import Part, Step, Value, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["SCL_CLASSES", "Bits", "IsIn"]

SCL_CLASSES = {
    "no_data": 0, "saturated_or_defective": 1, "dark_area": 2, "cloud_shadow": 3, "vegetation": 4, "bare_soil": 5,
    "water": 6, "unclassified": 7, "cloud_medium": 8, "cloud_high": 9, "thin_cirrus": 10, "snow_ice": 11,
}  # fmt: skip
"""Sentinel-2's scene classes (level 2A product definition)."""

_MOST_BITS = 24
"""float32 holds whole numbers of so many bits."""


@step("isin")
@dataclass(frozen=True, eq=False)
class IsIn(Step):
    """1 where the value is one of these, 0 elsewhere, NaN where it is unknown."""

    values: tuple[float, ...] = ()

    arity: ClassVar[int | None] = 1

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        if isinstance(options["values"], str):
            raise ValueError("values are a list of numbers")  # noqa: TRY004 - as for all wrong steps
        return cls(inputs, tuple(float(value) for value in options["values"]))

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        array: NDArray[np.float32] = parts[0]
        answer = np.isin(array, np.asarray(self.values, dtype=np.float32)).astype(np.float32)
        answer[np.isnan(array)] = np.nan
        return answer

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"{parts[0]} is one of {', '.join(f'{value:g}' for value in self.values)}"

    @override
    def label(self, bands: str) -> str:
        return f"classes of {bands}"


@step("bits")
@dataclass(frozen=True, eq=False)
class Bits(Step):
    """1 where any of these bits is set, 0 elsewhere, NaN where the value is unknown."""

    bits: tuple[int, ...] = ()

    arity: ClassVar[int | None] = 1

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        bits = tuple(int(bit) for bit in options["bits"])
        if not bits or not all(0 <= bit < _MOST_BITS for bit in bits):
            raise ValueError(f"bits go from 0 to {_MOST_BITS - 1}")
        return cls(inputs, bits)

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        array: NDArray[np.float32] = parts[0]
        known = np.isfinite(array)
        wanted = sum(1 << bit for bit in self.bits)
        whole: NDArray[np.int64] = np.where(known, array, np.float32(0)).astype(np.int64)
        answer: NDArray[np.float32] = ((whole & wanted) != 0).astype(np.float32)
        answer[~known] = np.nan
        return answer

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"{parts[0]} has bit {' or '.join(map(str, self.bits))} set"

    @override
    def label(self, bands: str) -> str:
        return f"classes of {bands}"

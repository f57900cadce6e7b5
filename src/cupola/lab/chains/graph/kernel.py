"""A linear neighbourhood: weights around each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from cupola.exceptions import InputError
from cupola.lab.chains.graph.base import Part, Step, Value, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cupola.lab.chains.graph.context import Context

__all__ = ["Kernel"]

_LARGEST = 101


@step("kernel")
@dataclass(frozen=True, eq=False)
class Kernel(Step):
    """The sum of the neighbours times weights; neighbours without data count as 0, pixels without data stay so."""

    weights: tuple[tuple[float, ...], ...] = ((1.0,),)
    factor: float = 1.0

    arity: ClassVar[int | None] = 1

    @property
    @override
    def halo(self) -> int:
        return max(len(self.weights), len(self.weights[0])) // 2

    @classmethod
    @override
    def made(cls, inputs: tuple[Part, ...], options: dict[str, Any]) -> Self:
        weights, factor = np.asarray(options["weights"], dtype=np.float64), float(options.get("factor", 1.0))
        if weights.ndim != 2 or not np.isfinite(weights).all() or not np.isfinite(factor):  # noqa: PLR2004 - a table
            raise InputError("The weights of a neighbourhood are rows of numbers.")
        if not all(size % 2 and size <= _LARGEST for size in weights.shape):
            raise InputError(
                f"A neighbourhood has odd numbers of rows and columns of at most {_LARGEST}, not {weights.shape[0]} x "
                f"{weights.shape[1]}."
            )
        return cls(inputs, tuple(tuple(float(value) for value in row) for row in weights), factor)

    @override
    def compute(self, parts: Sequence[Value], context: Context) -> NDArray[np.float32]:
        values: NDArray[np.float32] = parts[0]
        rows, columns = len(self.weights) // 2, len(self.weights[0]) // 2
        missing = ~np.isfinite(values)
        wide = np.pad(np.where(missing, np.float32(0), values), ((0, 0), (rows, rows), (columns, columns)))
        found = np.zeros_like(values)
        height, width = values.shape[1:]
        for row, line in enumerate(self.weights):
            for column, weight in enumerate(line):
                if weight:
                    found += (
                        np.float32(weight * self.factor)
                        * wide[:, row : row + height, column : column + width]
                    )
        found[missing] = np.nan
        return found

    @override
    def words(self, parts: Sequence[str]) -> str:
        return f"weighted sum of {len(self.weights)} x {len(self.weights[0])} neighbours of {parts[0]}"

    @override
    def label(self, bands: str) -> str:
        return f"filtered {bands}"
